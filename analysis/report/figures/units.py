"""The units of a sharded step over time: each of their collectives as a bar, from when it was sent to when it had landed."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    BLUE,
    GREEN,
    VERMILLION,
    bar_axis,
    label_width,
    legend_above,
    new_axes,
    styled,
)
from commprof.analysis.report.figures.canvas import time_unit as unit_of
from commprof.analysis.strategies.results import UnitExchange

_MOST_UNITS = 40  # rows of a figure; a deeper model's middle is left out
_KINDS = {
    "gather": ("all-gather", BLUE),
    "reduce": ("reduce-scatter", VERMILLION),
    "all_reduce": ("all-reduce of copies", GREEN),
}


@styled()
def unit_figure(exchanges: Sequence[UnitExchange], step_s: float) -> Figure:
    """Draw one row a unit in the order of their first all-gathers, seconds from the step's start; the step ends at `step_s`."""
    names = list(dict.fromkeys(each.unit for each in exchanges))
    shown = names if len(names) <= _MOST_UNITS else [*names[: _MOST_UNITS // 2], *names[-_MOST_UNITS // 2 :]]
    scale, unit = unit_of(step_s)
    figure, axes = new_axes(40 + 18 * len(shown), left=label_width(shown))
    labelled: set[str] = set()
    for each in exchanges:
        if each.unit not in shown:
            continue
        label, colour = _KINDS[each.what]
        axes.barh(
            shown.index(each.unit),
            (each.done_s - each.start_s) / scale,
            left=each.start_s / scale,
            height=0.6,
            color=colour,
            label="" if label in labelled else label,
        )
        labelled.add(label)
    bar_axis(axes, f"{unit} after the step began", len(shown))
    axes.set_yticks(range(len(shown)), shown)
    axes.axvline(step_s / scale, linewidth=0.8, color=GREEN, label="the step ends")
    axes.set_xlim(0, 1.02 * step_s / scale)
    return legend_above(figure)
