"""Records -> matplotlib Figures, nothing else. Every axis has its unit; no text that came from a file is drawn.

Blue is predicted and vermillion is measured, everywhere. World sizes differ in colour and in marker.
"""

from collections.abc import Callable, Collection, Sequence
from math import ceil
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SERIES,
    SKY,
    VERMILLION,
    bar_axis,
    from_zero,
    is_long,
    legend_above,
    new_axes,
    rank_axis,
    speedup_width,
    styled,
    time_unit,
)
from commprof.analysis.report.numbers.data import Anatomy
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.results import Overhead, PredictionSet, ScheduledStep
from commprof.commbench.records.training import GradientTimeline
from commprof.commbench.units import format_bytes

MODELS = {"schedule": "bucket schedule", "ring": "ring", "amdahl": "Amdahl", "linear": "linear"}

_MODEL_LINES = {"ring": (GREY, ":"), "amdahl": (GREY, "-."), "linear": (INK, "--")}
_PHASES = {"data": ORANGE, "forward": SKY, "backward": BLUE, "optimizer": GREEN, "other": GREY}
_PARTS = {
    "single_step_s": ("one rank's step", GREY),
    "compute_s": ("slower computation", ORANGE),
    "waiting_s": ("waiting", PURPLE),
    "copies_s": ("copies", SKY),
    "exposed_s": ("exposed communication", BLUE),
}

_MOST_LABELS = 4  # more of them would run into each other; then only the largest world size has its value beside it

StepValue = Callable[[float, int], float]  # seconds of a step, ranks -> what the y axis shows


@styled()
def speedup_figure(predicted: PredictionSet, measured: Sequence[Outcome], shared: Collection[int]) -> Figure:
    """Draw samples per second over one rank's against ranks; the world sizes in `shared` are marked."""
    figure, axes = new_axes(250, left=speedup_width(max(_world_sizes(predicted))))

    def speedup(step_s: float, world_size: int) -> float:
        return work_s(predicted.single_step_s, world_size, predicted.scaling) / step_s

    axes.axhline(1, color=INK, linewidth=0.8, alpha=0.5)
    _draw_scaling(axes, predicted, measured, speedup, "{:.2f}x".format)
    axes.set_ylabel("speedup over one rank (x)")
    if is_long(_world_sizes(predicted)):
        axes.set_yscale("log", base=2)
        axes.set_ylim(bottom=min(0.5, axes.get_ylim()[0]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        from_zero(axes)
    rank_axis(axes, _world_sizes(predicted), shared)
    return legend_above(figure)


@styled()
def step_figure(predicted: PredictionSet, measured: Sequence[Outcome], shared: Collection[int]) -> Figure:
    """Draw the seconds of a step against ranks, predicted and measured."""
    figure, axes = new_axes(250, left=52)
    longest_s = max(p.interval_s.high if p.interval_s else p.step_s for p in predicted.predictions)
    scale, unit = time_unit(longest_s)
    _draw_scaling(axes, predicted, measured, lambda step_s, _: step_s / scale, "{:.3g}".format)
    axes.set_ylabel(f"step time ({unit})")
    from_zero(axes)
    rank_axis(axes, _world_sizes(predicted), shared)
    return legend_above(figure)


@styled()
def anatomy_figure(anatomies: Sequence[Anatomy], names: Sequence[str] = ()) -> Figure:
    """Draw one stacked bar a run: data, forward, backward, optimizer, other; seconds of a step."""
    figure, axes = new_axes(58 + 38 * len(anatomies), left=104)
    scale, unit = time_unit(max(anatomy.step_s for anatomy in anatomies))
    parts = [(name, colour, [getattr(a, f"{name}_s") / scale for a in anatomies]) for name, colour in _PHASES.items()]
    _stack(axes, parts)
    whose = names or [ranks(a.run.world_size) for a in anatomies]
    axes.set_yticks(range(len(anatomies)), [f"{who}\n{a.kind}" for who, a in zip(whose, anatomies, strict=True)])
    bar_axis(axes, f"step time ({unit})", len(anatomies))
    return legend_above(figure, columns=5)


@styled()
def overhead_figure(overheads: Sequence[Overhead], measured: Sequence[Outcome]) -> Figure:
    """Draw what makes the predicted step longer than one rank's, the measured steps as diamonds; seconds.

    A part below zero is drawn backwards from the end of the one before, so that the bar still ends at the step.
    """
    figure, axes = new_axes(58 + 38 * len(overheads), left=68)
    steps_s = {outcome.prediction.world_size: outcome.measured_step_s for outcome in measured}
    scale, unit = time_unit(max([*(overhead.step_s for overhead in overheads), *steps_s.values()]))
    parts = {part: look for part, look in _PARTS.items() if part != "copies_s" or any(o.copies_s for o in overheads)}
    _stack(axes, [(name, colour, [getattr(o, part) / scale for o in overheads]) for part, (name, colour) in parts.items()])
    points = [(steps_s[o.world_size] / scale, row) for row, o in enumerate(overheads) if o.world_size in steps_s]
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, "D", color=VERMILLION, label="measured step", markeredgecolor="white")
    axes.set_yticks(range(len(overheads)), [ranks(overhead.world_size) for overhead in overheads])
    bar_axis(axes, f"step time ({unit})", len(overheads))
    return legend_above(figure)


@styled()
def bucket_figure(predicted: ScheduledStep | None, measured: GradientTimeline | None) -> Figure:
    """Draw the backward pass on a time axis (s after it began): when each bucket was ready (tick), sent and landed (bar)."""
    both = [("predicted", BLUE, _predicted_spans(predicted)), ("measured", VERMILLION, _measured_spans(measured))]
    kinds = [(name, colour, spans) for name, colour, spans in both if spans]
    longest = max((spans for _, _, spans in kinds), key=len)
    figure, axes = new_axes(min(58 + 36 * len(longest), 640), left=86)
    scale, unit = time_unit(max(span.done_s for _, _, spans in kinds for span in spans))
    for side, (name, colour, spans) in enumerate(kinds):
        rows = [row + 0.38 * side - 0.19 * (len(kinds) - 1) for row in range(len(spans))]
        _draw_spans(axes, rows, spans, scale, colour, name)
    labels = ["backward", *(f"bucket {i}\n{format_bytes(span.num_bytes)}" for i, span in enumerate(longest[1:], 1))]
    every = ceil(len(longest) / 16)
    axes.set_yticks(range(0, len(longest), every), labels[::every])
    bar_axis(axes, f"time after backward began ({unit})", len(longest))
    return legend_above(figure)


@styled()
def error_figure(measured: Sequence[Outcome]) -> Figure:
    """Draw each model's relative error in per cent; below zero it promised a shorter step than was measured."""
    figure, axes = new_axes(200, left=112)
    rows = {model: row for row, model in enumerate(MODELS)}
    world_sizes = sorted({outcome.prediction.world_size for outcome in measured})
    axes.axvline(0, color=INK, linewidth=1, alpha=0.6)
    for index, world_size in enumerate(world_sizes):
        colour, marker = SERIES[index % len(SERIES)]
        shift = 0.6 * ((index + 0.5) / len(world_sizes) - 0.5)
        here = [outcome for outcome in measured if outcome.prediction.world_size == world_size]
        xs = [outcome.relative_error * 100 for outcome in here]
        ys = [rows[outcome.prediction.model] + shift for outcome in here]
        axes.plot(xs, ys, marker, color=colour, markersize=7, label=ranks(world_size))
    axes.set_yticks(list(rows.values()), list(MODELS.values()))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("predicted step / measured step - 1 (%)")
    return legend_above(figure, columns=4)


class _Span(NamedTuple):
    """A bar of the timeline, seconds after backward began: ready, then sent, then landed."""

    ready_s: float
    start_s: float
    done_s: float
    num_bytes: int


def _predicted_spans(step: ScheduledStep | None) -> list[_Span]:
    """Return the whole backward pass, the wait for the last bucket included as in a measured one, then the buckets."""
    if step is None:
        return []
    zero_s = step.backward_start_s
    buckets = [_Span(b.ready_s - zero_s, b.start_s - zero_s, b.done_s - zero_s, b.num_bytes) for b in step.buckets]
    return [_Span(0.0, 0.0, step.step_s - zero_s, 0), *buckets]


def _measured_spans(timeline: GradientTimeline | None) -> list[_Span]:
    if timeline is None or not timeline.buckets:
        return []
    buckets = [_Span(b.ready_s, b.launched_s, b.done_s, b.num_bytes) for b in timeline.buckets]
    return [_Span(0.0, 0.0, timeline.backward_s, 0), *buckets]


def _draw_spans(axes: Axes, rows: Sequence[float], spans: Sequence[_Span], scale: float, colour: str, name: str) -> None:
    starts, widths = [s.start_s / scale for s in spans], [(s.done_s - s.start_s) / scale for s in spans]
    readies = [span.ready_s / scale for span in spans]
    axes.barh(rows[:1], widths[:1], left=starts[:1], height=0.34, color=colour, alpha=0.4)
    axes.barh(rows[1:], widths[1:], left=starts[1:], height=0.34, color=colour, label=name)
    axes.hlines(rows[1:], readies[1:], starts[1:], color=colour, linewidth=1.2)
    axes.plot(readies[1:], rows[1:], "|", color=colour, markersize=11, markeredgewidth=1.8)


def _draw_scaling(
    axes: Axes, predicted: PredictionSet, measured: Sequence[Outcome], value: StepValue, label: Callable[[float], str]
) -> None:
    """Draw every model's line from one rank on, the schedule with its interval, and the measured medians."""
    start = value(predicted.single_step_s, 1)
    for model, name in reversed(MODELS.items()):
        found = sorted((p for p in predicted.predictions if p.model == model), key=lambda p: p.world_size)
        xs, ys = [1, *(p.world_size for p in found)], [start, *(value(p.step_s, p.world_size) for p in found)]
        if model in _MODEL_LINES:
            colour, line = _MODEL_LINES[model]
            axes.plot(xs, ys, line, color=colour, linewidth=1.4, label=name)
        else:
            bars = _error_bars(ys[1:], [p.interval_s for p in found], xs[1:], value)
            axes.plot(xs, ys, "o-", color=BLUE, label=f"predicted: {name}")
            axes.errorbar(xs[1:], ys[1:], yerr=bars, fmt="none", color=BLUE)
    checks = [outcome for outcome in measured if outcome.prediction.model == "schedule"]
    if checks:
        xs = [outcome.prediction.world_size for outcome in checks]
        ys = [value(outcome.measured_step_s, n) for outcome, n in zip(checks, xs, strict=True)]
        axes.plot(xs, ys, "D", color=VERMILLION, label="measured")
        labelled = slice(None) if len(xs) <= _MOST_LABELS else slice(-1, None)
        for x, y in zip(xs[labelled], ys[labelled], strict=True):
            box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1}
            axes.annotate(label(y), (x, y), (8, 0), textcoords="offset points", va="center", weight="bold", bbox=box)


def _error_bars(
    ys: Sequence[float], intervals: Sequence[Interval | None], world_sizes: Sequence[int], value: StepValue
) -> list[list[float]]:
    """Return the lengths below and above each point; a long step may be a low value, so both ends are tried."""
    ends = [
        sorted((value(i.low, n), value(i.high, n))) if i else [y, y] for y, i, n in zip(ys, intervals, world_sizes, strict=True)
    ]
    below = [max(0.0, y - low) for y, (low, _) in zip(ys, ends, strict=True)]
    return [below, [max(0.0, high - y) for y, (_, high) in zip(ys, ends, strict=True)]]


def _stack(axes: Axes, parts: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Draw one row of bars a position, each part beginning where the one before ended."""
    lefts = [0.0] * len(parts[0][2])
    for name, colour, widths in parts:
        axes.barh(range(len(widths)), widths, left=lefts, height=0.62, color=colour, label=name)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]


def _world_sizes(predicted: PredictionSet) -> set[int]:
    return {1, *(prediction.world_size for prediction in predicted.predictions)}
