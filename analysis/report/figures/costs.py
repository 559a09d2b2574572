"""What collectives cost -> a matplotlib Figure: bus bandwidth over message size, as the curve has it."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import SERIES, legend_above, log_value_axis, new_axes, size_axis, styled
from commprof.analysis.report.figures.predictions import rate_tick
from commprof.analysis.wire.cost import curve_points
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.operations import OPERATIONS


@styled()
def cost_figure(costs: Sequence[CostModel]) -> Figure:
    """Draw one line a collective and world size; those that were carried over are dashed."""
    figure, axes = new_axes(280, left=78, legend_rows=1 + len(costs) // 3)
    shown: list[float] = []
    sizes: list[int] = []
    for index, cost in enumerate(costs):
        colour, marker = SERIES[index % len(SERIES)]
        factor = OPERATIONS[cost.op].bus_factor(cost.world_size)
        points = [(size, factor * size / time_s) for size, time_s in curve_points(cost) if size and time_s]
        xs, ys = [size for size, _ in points], [rate for _, rate in points]
        line = "--" if cost.carried_from else "-"
        axes.plot(xs, ys, f"{marker}{line}", color=colour, markersize=4, label=f"{cost.op}, {cost.world_size} ranks")
        shown += ys
        sizes += xs
    size_axis(axes, sizes)
    log_value_axis(axes, min(shown), max(shown), "bus bandwidth (bytes/s)", rate_tick)
    return legend_above(figure)
