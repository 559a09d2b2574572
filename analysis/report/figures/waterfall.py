"""Why not N times: bars that step down from linear speedup to the step as measured or predicted."""

from itertools import accumulate

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    bar_axis,
    new_axes,
    styled,
    time_unit,
)
from commprof.analysis.report.numbers.waterfall import Waterfall
from commprof.commbench.units import format_seconds

_COLOURS = {
    "slower computation": ORANGE,
    "waiting": PURPLE,
    "copies": SKY,
    "exposed communication": BLUE,
    "not in the prediction": VERMILLION,
}
_CUT_BELOW = 0.15  # of the step: losses this small would be slivers on an axis from zero


@styled()
def waterfall_figure(own: Waterfall) -> Figure:
    """Draw the linear step, each loss behind it, and the step that they lead to; seconds, named beside the bars."""
    rows = len(own.losses) + 2
    figure, axes = new_axes(58 + 37 * rows, left=168)
    scale, unit = time_unit(own.step_s)
    ends = list(accumulate((loss.seconds for loss in own.losses), initial=own.linear_s))
    axes.barh(0, own.linear_s / scale, height=0.6, color=GREY, label="linear")
    for row, (loss, start) in enumerate(zip(own.losses, ends, strict=False), 1):
        colour = _COLOURS.get(loss.name, GREY)
        axes.barh(row, loss.seconds / scale, left=start / scale, height=0.6, color=colour, label=loss.name)
    axes.barh(rows - 1, own.step_s / scale, height=0.6, color=GREEN if own.speedup > 1 else VERMILLION, label=own.end)
    for row, end in enumerate(ends):
        axes.vlines(end / scale, row, row + 1, color=INK, linewidth=0.8, alpha=0.6)
    axes.set_yticks(range(rows), _labels(own))
    low = min(ends)
    cut = own.step_s - low < _CUT_BELOW * own.step_s
    bar_axis(axes, f"step time ({unit}{'; not from zero' if cut else ''})", rows)
    if cut:
        axes.set_xlim(left=max(0.0, low - 2 * (own.step_s - low)) / scale)
    return figure


def _labels(own: Waterfall) -> list[str]:
    losses = (f"{loss.name}\n{loss}" for loss in own.losses)
    linear = f"{own.world_size:.2f}x, linear\n{format_seconds(own.linear_s)}"
    return [linear, *losses, f"{own.speedup:.2f}x, {own.end}\n{format_seconds(own.step_s)}"]
