"""The report's section on sharding: every strategy that can be told, the others with their reason, and the units' bars."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.figures.overview import comparisons
from commprof.analysis.report.figures.units import unit_figure
from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.sections.build import build_report, results
from commprof.analysis.report.sections.headline import ranks_table
from commprof.analysis.report.sections.six_lines import six_lines
from commprof.analysis.report.sections.strategies import strategy_section
from commprof.analysis.report.sections.what_if import what_if_section
from commprof.analysis.strategies.results import UnitExchange
from commprof.cli import main
from commprof.commbench.records.rundir import write_document
from commprof.commbench.records.sharding import UNITS_FILE
from tests.factory import step, workload, write_training_run
from tests.unit.analysis.health.test_disturbance import add_surroundings, samples
from tests.unit.analysis.strategies.engine_steps import engine_timeline, write_engine_run
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    exchanged_s,
    on_shards_s,
    plain,
    sharding,
    write_benches,
    write_sharded_run,
)


def test_a_sharded_run_brings_its_strategies_and_its_units(tmp_path: Path) -> None:
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    section = strategy_section(gather(paths))
    assert section is not None
    assert section.sentences[0] == "4 ranks: zero2 is the fastest that can be told."
    assert [row[1] for row in section.tables[0].rows] == ["fsdp", "hsdp", "zero2"]
    assert [words.split(" cannot")[0] for words in section.remarks] == ["ddp on 4 ranks"]
    (picture,) = section.pictures
    assert picture.sources == ("one/units.json",)
    assert "ZERO2 on 4 ranks" in picture.title


def test_a_sharded_run_of_several_ranks_stands_beside_its_prediction(tmp_path: Path) -> None:
    one, benches = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)
    expected = on_shards_s(4) + exchanged_s((0, 1, 2, 2, 1))
    run = write_sharded_run(tmp_path / "run", sharding(num_shards=4), expected / 1.1, world_size=4)
    material = gather([one, benches, run])
    section, table = strategy_section(material), ranks_table(material)
    assert section is not None and table is not None
    assert [row[-1] for row in section.tables[0].rows] == ["+10.0%", "-", "-"], "the others were not run"
    assert table.rows[-1][-1] == section.tables[0].rows[0][3], "the predicted step is FSDP's in both"
    assert any("measured (+10.0%)" in words for words in section.sentences)


def test_hsdp_is_predicted_in_the_copies_that_were_run(tmp_path: Path) -> None:
    """In the section, on the page's what-if and in the next command: four copies are not two of two shards."""
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    paths.append(write_sharded_run(tmp_path / "run", replace(sharding(), num_replicas=4), 0.2, world_size=4))
    material = gather(paths)
    section, what_if = strategy_section(material), what_if_section(material, None)
    assert section is not None and what_if is not None and what_if.explorer is not None
    assert {row[1]: (row[2], row[-2]) for row in section.tables[0].rows}["hsdp"] == ("4 x 1", "200 ms")
    assert {own.strategy: own.measured_step_s for own in what_if.explorer.data.places[0].strategies}["hsdp"] == 0.2
    assert "--replicas 4" in six_lines(material, 0).next_command


def test_an_engines_run_checks_no_strategy_of_fully_shards(tmp_path: Path) -> None:
    """Both have a ZeRO-2, of schedules of their own."""
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    own = workload(kind="zero2")
    paths.append(write_training_run(tmp_path / "four", [step(i) for i in range(12)], world_size=4, workload=own, cores=64))
    write_document(paths[-1] / UNITS_FILE, engine_timeline(2))
    section = strategy_section(gather(paths))
    assert section is not None
    assert {row[1]: row[-2] for row in section.tables[0].rows}["zero2"] == "-"


def test_the_six_lines_speak_of_strategies_where_these_are_all_that_is_predicted(tmp_path: Path) -> None:
    """Alone they name the fastest; a run of several ranks says how many ranks to use, inside what was predicted of it."""
    one, benches = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)
    lines = six_lines(gather([one, benches]), 0)
    assert lines.verdict.startswith("4 ranks: zero2 is the fastest that can be told.")
    assert "communication that nothing hides is predicted to take, by strategy: fsdp " in lines.why
    assert lines.next_command.startswith("commprof predict ") and "--strategy ddp,fsdp,hsdp,zero2" in lines.next_command
    expected = on_shards_s(4) + exchanged_s((0, 1, 2, 2, 1))
    run = write_sharded_run(tmp_path / "run", sharding(num_shards=4), expected, world_size=4)
    measured = six_lines(gather([one, benches, run]), 0)
    assert "4 was measured, inside its interval." in measured.how_sure
    add_surroundings(one, samples(*[(0.5, 0.5)] * 5))
    assert "cannot be told: other processes disturbed" in six_lines(gather([one, benches]), 0).verdict


def test_why_and_change_are_of_the_ranks_that_the_verdict_names(tmp_path: Path) -> None:
    """Two ranks took as long as one; four took five times as long."""
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)]
    paths += [write_benches(tmp_path / f"b{n}", n) for n in (2, 4)]
    paths.append(write_sharded_run(tmp_path / "run2", sharding(num_shards=2), BY_ITSELF_S, world_size=2))
    paths.append(write_sharded_run(tmp_path / "run4", sharding(num_shards=4), 5 * BY_ITSELF_S, world_size=4))
    lines = six_lines(gather(paths), 0)
    assert lines.verdict.startswith("Use 2 ranks.")
    assert lines.why.startswith("on 2 ranks") and lines.change.startswith("2 ranks: ")


def test_what_is_sure_of_strategies_is_what_runs_have_checked(tmp_path: Path) -> None:
    """Without one rank's step no speedup is known, but FSDP's step on 4 was predicted from ranks side by side, and ran."""
    shape = {"world_size": 4, "synchronised": False, "starts_together": True}
    beside = write_sharded_run(tmp_path / "beside", sharding(num_shards=4, waits=True), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
    paths = [beside, write_benches(tmp_path / "b4", 4)]
    lines = six_lines(gather(paths), 0)
    assert lines.how_sure == "Each step's 90 % interval stands in the report. No run has checked a strategy yet."
    assert f"commprof predict {beside} {paths[1]} --strategy" in lines.next_command, "what the prediction rests on"
    expected = BY_ITSELF_S + exchanged_s((0, 1, 2, 2, 1))
    paths.append(write_sharded_run(tmp_path / "run", sharding(num_shards=4), expected, world_size=4))
    lines = six_lines(gather(paths), 0)
    assert "How many ranks to use cannot be told without a run on one rank." in lines.verdict
    assert "fsdp on 4 ranks was measured, inside its interval." in lines.how_sure
    assert str(paths[2]) not in lines.next_command


def test_the_page_says_what_was_measured_and_predicted(tmp_path: Path) -> None:
    """Ranks that sent nothing are no step of the training, and a sharded step sends in its forward pass too."""
    shape = {"world_size": 4, "synchronised": False, "starts_together": True}
    beside = write_sharded_run(tmp_path / "beside", sharding(num_shards=4, waits=True), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
    report = build_report(gather([beside, write_benches(tmp_path / "b4", 4)]), tmp_path / "report.html")
    assert report.answer == "Strategies predicted"
    assert report.headline is not None and report.headline.meaning == "per step on 4 ranks that sent nothing, measured"
    (step_section,) = [section for section in report.sections if section.name == "step"]
    assert "What the step of a synchronised run takes beyond that" in step_section.sentences[1]


def test_what_weakens_a_strategys_prediction_is_a_warning(tmp_path: Path) -> None:
    """Written after its run began, as here where nothing was kept; and of a wire that was benched on two ranks alone."""
    paths = [write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)]
    run = write_sharded_run(tmp_path / "run", sharding(num_shards=4), 0.2, world_size=4)
    material = gather([*paths, run])
    (carried, late) = warnings(material)
    assert carried.startswith("What is predicted of hsdp on 4 ranks is extrapolated"), "among two shards"
    assert late.startswith("What is predicted of fsdp on 4 ranks was written at ") and late.endswith("it did not foresee.")
    assert [own.world_size for own in results(material, "x").strategies] == [4]


def test_the_next_command_is_one_that_tells_more(tmp_path: Path) -> None:
    """What of memory was not measured says of no strategy that it fits; what was benched is not benched again."""
    one, benches = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)
    lines = six_lines(gather([one, benches]), 0)
    assert "--memory" not in lines.next_command
    whole = write_sharded_run(tmp_path / "whole", sharding(peak_bytes=1), BY_ITSELF_S)
    assert "--memory 24G: which of them fit" in six_lines(gather([whole, benches]), 0).next_command
    gathers = write_benches(tmp_path / "gathers", 4, ["all_gather"])
    lines = six_lines(gather([one, gathers]), 0)
    assert "no float32 reduce_scatter was benched" in lines.verdict
    assert lines.next_command.startswith("commprof bench reduce_scatter --nproc 4: ")
    add_surroundings(one, samples(*[(0.5, 0.5)] * 5))
    assert six_lines(gather([one, benches]), 0).next_command.endswith(": the same on a quiet machine")


def test_an_engines_runs_are_told_by_its_own_stage(tmp_path: Path) -> None:
    """There is a run on one rank and a bench: what is missing is neither."""
    one, benches = write_engine_run(tmp_path / "one", engine_timeline(2)), write_benches(tmp_path / "b4", 4)
    lines = six_lines(gather([one, benches]), 0)
    assert "it takes a finished training run" not in lines.verdict
    assert "is DeepSpeed ZeRO-2, whose step" in lines.verdict
    assert lines.next_command.startswith(f"commprof predict {one} {benches} --strategy zero2: ")
    assert six_lines(gather([one]), 0).next_command.startswith(
        "commprof bench all_gather --nproc 2 and commprof bench all_reduce --nproc 2: "
    )


def test_a_strategy_that_was_predicted_and_run_is_not_called_unpredicted_for_ddps_schedule(tmp_path: Path) -> None:
    """A plain profile brings DDP's step, which the sharded runs beside it do not follow."""
    one, benches = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S), write_benches(tmp_path / "b4", 4)
    shape = {"world_size": 4, "synchronised": False, "starts_together": True}
    beside = write_sharded_run(tmp_path / "beside", sharding(num_shards=4, waits=True), BY_ITSELF_S, **shape)  # type: ignore[arg-type]
    expected = BY_ITSELF_S + exchanged_s((0, 1, 2, 2, 1))
    run = write_sharded_run(tmp_path / "run", sharding(num_shards=4), expected, world_size=4)
    lines = six_lines(gather([plain(tmp_path / "plain"), one, benches, beside, run]), 0)
    assert "No prediction" not in lines.verdict
    assert lines.verdict.startswith("Use 4 ranks."), lines.verdict


def test_what_was_predicted_of_ddp_is_not_held_against_a_sharded_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plain step was predicted on 4 ranks, and a sharded one run there: it checks FSDP's prediction alone."""
    paths = [plain(tmp_path / "plain"), write_benches(tmp_path / "b4", 4)]
    assert main(["predict", *map(str, paths)]) == 0
    one = write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)
    run = write_sharded_run(tmp_path / "run", sharding(num_shards=4), 2 * BY_ITSELF_S, world_size=4)
    material = gather([*paths, one, run])
    assert material.predicted is not None and material.outcomes == ()
    lines = six_lines(material, 0)
    assert "4: yes, 4.00x predicted" in lines.verdict and "No run has checked 4 yet." in lines.how_sure
    table = ranks_table(material)
    assert table is not None and table.rows[-1][4] == "-", "its step is not DDP's"
    assert "on 4 ranks, +0%" in lines.cost
    (compared,) = comparisons("small", material)
    assert compared.measured_step_s is None


def test_one_rank_sharded_and_one_that_is_not_are_no_repeats(tmp_path: Path) -> None:
    """149 and 103 ms a step, and neither was disturbed; two sharded ones of 149 and 298 ms disagree."""
    paths = [plain(tmp_path / "plain"), write_sharded_run(tmp_path / "one", sharding(), BY_ITSELF_S)]
    paths.append(write_benches(tmp_path / "b4", 4))
    assert not any("not comparable" in warning for warning in warnings(gather(paths)))
    paths.append(write_sharded_run(tmp_path / "again", sharding(), 2 * BY_ITSELF_S))
    assert any("not comparable" in warning for warning in warnings(gather(paths)))


@pytest.mark.parametrize("first", ["a", "z"])
def test_speedup_and_cost_are_over_one_rank_that_is_not_sharded(tmp_path: Path, first: str) -> None:
    """103 ms as it is, 149 sharded over itself, whichever of the two has the name that comes first; four ranks take 206."""
    paths = [plain(tmp_path / first), write_sharded_run(tmp_path / "m", sharding(), BY_ITSELF_S)]
    paths.append(write_benches(tmp_path / "b4", 4))
    paths.append(write_sharded_run(tmp_path / "run", sharding(num_shards=4), 0.206, world_size=4))
    lines = six_lines(gather(paths), 0)
    assert lines.verdict.startswith("Use 4 ranks. 4: yes, 2.00x")
    assert "on 4 ranks, +100%" in lines.cost


def test_without_a_sharded_run_nothing_is_said_of_sharding(tmp_path: Path) -> None:
    assert strategy_section(gather([write_benches(tmp_path / "b4", 4)])) is None


def test_each_collective_is_a_bar_in_its_units_row() -> None:
    def exchange(what: str, unit: str, start_s: float, done_s: float) -> UnitExchange:
        return UnitExchange(what=what, unit=unit, direction="forward", num_bytes=1, start_s=start_s, done_s=done_s)  # type: ignore[arg-type]

    figure = unit_figure([exchange("gather", "a", 1, 3), exchange("gather", "b", 4, 5), exchange("reduce", "b", 6, 9)], 10.0)
    (axes,) = figure.axes
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in axes.patches]
    assert bars == [(1, 2, 0), (4, 1, 1), (6, 3, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
