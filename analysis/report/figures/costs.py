"""What collectives cost -> matplotlib Figures over message size: the curve, or what was measured, its line and its ceiling."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    INK,
    MOST_SERIES,
    SERIES,
    legend_above,
    log_value_axis,
    new_axes,
    series_style,
    size_axis,
    styled,
)
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.wire_curves import WireCurve
from commprof.analysis.wire.cost import curve_points
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_seconds


@styled()
def cost_figure(costs: Sequence[CostModel]) -> Figure:
    """Draw one line a collective and world size; those that were carried over are dashed. Raises UnusableData for too many."""
    if len(costs) > MOST_SERIES:
        raise UnusableData(f"{len(costs)} curves are too many to tell apart; fit fewer than {MOST_SERIES} numbers of ranks")
    labels = [f"{cost.op}, {cost.world_size} ranks" for cost in costs]
    figure, axes = new_axes(280, left=78)
    shown: list[float] = []
    sizes: list[int] = []
    for index, cost in enumerate(costs):
        colour, marker = series_style(index)
        factor = OPERATIONS[cost.op].bus_factor(cost.world_size)
        points = [(size, factor * size / time_s) for size, time_s in curve_points(cost) if size and time_s]
        xs, ys = [size for size, _ in points], [rate for _, rate in points]
        line = "--" if cost.carried_from else "-"
        axes.plot(xs, ys, f"{marker}{line}", color=colour, markersize=4, label=labels[index])
        shown += ys
        sizes += xs
    size_axis(axes, sizes)
    log_value_axis(axes, min(shown), max(shown), "bus bandwidth (bytes/s)", rate_tick)
    return legend_above(figure)


@styled()
def bandwidth_figure(curves: Sequence[WireCurve], names: Sequence[str] = ()) -> Figure:
    """Draw bus bandwidth (B/s) over message size, both logarithmic: medians, their 10-90 % band, fitted line and ceiling.

    `names` are the curves' in the legend, by default their numbers of ranks.
    """
    ceilings = [curve.ceiling.busbw_bytes_per_s if curve.ceiling is not None else None for curve in curves]
    return _wire_figure(curves, WireCurve.bus_bandwidth, "bus bandwidth (bytes/s)", rate_tick, names, ceilings)


@styled()
def latency_figure(curves: Sequence[WireCurve], names: Sequence[str] = ()) -> Figure:
    """Draw the time (s) of one all-reduce over message size, both logarithmic."""
    return _wire_figure(curves, lambda _, times_s: list(times_s), "time (s)", format_seconds, names)


def rate_tick(bytes_per_s: float) -> str:
    """Write a tick in the decimal unit that keeps it short; latency-bound messages reach a few kB/s only."""
    for scale, unit in ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if bytes_per_s >= scale:
            return f"{bytes_per_s / scale:g} {unit}"
    return f"{bytes_per_s:g} B/s"


def _wire_figure(
    curves: Sequence[WireCurve],
    values: Callable[[WireCurve, Sequence[float]], list[float]],
    label: str,
    form: Callable[[float], str],
    names: Sequence[str],
    ceilings: Sequence[float | None] = (),
) -> Figure:
    legend = names or [ranks(curve.world_size) for curve in curves]
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    figure, axes = new_axes(280, left=78)
    shown = [*known]
    for index, curve in enumerate(curves):
        colour, marker = SERIES[index % len(SERIES)]
        sizes, low, high = curve.message_bytes, values(curve, curve.low_s), values(curve, curve.high_s)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.plot(sizes, values(curve, curve.median_s), f"{marker}-", color=colour, markersize=4, label=legend[index])
        if curve.cost is not None:
            axes.plot(sizes, values(curve, curve.line_s()), "--", color=colour, linewidth=1.3)
        shown += [*low, *high]
    for (colour, _), ceiling in zip(SERIES, ceilings, strict=False):
        if ceiling is not None:
            axes.axhline(ceiling, color=colour, linestyle=":", linewidth=1.6)
    axes.plot([], [], "--", color=INK, linewidth=1.3, label="fitted line")
    if known:
        axes.plot([], [], ":", color=INK, linewidth=1.6, label="ceiling of the link")
    size_axis(axes, [size for curve in curves for size in curve.message_bytes])
    log_value_axis(axes, min(shown), max(shown), label, form)
    return legend_above(figure)
