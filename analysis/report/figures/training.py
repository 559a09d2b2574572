"""How a training learns, over time and over samples: training loss and accuracy on held-out data, one line a run.

Time is the sum of the steps that count, so that neither warm-up nor the profiler nor an evaluation is taken for training;
samples are all that the ranks have seen by then. Long runs are drawn as means of equal stretches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from commprof.analysis.report.figures.canvas import SERIES, legend_above, new_axes, styled, time_unit
from commprof.analysis.report.figures.learning import apart
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.runs.load import Run
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.training import EvaluationMeasurement

Against = Literal["time", "samples"]

_MOST_POINTS = 150  # of one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a run had reached: a value after so many seconds of counted steps and so many samples of all ranks."""

    world_size: int
    time_s: tuple[float, ...]
    samples: tuple[float, ...]
    values: tuple[float, ...]


def loss_curve(run: Run) -> Curve | None:
    """Return the training loss, mean over the ranks, at each step that counts; None where none was recorded."""
    times_s, samples = _progress(run)
    first = run.steps[min(run.steps)] if run.steps else ()
    losses: dict[int, list[float]] = {}
    for step in (step for steps in run.steps.values() for step in steps if step.loss is not None):
        losses.setdefault(step.step, []).append(step.loss)  # type: ignore[arg-type]
    counted = [(times_s[i], samples[i], fmean(losses[s.step])) for i, s in enumerate(first) if s.counts and s.step in losses]
    return _curve(run, counted)


def accuracy_curve(run: Run) -> Curve | None:
    """Return the accuracy of each evaluation, 0 to 1; None for a run without any."""
    path = run.path / "evaluations.jsonl"
    if not path.exists() or not run.steps:
        return None
    times_s, samples = _progress(run)
    done = {step.step + 1: i for i, step in enumerate(run.steps[min(run.steps)])}
    found = [e for e in read_records(path, EvaluationMeasurement) if e.step in done]
    return _curve(run, [(times_s[done[e.step]], samples[done[e.step]], e.accuracy) for e in found])


def loss_figure(curves: Sequence[Curve], against: Against) -> Figure:
    """Draw training loss (nats, the mean cross-entropy) over time or samples."""
    return _figure(curves, against, "training loss (nats)", lambda value: value, marked=False)


def accuracy_figure(curves: Sequence[Curve], against: Against) -> Figure:
    """Draw accuracy on held-out data (%) over time or samples, a marker an evaluation."""
    return _figure(curves, against, "accuracy on held-out data (%)", lambda value: 100 * value, marked=True)


def _progress(run: Run) -> tuple[list[float], list[float]]:
    """Return the seconds of counted steps, and the samples of all ranks, by the end of each step of the run's first rank."""
    steps = run.steps[min(run.steps)] if run.steps else ()
    times_s = accumulate(step.step_s if step.counts else 0.0 for step in steps)
    samples = accumulate(float(step.num_samples * run.world_size) for step in steps)
    return list(times_s), list(samples)


def _curve(run: Run, points: Sequence[tuple[float, float, float]]) -> Curve | None:
    if not points:
        return None
    stretch = -(-len(points) // _MOST_POINTS)
    means = [tuple(map(fmean, zip(*points[i : i + stretch], strict=True))) for i in range(0, len(points), stretch)]
    times_s, samples, values = zip(*means, strict=True)
    return Curve(world_size=run.world_size, time_s=times_s, samples=samples, values=values)


@styled()
def _figure(curves: Sequence[Curve], against: Against, label: str, shown: Callable[[float], float], *, marked: bool) -> Figure:
    sizes = sorted({curve.world_size for curve in curves})
    figure, axes = new_axes(250, left=58)
    scale, unit = time_unit(max(curve.time_s[-1] for curve in curves))
    drawn: set[int] = set()
    for curve in sorted(curves, key=lambda curve: curve.world_size):
        colour, marker = SERIES[sizes.index(curve.world_size) % len(SERIES)]
        xs = [time_s / scale for time_s in curve.time_s] if against == "time" else list(curve.samples)
        name = ranks(curve.world_size) if curve.world_size not in drawn else None
        ys, every = list(map(shown, curve.values)), 1 if marked else apart(len(xs))
        axes.plot(xs, ys, f"{marker}-", color=colour, markersize=6 if marked else 4, markevery=every, linewidth=1.4, label=name)
        drawn.add(curve.world_size)
    axes.set_xlabel(f"training time, steps that count ({unit})" if against == "time" else "samples seen by all ranks")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if against == "samples":
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlim(left=0)
    axes.set_ylabel(label)
    return legend_above(figure)
