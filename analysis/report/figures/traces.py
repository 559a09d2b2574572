"""What traces say -> matplotlib Figures, nothing else. Faint is hidden behind computation, full colour is exposed."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    bar_axis,
    legend_above,
    log_value_axis,
    new_axes,
    size_axis,
    styled,
    time_unit,
)
from commprof.analysis.report.figures.costs import rate_tick
from commprof.analysis.report.numbers.wire_curves import WireCurve
from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.one_rank.steps import NO_STEP

PART_NAMES = {
    "compute": "compute",
    "transfer_hidden": "transfer hidden",
    "transfer_exposed": "transfer exposed",
    "waiting_hidden": "waiting hidden",
    "waiting_exposed": "waiting exposed",
    "memory": "memory",
    "launch_idle": "launch",
    "other": "other",
}
_FAINT = 0.45
_COLOURS = {
    "compute": (GREEN, 1.0),
    "transfer_hidden": (BLUE, _FAINT),
    "transfer_exposed": (BLUE, 1.0),
    "waiting_hidden": (PURPLE, _FAINT),
    "waiting_exposed": (PURPLE, 1.0),
    "memory": (SKY, 1.0),
    "launch_idle": (ORANGE, 1.0),
    "other": (GREY, 1.0),
}


@styled()
def budget_figure(budgets: Sequence[StepBudget]) -> Figure:
    """Draw one stacked bar a budget, in the order given; parts that none of them has are left out."""
    parts = [part for part in PART_NAMES if any(own.parts_ns()[part] for own in budgets)]
    figure, axes = new_axes(58 + 21 * len(budgets), left=118)
    scale, unit = time_unit(max(own.wall_ns for own in budgets) / 1e9)
    lefts = [0.0] * len(budgets)
    for part in parts:
        widths = [own.parts_ns()[part] / 1e9 / scale for own in budgets]
        colour, alpha = _COLOURS[part]
        rows = range(len(budgets))
        axes.barh(rows, widths, left=lefts, height=0.74, color=colour, alpha=alpha, label=PART_NAMES[part])
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.set_yticks(range(len(budgets)), _labels(budgets))
    bar_axis(axes, f"wall time of the step ({unit})", len(budgets))
    return legend_above(figure)


def _labels(budgets: Sequence[StepBudget]) -> list[str]:
    """Name each bar's rank, and the step at its first bar."""
    before = [None, *(own.step for own in budgets)]
    return [
        f"rank {own.rank}"
        if own.step == last
        else f"{'whole trace' if own.step == NO_STEP else f'step {own.step}'}, rank {own.rank}"
        for own, last in zip(budgets, before, strict=False)
    ]


@styled()
def collective_figure(points: Mapping[tuple[str, int], Sequence[tuple[int, float]]], curves: Sequence[WireCurve]) -> Figure:
    """Draw bus bandwidth (B/s) over message size, both logarithmic, one series an operation and number of ranks.

    `points` are (bytes, B/s) from traces; a curve of the same number of ranks is the bench's all-reduce, in its colour.
    """
    benched = {curve.world_size: curve for curve in curves}
    figure, axes = new_axes(280, left=78)
    shown = [rate for series in points.values() for _, rate in series]
    sizes = [size for series in points.values() for size, _ in series]
    for index, ((op, num_ranks), series) in enumerate(points.items()):
        colour, marker = SERIES[index % len(SERIES)]
        axes.plot(*zip(*series, strict=True), marker, color=colour, label=f"traced: {op}, {num_ranks} ranks", markersize=7)
        if op == "all_reduce" and (curve := benched.get(num_ranks)) is not None:
            low, high = curve.bus_bandwidth(curve.high_s), curve.bus_bandwidth(curve.low_s)
            axes.fill_between(curve.message_bytes, low, high, color=colour, alpha=0.22, linewidth=0)
            label = f"bench: {op}, {num_ranks} ranks"
            axes.plot(curve.message_bytes, curve.bus_bandwidth(curve.median_s), "-", color=colour, label=label)
            shown += [*low, *high]
            sizes += curve.message_bytes
    size_axis(axes, sizes)
    log_value_axis(axes, min(shown), max(shown), "bus bandwidth (bytes/s)", rate_tick)
    return legend_above(figure, columns=2)
