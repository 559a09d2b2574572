"""`import commprof as cp`: tables hold the records that were written, answers are those of the verbs, nothing is written."""

import copy
import json
import pickle
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import commprof as cp
from commprof.analysis.runs.load import load_run
from commprof.api.answer import Answer
from commprof.cli import main
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.records.rundir import RecordWriter, create_run
from commprof.commbench.records.types import RankInfo, Remeasured
from tests.factory import collective, run_info, write_measurements
from tests.report_runs import HOSTILE, add_bench, add_study, add_train

DAYS = {"monday": 0.1, "tuesday": 0.2}
TIME_OR_SIZE = ("_s", "bytes")  # how the name of a measured column ends


def document(capsys: pytest.CaptureFixture[str], *words: object) -> Any:  # noqa: ANN401
    assert main([*map(str, words), "--json"]) in (0, 3)
    return json.loads(capsys.readouterr().out)


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_runs_are_found_by_folder_glob_and_list(study: Path) -> None:
    names = [run.path.name for run in cp.load(study)]
    assert len(names) == 7
    assert sorted(run.path.name for run in cp.load(f"{study}/*")) == sorted(names)
    assert [run.path.name for run in cp.load([study / "train-n2", str(study / "bench-n*")])] == [
        "train-n2",
        "bench-n2",
        "bench-n4",
    ]
    assert [run.path.name for run in cp.load(study)[1:3]] == names[1:3]


@pytest.mark.parametrize(("name", "words"), [("none-*", "matches no run folder"), ("nowhere", "nowhere is not a run folder")])
def test_what_holds_no_run_is_named(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(cp.BadInput, match=words):
        cp.load(tmp_path / name)


def test_tables_hold_the_records_with_their_units(study: Path) -> None:
    runs = cp.load(study)
    steps = runs.steps
    assert len(steps) == sum(len(own) for run in runs for own in run.steps.values())
    counted = steps[steps.counts].groupby("run_id").step_s.median()
    assert counted["train-n4"] == load_run(study / "train-n4").median_step_s() == 0.125
    curve = runs.collectives
    assert np.allclose(curve.busbw_bytes_per_s, curve.algbw_bytes_per_s * 2 * (curve.world_size - 1) / curve.world_size)
    assert set(runs.buckets[runs.buckets.run_id == "train-n2"].num_bytes) == {2**20, 2_951_424}
    assert list(runs.parameters[runs.parameters.run_id == "profile-n1"].name) == ["head.weight", "embedding.weight"]
    assert list(runs.info.world_size) == [run.world_size for run in runs]
    assert runs.info.num_parameters.dtype == "Int64"  # benches have none, and the others' stay whole numbers


def test_pairs_of_hosts_are_rows_with_the_hosts_names(tmp_path: Path) -> None:
    ranks = tuple(RankInfo(rank=r, local_rank=0, hostname=f"host{r}", device_name="cpu") for r in range(2))
    create_run(tmp_path / "r", run_info("links", world_size=2, run_id="r", num_nodes=2, ranks=ranks))
    with RecordWriter(tmp_path / "r" / "pairs.jsonl") as writer:
        for number in (0, 1):
            pair = PairMeasurement(
                round=number, sender=1, receiver=0, message_bytes=10**6, samples_s=(1e-3, 2e-3, 1e-3), timer="fake"
            )
            writer.append(pair)
    runs = cp.load(tmp_path / "r")
    assert runs.pairs[["round", "sender_host", "receiver_host", "median_s", "bandwidth_bytes_per_s"]].to_numpy().tolist() == [
        [number, "host1", "host0", 1e-3, 1e9] for number in (0, 1)
    ]
    assert list(runs.samples("pairs").samples_s) == [1e-3, 2e-3, 1e-3] * 2


@pytest.mark.parametrize("name", ["steps", "collectives", "links", "pairs", "contention", "buckets", "parameters", "info"])
def test_a_table_without_rows_has_its_columns(study: Path, name: str) -> None:
    whole, none = getattr(cp.load(study), name), getattr(cp.Runs(()), name)
    assert list(none.columns) == list(whole.columns)
    assert len(none) == 0
    numbers = [column for column in whole.select_dtypes("float") if not whole[column].isna().all()]
    unitless = {"loss", "compute_slowdown", "comm_slowdown"}
    assert [column for column in numbers if not column.endswith((*TIME_OR_SIZE, "_per_s")) and column not in unitless] == []


@pytest.mark.parametrize("name", ["steps", "collectives", "contention", "buckets", "parameters", "info"])
def test_what_a_column_holds_does_not_depend_on_the_rows(study: Path, name: str) -> None:
    whole, none = getattr(cp.load(study), name), getattr(cp.Runs(()), name)
    assert {column: str(dtype).lower() for column, dtype in none.dtypes.items()} == {
        column: str(dtype).lower().replace("boolean", "bool") for column, dtype in whole.dtypes.items()
    }
    both = pd.concat([none, whole])
    assert both.dtypes.to_dict() == whole.dtypes.to_dict()


def test_a_table_without_rows_groups_and_merges(study: Path) -> None:
    bench = cp.load(study / "bench-n2")
    assert len(bench.steps[bench.steps.counts].groupby(["run_id", "rank"]).step_s.median()) == 0
    assert len(bench.steps.merge(bench.info, on="path")) == 0
    told = cp.predict([study / "profile-n1", study / "bench-n2"]).to_frame()
    assert told.measured_step_s.dtype == told.relative_error.dtype == float


def test_runs_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    runs = cp.load([add_train(tmp_path / day / "train-n1", 1, step_s, run_id="train-n1") for day, step_s in DAYS.items()])
    medians = runs.steps[runs.steps.counts].groupby("path").step_s.median()
    assert medians.to_dict() == {str(tmp_path / day / "train-n1"): step_s for day, step_s in DAYS.items()}


def test_records_within_a_cell_are_plain_values(tmp_path: Path) -> None:
    again = Remeasured(iteration=1, slowest_rank_s=0.5, fastest_rank_s=0.25)
    bench = write_measurements(tmp_path / "bench", [replace(collective(1024, [0.1, 0.2]), remeasured=(again,))])
    assert cp.load(bench).collectives.remeasured[0] == [{"iteration": 1, "slowest_rank_s": 0.5, "fastest_rank_s": 0.25}]


def test_lists_of_samples_explode_on_demand(study: Path) -> None:
    runs = cp.load(study / "bench-n2")
    long = runs.samples("collectives")
    assert len(long) == 4 * 5
    one = long[long.message_bytes == 2**20]
    assert list(one["sample"]) == [0, 1, 2, 3, 4]
    assert list(one.fastest_rank_s) == list(runs[0].collectives[2].fastest_rank_s)
    assert len(cp.load(study / "train-n2").samples("links")) == 0


def test_predictions_are_those_of_the_verb(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = add_study(tmp_path / "copy")
    answer = cp.predict(study, n=[2, 4])
    said = document(capsys, "predict", copied, "-n", 2, 4)
    table = answer.to_frame()
    assert list(table.step_s) == [p["step_s"] for p in said["predictions"]]
    assert [change.seconds_saved for change in answer.changes] == [change["seconds_saved"] for change in said["changes"]]
    schedule = table[table.model == "schedule"].set_index("world_size")
    assert (schedule.step_low_s <= schedule.step_s).all()
    assert (schedule.step_s <= schedule.step_high_s).all()
    assert schedule.measured_step_s[4] == 0.125
    assert schedule.relative_error[4] == pytest.approx(answer[4].step_s / 0.125 - 1)
    with pytest.raises(cp.UnusableData, match=r"n=\[8\]"):
        answer[8]


def test_fits_are_those_of_the_verb(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = cp.fit(study, n=8)
    said = document(capsys, "fit", add_study(tmp_path / "copy"), "-n", 8)
    table = answer.to_frame()
    assert list(table.bandwidth_bytes_per_s) == [cost["bandwidth_bytes_per_s"] for cost in said]
    assert list(table.world_size) == [2, 4, 8]
    curve = answer.curves()
    assert answer.time_s(2**20, 4) == pytest.approx(
        curve[(curve.world_size == 4) & (curve.message_bytes == 2**20)].time_s.item()
    )
    with pytest.raises(cp.UnusableData, match="no broadcast of float32 on 2 ranks"):
        answer.time_s(1, 2, op="broadcast")


def test_advice_and_verdicts_are_those_of_the_verbs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    advice = cp.advise(
        study, n=[2], budget=cp.Budget(price_per_gpu_hour=2.0, samples_per_epoch=None, epochs=1, deadline_s=None)
    )
    said = document(capsys, "advise", study, "-n", 2, "--price", 2)
    assert list(advice.to_frame().saved_s) == [
        row["seconds_saved"] for key in ("changes", "what_ifs") for row in said["ranks"][0][key]
    ]
    assert advice.advice.costs is not None
    benches = [study / "bench-n2", study / "bench-n4"]
    checked = cp.check(benches, demands=cp.Demands(min_busbw_bytes_per_s=1e12))
    verdicts = document(capsys, "check", *benches, "--min-busbw", 1000)
    assert list(checked.to_frame().message) == [verdict["message"] for verdict in verdicts]
    assert not checked.ok
    assert cp.check(benches).ok


def test_the_headline_of_disturbed_runs_advises_nothing(study: Path) -> None:
    advice = cp.advise(study)
    assert "; on 2: " in advice.headline()
    headline = replace(advice, disturbed="another program ran").headline()
    assert headline == "How many ranks to use cannot be told: other processes disturbed these runs"


def test_traces_add_up_step_by_step(traces: Path) -> None:
    answer = cp.trace(traces)
    table = answer.to_frame().set_index("rank")
    parts = [column for column in table if column not in ("step", "wall_s")]
    assert table[parts].sum(axis=1).to_list() == pytest.approx(table.wall_s.to_list())
    assert table.waiting_exposed_s[0] == pytest.approx(15e-6)
    assert table.compute_s.to_list() == pytest.approx([50e-6, 50e-6])
    collectives = answer.collectives()
    assert list(collectives.message_bytes) == [4_000_000, 4_000_000]
    assert len(cp.trace(sorted(traces.glob("*.json"))).to_frame()) == 2


def test_a_table_of_throughputs_may_be_a_frame_or_a_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"series": "a", "n_gpus": [1, 2, 4], "throughput": [100.0, 190.0, 360.0], "interconnect": "nvlink"})
    table.to_csv(tmp_path / "table.csv", index=False)
    frames = [cp.extrapolate(own, n=[8]).to_frame() for own in (table, tmp_path / "table.csv")]
    assert frames[0].value.item() == frames[1].value.item()
    assert 360 < frames[0].low.item() <= frames[0].value.item() <= frames[0].high.item() < 800
    with pytest.raises(cp.BadInput, match="the table, line 2: throughput"):
        cp.extrapolate(table.assign(throughput=-1.0), n=8)


def answers(study: Path, traces: Path) -> list[Answer]:
    table = pd.DataFrame({"n": [1, 2], "step_s": [1.0, 1.1]})
    runs = cp.load(study)
    return [cp.fit(runs), cp.predict(runs), cp.advise(runs), cp.check(runs), cp.trace(traces), cp.extrapolate(table, n=[4])]


def test_every_answer_is_a_table_a_figure_a_page_and_text_and_writes_nothing(study: Path, traces: Path) -> None:
    before = files_below(study.parent), files_below(traces)
    for answer in answers(study, traces):
        assert len(answer.to_frame()) > 0
        figure = answer.plot()
        assert isinstance(figure, Figure)
        assert figure.axes[0].get_xlabel()
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
        page = answer._repr_html_()
        assert page.startswith("<p>")
        assert "<table" in page
        assert len(str(answer).splitlines()) > 1
    assert (files_below(study.parent), files_below(traces)) == before


def test_an_answer_shows_itself_in_a_line_and_a_row_in_a_line(study: Path, traces: Path) -> None:
    for answer in answers(study, traces):
        assert len(repr(answer).splitlines()) == 1
        assert len(repr(answer)) < 500
        assert repr(answer) == f"<{type(answer).__name__}: {answer.headline()}>"
        table, words = answer._repr_html_().split("<details>")
        assert "<td>[" not in table
        assert escape(str(answer).splitlines()[-1]) in words
    assert "None" not in cp.load(study)._repr_html_()
    assert repr(cp.predict(study, n=range(2, 40))).count("x on") == 8
    decided = re.compile(r"<\w+: (Use \d+ ranks|Stay with one rank|How many ranks to use cannot be told)")
    deciding = (cp.predict(study), cp.advise(study), cp.extrapolate(pd.DataFrame({"n": [1, 2], "step_s": [1.0, 1.1]}), n=[4]))
    assert [answer for answer in deciding if not decided.match(repr(answer))] == []
    table = pd.DataFrame([{"series": f"s{own}", "n": n, "step_s": n**0.1} for own in range(100) for n in (1, 2)])
    many = cp.extrapolate(table, n=[4])
    assert len(many._repr_html_()) < len(str(many)) < 100_000


def test_an_answer_is_itself_and_no_list(study: Path, traces: Path) -> None:
    answer = cp.trace(traces)
    assert {answer: 1}[answer] == 1
    assert answer != cp.trace(traces)
    assert str(pickle.loads(pickle.dumps(answer))) == str(copy.deepcopy(answer)) == str(answer)
    with pytest.raises(TypeError):
        list(cp.predict(study))  # type: ignore[call-overload]


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    name = HOSTILE + "\x1b[31m\u202e"
    runs = [add_train(tmp_path / "one", 1, 0.1, run_id=name), add_bench(tmp_path / "two", 2, run_id=name)]
    for shown in (cp.load(runs)._repr_html_(), cp.fit(runs[1])._repr_html_(), cp.predict(runs)._repr_html_()):
        assert not any(what in shown for what in ("<script", "\x1b", "\u202e"))
