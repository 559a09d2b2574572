"""A study whose truth is known: one bucket, ready when backward ends, so a step is computation plus bytes over the wire."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.report.study.pages import has_grid, write_study_report
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.experiment import cells_of, crossing
from commprof.analysis.study.predictions import read_boundaries, write_boundaries, write_predictions
from commprof.analysis.wire.ceiling import line_rate
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run, read_document
from tests.factory import run_info, step, timeline, workload, write_bench_run, write_training_run
from tests.finished_study import finished_study

pytestmark = pytest.mark.usefixtures("undrawn")

GRADIENT_BYTES = 4_000_000
COMPUTE_S = 0.103  # factory.step
LIMIT_BITS_PER_S = 8 * GRADIENT_BYTES / COMPUTE_S  # two ranks pay while the wire takes less than one rank's step: 311 mbit
WIRES = {"100mbit": 1e8, "1gbit": 1e9}


def training(path: Path, step_s: float, **changes: object) -> Path:
    experiment = str(changes.pop("experiment", "small"))
    work = workload(synchronised=bool(changes.pop("synchronised", True)), experiment=experiment)
    gradients = timeline([("embedding", GRADIENT_BYTES, 0.06)], 0.06)
    steps = [step(index, step_s=step_s) for index in range(6)]
    return write_training_run(path, steps, gradients=gradients, workload=work, **changes)  # type: ignore[arg-type]


def calibrate(root: Path, experiment: str = "small") -> Path:
    """Write everything that is measured before the predictions of one model on two wires."""
    if not (root / "run.json").exists():
        create_run(root, run_info("study"))
        for wire, bits_per_s in WIRES.items():
            write_bench_run(root / f"bench-n2-{wire}", 0.0, bits_per_s / 8, wire=wire)
    training(root / f"{experiment}-profile-n1", COMPUTE_S, experiment=experiment)
    compute(root, "100mbit", experiment)
    return root


def compute(root: Path, wire: str, experiment: str = "small") -> None:
    path = root / f"{experiment}-compute-n2-{wire}"
    training(path, COMPUTE_S, world_size=2, synchronised=False, wire=wire, experiment=experiment)


def predict_all(root: Path, experiment: str = "small") -> dict[str, str]:
    """Do what a study does before its first check and before each cell's."""
    write_boundaries(root, experiment)
    failures = write_predictions(root, experiment, "100mbit", grid=True)
    compute(root, "1gbit", experiment)
    return failures | write_predictions(root, experiment, "1gbit", grid=True)


def check(root: Path, wire: str, share: float, **changes: object) -> None:
    """Write a synchronised run whose wire gave only a share of its rate."""
    step_s = COMPUTE_S + 8 * GRADIENT_BYTES / (share * WIRES[wire])
    training(root / f"small-train-n2-{wire}{changes.pop('suffix', '')}", step_s, world_size=2, wire=wire, **changes)


def test_the_boundary_is_predicted_before_the_runs_and_found_again_in_them(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    write_boundaries(root, "small")
    (boundary,) = read_boundaries(root)
    assert (boundary.experiment, boundary.world_size, boundary.ratio_needed) == ("small", 2, pytest.approx(2.0))
    assert boundary.by_ratio.bits_per_s == pytest.approx(LIMIT_BITS_PER_S, rel=1e-3)
    assert boundary.by_schedule.bits_per_s == pytest.approx(LIMIT_BITS_PER_S, rel=1e-3)
    assert boundary.by_ratio.inside and boundary.by_schedule.inside
    assert not list((root / "analysis").glob("*/predictions.json")), "the boundary comes before all else"

    assert predict_all(root) == {}
    for wire in WIRES:
        check(root, wire, 0.9)
    check(root, "1gbit", 0.9, suffix="-r2")
    sentences, page = write_study_report(root)
    where, hindrance, how_sure, cost, cure, following = sentences
    assert where == (
        "Verdict: Several ranks begin to pay from 345mbit on (small on 2 ranks); predicted before the runs within 10%, by R "
        "alone within 10%."
    )
    assert hindrance.startswith(
        "Why: Slowest against one rank, at 0.45x, is small on 2 ranks at 100mbit. What holds 2 ranks back is"
    )
    assert cure.startswith("Change: Try first: ")
    assert how_sure.startswith("How sure: Steps were predicted") and cost.startswith("Cost: stands on each cell's page")
    assert following.startswith("Next: commprof plots")
    html = page.read_text()
    assert "small-100mbit/report.html" in html and (root / "analysis" / "small-100mbit" / "report.html").exists()
    assert "The hosts are emulated on one machine." in html
    assert "every prediction was written before its run" not in html, "these runs are dated years before"
    assert "3 of them began before their prediction" in html
    assert "analysis/small-1gbit/predictions.json" in (root / "analysis" / "small-1gbit" / "report.html").read_text()
    assert "2 of 3" in html and "Measured: 0.45x to 1.49x." in html
    (root / "analysis" / "boundaries.json").unlink()
    assert write_study_report(root)[0] == [
        "Verdict: Several ranks pay in 2 of 3 runs: not of small on 2 ranks at 100mbit. "
        "Speedups lie between 0.45x (small on 2 ranks at 100mbit) and 1.49x (small on 2 ranks at 1gbit).",
        hindrance,
        how_sure,
        cost,
        cure,
        following,
    ]


def test_all_runs_of_a_study_tell_how_much_the_machine_drifts(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    steps = [step(i, step_s=COMPUTE_S * (1 + 0.1 * (i // 4 % 2))) for i in range(16)]
    write_training_run(root / "other-profile-n1", steps, workload=workload(experiment="other"))
    assert predict_all(root) == {}
    notes = read_document(root / "analysis" / "small-100mbit" / "predictions.json", PredictionSet).predictions[0].assumptions
    assert "the machine's pace drifts by 6% within these runs, and intervals are wider for it" in notes


def test_study_csv_is_tidy(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    check(root, "1gbit", 0.8)
    check(root, "1gbit", 1.0, suffix="-r2")
    write_study_report(root)
    with (root / "analysis" / "study.csv").open() as file:
        alone, first, second = csv.DictReader(file)
    assert (alone["world_size"], alone["wire"], alone["speedup"], alone["predicted_step_s"]) == ("1", "", "1.0", "")
    assert (first["wire"], first["repeat"], second["repeat"]) == ("1gbit", "1", "2")
    wire_s = 8 * GRADIENT_BYTES / 1e9
    assert float(first["overhead_s"]) == pytest.approx(wire_s / 0.8)
    assert float(first["error_overhead_schedule"]) == pytest.approx(-0.2, abs=1e-3)
    assert float(first["error_schedule"]) == pytest.approx((COMPUTE_S + wire_s) / (COMPUTE_S + wire_s / 0.8) - 1, abs=1e-3)
    assert float(first["error_linear"]) == pytest.approx(COMPUTE_S / (COMPUTE_S + wire_s / 0.8) - 1)
    assert float(second["error_schedule"]) == pytest.approx(0, abs=1e-3)
    assert float(second["R"]) == pytest.approx(2 * COMPUTE_S / wire_s, rel=1e-3)
    assert float(second["speedup"]) == pytest.approx(2 * float(second["efficiency"]))


def test_a_run_that_cannot_be_compared_has_no_speedup(tmp_path: Path) -> None:
    """Its step takes half of what one rank computes."""
    root = calibrate(tmp_path / "study")
    predict_all(root)
    check(root, "1gbit", 0.8)
    training(root / "small-train-n2-100mbit", COMPUTE_S / 2, world_size=2, wire="100mbit")
    _, page = write_study_report(root)
    assert "small-100mbit on 2 ranks: these runs are not comparable" in page.read_text()
    assert "small-1gbit on 2 ranks: these" not in page.read_text()
    with (root / "analysis" / "study.csv").open() as file:
        _, slow, fast = csv.DictReader(file)
    assert (slow["speedup"], slow["efficiency"], slow["overhead_s"]) == ("", "", "")
    assert 1 < float(fast["speedup"]) < 2


def test_a_page_without_one_comparable_run_says_so_first(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    for wire in WIRES:
        training(root / f"small-train-n2-{wire}", COMPUTE_S / 2, world_size=2, wire=wire)
    sentences, page = write_study_report(root)
    assert sentences[0] == "Verdict: None of 2 runs on several ranks can be compared with one rank; why is said below."
    assert "faster than one rank" not in page.read_text().split("<section")[0]


def test_a_prediction_on_disk_is_never_replaced_and_failed_runs_belong_to_no_cell(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    path = root / "analysis" / "small-1gbit" / "predictions.json"
    before, boundaries = path.read_bytes(), (root / "analysis" / "boundaries.json").read_bytes()
    check(root, "1gbit", 1.0, status="failed")
    write_boundaries(root, "small")
    write_predictions(root, "small", "1gbit", grid=True)
    assert path.read_bytes() == before and (root / "analysis" / "boundaries.json").read_bytes() == boundaries
    assert all(run.info.status == "completed" for cell in cells_of(load_runs([root])) for run in cell.runs)


def test_a_second_model_joins_the_first_and_a_cell_that_cannot_be_predicted_is_named(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    calibrate(root, "wide")
    assert predict_all(root, "wide") == {}
    assert [boundary.experiment for boundary in read_boundaries(root)] == ["small", "wide"]
    for wire in WIRES:
        (root / f"bench-n2-{wire}" / "collectives.jsonl").unlink()
    calibrate(root, "bare")
    failures = predict_all(root, "bare")
    assert set(failures) == {"prediction of bare-100mbit", "prediction of bare-1gbit"}
    assert "no bench run" in failures["prediction of bare-1gbit"]


def test_a_study_of_one_cell_keeps_its_files_in_analysis_itself(tmp_path: Path) -> None:
    root = tmp_path / "study"
    create_run(root, run_info("study"))
    write_bench_run(root / "bench-n2", 0.0, 1e8)
    training(root / "small-profile-n1", COMPUTE_S)
    training(root / "small-compute-n2", COMPUTE_S, world_size=2, synchronised=False)
    write_predictions(root, "small", None, grid=False)
    assert (root / "analysis" / "predictions.json").exists() and not read_boundaries(root)
    training(root / "small-train-n2", 0.15, world_size=2)
    sentences, page = write_study_report(root)
    assert page == root / "analysis" / "report.html" and sentences[0].startswith("Verdict: Use 2 ranks. 2: yes, ")
    assert not has_grid(root)


def test_a_stage_that_failed_is_named_on_the_page_with_the_reason(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    check(root, "1gbit", 1.0)
    for number, reason in ((2, "rank 2 was <killed>"), (10, "no space left")):
        path = root / "incomplete" / f"small-train-n2-100mbit-{number}"
        create_run(path, run_info("train", status="failed", failure=reason))
    create_run(root / "incomplete" / "small-train-n2-1gbit-1", run_info("train", status="failed", failure="mended since"))
    _, page = write_study_report(root)
    assert "small-train-n2-100mbit has no result: no space left" in page.read_text()
    assert "mended since" not in page.read_text()


def test_the_page_of_one_cell_names_a_stage_that_ended_before_it_had_a_run(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "study")
    (root / "incomplete" / "small-train-n4-1").mkdir(parents=True)
    (root / "incomplete" / "small-train-n4-1" / "why.txt").write_text("no <port> is free\n")
    _, page = write_study_report(root)
    assert "small-train-n4 has no result: no &lt;port&gt; is free." in page.read_text()


def test_a_study_without_a_finished_run_has_nothing_to_report(tmp_path: Path) -> None:
    create_run(tmp_path / "study", run_info("study"))
    with pytest.raises(BadInput, match="no finished training run"):
        write_study_report(tmp_path / "study")


def test_hostile_names_reach_neither_page_nor_spreadsheet(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    hostile = "=<script>alert(1)</script>"
    check(root, "1gbit", 1.0, run_id=hostile)
    _, page = write_study_report(root)
    assert "<script>alert" not in page.read_text()
    assert f"'{hostile}" in (root / "analysis" / "study.csv").read_text()
    assert read_document(root / "run.json", dict)["kind"] == "study"


@given(
    coefficient=st.floats(1e6, 1e10),
    limit_s=st.floats(1e-3, 10),
    rates=st.lists(st.integers(10, 100_000), min_size=2, max_size=6, unique=True),
)
def test_a_time_of_bytes_over_rate_crosses_exactly(coefficient: float, limit_s: float, rates: list[int]) -> None:
    found = crossing([(rate * 1e6, coefficient / (rate * 1e6)) for rate in rates], limit_s)
    assert found.bits_per_s is not None
    if all(coefficient / (rate * 1e6) > 1e-6 for rate in rates):
        assert found.bits_per_s == pytest.approx(coefficient / limit_s, rel=1e-6)
        assert found.inside == (min(rates) * 1e6 < coefficient / limit_s <= max(rates) * 1e6)


def test_where_computation_alone_takes_too_long_no_wire_helps() -> None:
    found = crossing([(1e8, 0.1), (1e9, 0.01)], -0.05)
    assert found.bits_per_s is None and not found.inside


@pytest.mark.parametrize(
    ("wire", "rate"),
    [
        ("200mbit", 2e8),
        ("1gbit+500us", 1e9),
        ("1gbit+inside10gbit", 1e9),
        ("1gbit,2gbit", None),
        ("1gbit+spine2gbit", None),
        ("ethernet", None),
        (None, None),
    ],
)
def test_a_wires_rate_is_in_its_name(wire: str | None, rate: float | None) -> None:
    assert line_rate(wire) == rate


def test_a_grid_goes_where_it_is_told_and_leaves_the_study_as_it_is(tmp_path: Path) -> None:
    root = calibrate(tmp_path / "study")
    predict_all(root)
    for wire in WIRES:
        check(root, wire, 0.9)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    out = tmp_path / "elsewhere" / "grid.html"
    _, page = write_study_report(root, out)
    assert page == out and 'href="grid-cells/small-100mbit/report.html"' in out.read_text()
    assert "small" in (tmp_path / "elsewhere/grid-cells/small-100mbit/report.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
