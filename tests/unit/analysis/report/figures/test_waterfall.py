"""What makes a step longer than N times the speed, loss by loss; and what each mark of a figure says."""

from pathlib import Path

import pytest

from commprof.analysis.report.figures.canvas import styled
from commprof.analysis.report.figures.waterfall import waterfall_figure
from commprof.analysis.report.numbers.data import gather
from commprof.analysis.report.numbers.titles import answer_of, title_of
from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.report.numbers.waterfall import waterfall
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.page.html import inline_svg
from commprof.analysis.report.page.marks import marks_of
from commprof.analysis.runs.interval import Interval
from commprof.analysis.step.results import Overhead
from commprof.commbench.records.types import RankInfo
from tests.report_runs import add_bench, add_study, add_train, predictions

FOUR = Overhead(
    world_size=4,
    single_step_s=0.100,
    compute_s=0.004,
    waiting_s=0.0001,
    exposed_s=0.016,
    exposed_interval_s=Interval(low=0.012, high=0.021),
)


def outcome(step_s: float) -> Outcome:
    prediction = next(p for p in predictions(4).predictions if p.model == "schedule")
    return Outcome(prediction=prediction, measured_step_s=step_s, measured_speedup=0.4 / step_s, run_id="")


def test_losses_lead_from_linear_to_the_measured_step() -> None:
    own = waterfall(FOUR, outcome(0.125))
    assert [(loss.name, pytest.approx(loss.seconds)) for loss in own.losses] == [
        ("slower computation", 0.004),
        ("exposed communication", 0.016),
        ("not in the prediction", 0.0049),
    ], "a tenth of a millisecond of waiting is not worth a row"
    assert own.step_s == pytest.approx(0.125)
    assert own.speedup == pytest.approx(3.2)
    assert [str(loss) for loss in own.losses] == ["+4 ms", "+16 ms (12 to 21)", "+4.9 ms"]


def test_without_a_run_they_lead_to_the_prediction_and_a_gain_is_below_zero() -> None:
    own = waterfall(FOUR, None)
    assert (own.end, own.speedup) == ("predicted", pytest.approx(0.4 / 0.1201))
    faster = waterfall(FOUR, outcome(0.115))
    assert str(faster.losses[-1]) == "-5.1 ms"


def test_each_bar_of_the_figure_says_its_row_and_its_seconds() -> None:
    with styled():
        figure = waterfall_figure(waterfall(FOUR, outcome(0.125)))
        svg = inline_svg(figure, "w", "a waterfall")
    said = [mark.words for mark in marks_of(figure)]
    assert said[0] == "4.00x, linear 100 ms: step time 100 ms"
    assert "exposed communication +16 ms (12 to 21): step time 16 ms" in said
    assert svg.count('class="mark"') == len(said) == 5
    tops = [mark.y for mark in marks_of(figure)]
    assert tops == sorted(tops)
    assert all(0 <= mark.x <= 360 and mark.width >= 8 for mark in marks_of(figure))


def test_a_report_has_a_title_that_a_person_would_give(tmp_path: Path) -> None:
    study = gather([add_study(tmp_path / "study")])
    assert title_of(study) == "How many ranks for toy: 1, 2 or 4?"
    assert answer_of(study) == ("Use 4 ranks", "yes")
    wire = gather([add_bench(tmp_path / "bench", 4)])
    assert title_of(wire) == "What a message costs between 4 ranks"
    assert answer_of(wire) == ("Measured, not predicted", "unknown")
    assert title_of(gather([add_train(tmp_path / "one", 2, 0.1)])) == "Where a step of toy goes on 2 ranks"


def test_what_weakens_the_verdict_is_gathered_before_it(tmp_path: Path) -> None:
    elsewhere = tuple(RankInfo(rank=r, local_rank=r, hostname="far", device_name="H100") for r in range(2))
    runs = [add_train(tmp_path / "profile", 1, 0.1), add_bench(tmp_path / "bench", 2, ranks=elsewhere)]
    said = warnings(gather(runs))
    assert any("Computation was measured on EPYC, the wire between H100" in words for words in said)
