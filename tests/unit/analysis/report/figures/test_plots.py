"""Figures hold the numbers they were given, in the units their axes name."""

from pathlib import Path

import numpy as np
import pytest

from commprof.analysis.report.figures import predictions as plots
from commprof.analysis.report.figures.canvas import BLUE, styled
from commprof.analysis.report.figures.learning import curve_figure
from commprof.analysis.report.figures.overview import Comparison, predicted_measured_figure
from commprof.analysis.report.numbers.data import Anatomy
from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run
from commprof.analysis.step.results import Overhead, Prediction, PredictionSet, ScheduledBucket, ScheduledStep
from commprof.commbench.records.training import BucketTiming, GradientTimeline
from commprof.commbench.records.types import SCHEMA_VERSION, RunInfo, SoftwareInfo
from tests.drawn import bars, error_ends, legend, only, points

STEPS_S = {2: {"schedule": 0.12, "linear": 0.1}, 4: {"schedule": 0.16, "linear": 0.1}}


def predicted(steps_s: dict[int, dict[str, float]] | None = None) -> PredictionSet:
    return PredictionSet(
        created_at="",
        single_step_s=0.1,
        profile_run_id="one",
        run_ids=(),
        predictions=tuple(
            Prediction(
                model=model,  # type: ignore[arg-type]
                formula="",
                world_size=n,
                step_s=step_s,
                interval_s=Interval(low=0.8 * step_s, high=1.25 * step_s) if model == "schedule" else None,
                exposed_s=0.0,
                speedup=n * 0.1 / step_s,
                efficiency=1.0,
                ratio_compute_to_comm=1.0,
                extrapolated=False,
                assumptions=(),
            )
            for n, models in (steps_s or STEPS_S).items()
            for model, step_s in models.items()
        ),
        overheads=(),
        schedules=(),
        changes=(),
    )


def outcomes(measured_s: dict[int, float], checked: PredictionSet | None = None) -> list[Outcome]:
    return [
        Outcome(
            prediction=prediction,
            measured_step_s=measured_s[prediction.world_size],
            measured_speedup=0.0,
            run_id="",
        )
        for prediction in (checked or predicted()).predictions
        if prediction.world_size in measured_s
    ]


def test_speedups_are_those_of_the_steps_and_long_steps_end_their_bars_low() -> None:
    axes = only(plots.speedup_figure(predicted(), outcomes({4: 0.2}), {}))
    assert points(axes, "linear") == [[1, 2, 4], [1.0, 2.0, 4.0]]
    xs, ys = points(axes, "predicted: bucket schedule")
    assert xs == [1, 2, 4]
    assert ys == pytest.approx([1.0, 0.2 / 0.12, 2.5])
    assert points(axes, "measured") == [[4], [2.0]]
    assert np.allclose(error_ends(axes, BLUE), [[0.2 / 0.15, 0.2 / 0.096], [2.0, 3.125]])
    assert [text.get_text() for text in axes.texts] == ["2.00x"]


def test_step_times_are_drawn_in_the_unit_the_axis_names() -> None:
    figure = plots.step_figure(predicted(), outcomes({4: 0.2}), {})
    axes = only(figure)
    assert axes.get_ylabel() == "step time (ms)"
    assert points(axes, "predicted: bucket schedule")[1] == pytest.approx([100, 120, 160])
    assert points(axes, "measured") == [[4], [pytest.approx(200)]]
    assert legend(figure) == ["measured", "predicted: bucket schedule", "linear", "Amdahl", "ring"]


def test_world_sizes_that_share_cores_are_shaded_and_named() -> None:
    axes = only(plots.speedup_figure(predicted(), [], {4}))
    (span,) = axes.patches
    assert span.get_extents().transformed(axes.transData.inverted()).x0 == pytest.approx(3.0)  # between 2 and 4
    assert "ranks share cores" in axes.texts[0].get_text()
    assert not only(plots.speedup_figure(predicted(), [], {8})).patches  # drawn here are 1, 2 and 4 ranks
    (everywhere,) = only(plots.speedup_figure(predicted(), [], {1, 2, 4})).patches
    assert everywhere.get_extents().transformed(axes.transData.inverted()).x0 == pytest.approx(1.0)


def test_many_ranks_lie_at_equal_distances_per_doubling() -> None:
    sizes = (2, 4, 8, 16, 64)
    many = predicted({n: {"schedule": 0.12, "linear": 0.1} for n in sizes})
    axes = only(plots.speedup_figure(many, outcomes(dict.fromkeys(sizes, 0.2), many), {}))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xticks().tolist() == [1, *sizes]
    assert axes.get_ylim()[0] == 0.5
    assert [text.get_text() for text in axes.texts] == ["32.00x"]  # five labels would run into each other
    assert only(plots.speedup_figure(predicted(), [], {})).get_xscale() == "linear"


def test_phases_follow_each_other_and_end_at_the_step() -> None:
    anatomy = Anatomy(run=run(4), data_s=0.01, forward_s=0.02, backward_s=0.04, optimizer_s=0.005, other_s=0.001, num_steps=3)
    axes = only(plots.anatomy_figure([anatomy]))
    assert [bars(axes, name)[0] for name in ("data", "forward", "backward", "optimizer", "other")] == [
        (0, 10),
        (10, 20),
        (30, 40),
        (70, 5),
        (75, 1),
    ]
    assert axes.get_yticklabels()[0].get_text() == "4 ranks\ncompute only"
    assert axes.get_xlabel() == "step time (ms)"


def test_overheads_add_up_to_the_step_even_when_a_part_is_negative() -> None:
    overhead = Overhead(world_size=4, single_step_s=0.1, compute_s=-0.01, waiting_s=0.02, exposed_s=0.05)
    axes = only(plots.overhead_figure([overhead], outcomes({4: 0.155})))
    names = ("one rank's step", "slower computation", "waiting", "exposed communication")
    assert [bars(axes, name)[0] for name in names] == [(0, 100), (100, -10), (90, 20), (110, 50)]
    assert points(axes, "measured step") == [[pytest.approx(155)], [0]]


def test_buckets_are_drawn_after_backward_began_predicted_beside_measured() -> None:
    step = ScheduledStep(
        world_size=2,
        backward_start_s=0.1,
        compute_end_s=0.18,
        step_s=0.2,
        buckets=(ScheduledBucket(num_bytes=2**20, ready_s=0.14, start_s=0.15, done_s=0.19, last_parameter="w"),),
    )
    seen = GradientTimeline(
        rank=0,
        num_steps=5,
        backward_s=0.09,
        parameters=(),
        buckets=(BucketTiming(index=0, num_bytes=2**20, ready_s=0.03, launched_s=0.05, done_s=0.085),),
    )
    axes = only(plots.bucket_figure(step, seen))
    assert bars(axes, "predicted") == [(50, 40)]
    assert bars(axes, "measured") == [(50, 35)]
    whole = [bar.get_width() for container in axes.containers[::2] for bar in container]  # type: ignore[attr-defined]
    assert whole == pytest.approx([100, 90])
    assert [np.asarray(tick.get_xdata()).tolist() for tick in axes.lines] == [[pytest.approx(40)], [pytest.approx(30)]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["backward", "bucket 1\n1 MiB"]
    assert axes.get_xlabel() == "time after backward began (ms)"
    assert legend(plots.bucket_figure(step, None)) == ["predicted"]


def test_nothing_is_cut_off_at_the_edges() -> None:
    """Measured steps longer than all predictions, and whole units at the ends of both axes."""
    rows = [Comparison(experiment="a", world_size=2, work_s=0.2, measured_step_s=0.102, predicted=predicted().predictions[0])]
    for figure in (plots.step_figure(predicted(), outcomes({2: 0.3}), ()), predicted_measured_figure(rows)):
        with styled():
            figure.draw_without_rendering()
        (width, height), axes = figure.bbox.size, only(figure)
        boxes = [figure.legends[0].get_window_extent(), *(tick.get_window_extent() for tick in axes.get_xticklabels())]
        assert min(min(box.x0, box.y0) for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= width and boxes[0].y1 < height
    step_axes = only(plots.step_figure(predicted(), outcomes({2: 0.3}), ()))
    assert step_axes.get_ylim()[1] > 1.04 * 300, "a marker at 300 ms is drawn whole"


def test_lines_differ_without_colour() -> None:
    steps = [(step, 1.0) for step in range(100)]
    first, second = only(curve_figure({"a": steps, "b": steps}, "loss", marked=False)).lines
    assert (first.get_marker(), second.get_marker()) == ("o", "s")
    assert first.get_markevery() == 13, "8 markers at most"


def test_errors_are_per_cent_of_the_measured_step() -> None:
    axes = only(plots.error_figure(outcomes({4: 0.2})))
    xs, ys = points(axes, "4 ranks")
    assert xs == pytest.approx([-20, -50])  # 0.16 and 0.1 against 0.2 s
    assert ys == pytest.approx([0, 3])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bucket schedule", "ring", "Amdahl", "linear"]


def run(world_size: int) -> Run:
    info = RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id="run",
        kind="train",
        status="completed",
        started_at="",
        command=(),
        backend="gloo",
        world_size=world_size,
        num_nodes=1,
        launcher="",
        cores_per_node=1,
        threads_per_rank=1,
        ranks=(),
        software=SoftwareInfo(python=""),
        environ={},
    )
    return Run(path=Path("run"), info=info, collectives=(), steps={}, gradients=None)
