"""Verdicts of a check -> a matplotlib Figure: how many failed, were noted, could not be judged, passed."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from commprof.analysis.health.results import Verdict
from commprof.analysis.report.figures.canvas import GREEN, GREY, ORANGE, VERMILLION, bar_axis, new_axes, styled

_KINDS = (("failed", VERMILLION), ("noted", ORANGE), ("not judged", GREY), ("passed", GREEN))


@styled()
def verdict_figure(verdicts: Sequence[Verdict]) -> Figure:
    """Draw one bar a kind of verdict, its number beside it."""
    figure, axes = new_axes(58 + 26 * len(_KINDS), left=78)
    counts = [sum(verdict.rank == rank for verdict in verdicts) for rank in range(len(_KINDS))]
    bars = axes.barh(range(len(_KINDS)), counts, height=0.6, color=[colour for _, colour in _KINDS])
    axes.bar_label(bars, padding=4)
    axes.set_yticks(range(len(_KINDS)), [name for name, _ in _KINDS])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar_axis(axes, "verdicts", len(_KINDS))
    return figure
