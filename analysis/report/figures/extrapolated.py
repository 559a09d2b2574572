"""Throughputs carried to other numbers of ranks -> a matplotlib Figure: speedup with its 90 % interval."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    GREY,
    MOST_SERIES,
    from_zero,
    legend_above,
    new_axes,
    rank_axis,
    series_style,
    speedup_width,
    styled,
)
from commprof.analysis.scaling.results import Extrapolation
from commprof.commbench.errors import UnusableData


@styled()
def extrapolated_figure(told: Sequence[Extrapolation]) -> Figure:
    """Draw one line a series: what it was measured at as hollow points, what is extrapolated with error bars.

    Raises UnusableData where nothing could be extrapolated, and for more series than can be told apart.
    """
    drawn = [
        (one, found) for one in told if (found := [p for p in one.predictions if p.speedup and p.value and p.low and p.high])
    ]
    if not drawn:
        raise UnusableData("no number of ranks could be extrapolated to, so there is none to draw; the table says why")
    if len(drawn) > MOST_SERIES:
        raise UnusableData(f"{len(drawn)} series are too many to tell apart; draw {MOST_SERIES} of the table's at most")
    labels = ["measured", *(one.series or "extrapolated" for one, _ in drawn)]
    largest = max(p.world_size for _, found in drawn for p in found)
    figure, axes = new_axes(250, left=speedup_width(largest))
    axes.plot([], [], "o", color=GREY, markerfacecolor="none", label=labels[0])
    world_sizes: set[int] = set()
    for index, (one, found) in enumerate(drawn):
        colour, marker = series_style(index)
        xs, ys = [p.world_size for p in found], [p.speedup or 0.0 for p in found]
        ends = [sorted((_ratio(one, p.low or 0, p.value or 1), _ratio(one, p.high or 0, p.value or 1))) for p in found]
        below = [max(0.0, y * (1 - low)) for y, (low, _) in zip(ys, ends, strict=True)]
        above = [max(0.0, y * (high - 1)) for y, (_, high) in zip(ys, ends, strict=True)]
        axes.errorbar(xs, ys, yerr=[below, above], fmt=f"{marker}--", color=colour, label=labels[1 + index])
        anchors = {n: one.speedup_of(n, value) for n, value in one.anchors.items()}
        axes.plot(list(anchors), list(anchors.values()), marker, color=colour, markerfacecolor="none")
        world_sizes |= {*xs, *anchors}
    bases = {one.base for one, _ in drawn}
    axes.set_ylabel(f"speedup over {_ranks(bases.pop())} (x)" if len(bases) == 1 else "speedup over the smallest row (x)")
    from_zero(axes)
    rank_axis(axes, world_sizes, ())
    return legend_above(figure)


def _ratio(one: Extrapolation, end: float, value: float) -> float:
    """Return an end of the interval as a share of the speedup, which falls where a step grows."""
    return value / end if one.measure == "step_s" else end / value


def _ranks(count: int) -> str:
    return "one rank" if count == 1 else f"{count} ranks"
