"""Throughputs carried to other numbers of ranks -> a matplotlib Figure: speedup with its 90 % interval."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import SERIES, from_zero, legend_above, new_axes, rank_axis, styled
from commprof.analysis.scaling.extrapolate import Extrapolation
from commprof.commbench.errors import UnusableData


@styled()
def extrapolated_figure(told: Sequence[Extrapolation]) -> Figure:
    """Draw one line a series: what it was measured at as points, what is extrapolated with error bars."""
    figure, axes = new_axes(250, left=52, legend_rows=1 + len(told) // 3)
    world_sizes: set[int] = set()
    for index, one in enumerate(told):
        colour, marker = SERIES[index % len(SERIES)]
        name = one.series or "table"
        found = [p for p in one.predictions if p.speedup is not None and p.value and p.low and p.high]
        if not found:
            continue
        xs, ys = [p.world_size for p in found], [p.speedup or 0.0 for p in found]
        ends = [sorted((_ratio(one, p.low or 0, p.value or 1), _ratio(one, p.high or 0, p.value or 1))) for p in found]
        below = [max(0.0, y * (1 - low)) for y, (low, _) in zip(ys, ends, strict=True)]
        above = [max(0.0, y * (high - 1)) for y, (_, high) in zip(ys, ends, strict=True)]
        axes.errorbar(xs, ys, yerr=[below, above], fmt=f"{marker}--", color=colour, label=f"{name}, extrapolated")
        anchors = _anchor_speedups(one)
        known_xs, known_ys = list(anchors), list(anchors.values())
        axes.plot(known_xs, known_ys, marker, color=colour, markerfacecolor="none", label=f"{name}, measured")
        world_sizes |= {*xs, *anchors}
    if not world_sizes:
        raise UnusableData("no number of ranks could be extrapolated to, so there is none to draw; the table says why")
    axes.set_ylabel("speedup over one rank (x)")
    from_zero(axes)
    rank_axis(axes, world_sizes, ())
    return legend_above(figure)


def _ratio(one: Extrapolation, end: float, value: float) -> float:
    """Return an end of the interval as a share of the speedup, which falls where a step grows."""
    return end / value if one.measure == "throughput" else value / end


def _anchor_speedups(one: Extrapolation) -> dict[int, float]:
    single = one.anchors.get(1)
    if single is None:
        return {}
    if one.measure == "throughput":
        return {n: value / single for n, value in one.anchors.items()}
    return {n: (n if one.scaling == "weak" else 1) * single / value for n, value in one.anchors.items()}
