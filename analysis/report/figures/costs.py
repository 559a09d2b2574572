"""What collectives cost -> a matplotlib Figure: bus bandwidth over message size, as the curve has it."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    MOST_SERIES,
    legend_above,
    log_value_axis,
    new_axes,
    series_style,
    size_axis,
    styled,
)
from commprof.analysis.report.figures.predictions import rate_tick
from commprof.analysis.wire.cost import curve_points
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS


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
