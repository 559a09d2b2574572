"""A matrix of links -> a heat map: darker is slower, and a frame marks a link that stands out.

The shade is log(t / fastest t), full at the slowest link but never below 1.5 times the fastest, so that links which differ
by noise look alike. It is the opacity of one colour and so fits light pages and dark ones.
"""

from collections.abc import Collection, Mapping
from math import ceil, log

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from commprof.analysis.report.figures.canvas import BLUE, INK, VERMILLION, legend_above, new_axes, styled

MAX_RANKS = 32
_LEAST_SPAN = 1.5
_FAINTEST, _DARKEST = 0.08, 0.75
_MOST_NUMBERS = 8  # ranks; beyond, numbers in the cells would touch each other
_ROOM = 340.0  # points for the matrix' height
_CELL = 34.0

Times = Mapping[tuple[int, int], float]


@styled()
def link_figure(
    times_s: Times, shown: Mapping[tuple[int, int], str], unit: str, standing_out: Collection[tuple[int, int]]
) -> Figure:
    """Draw one cell a pair of ranks, sender by receiver, shaded by its time (s); `shown` is what a cell says, in `unit`."""
    ranks = sorted({end for pair in times_s for end in pair})
    size = min(_CELL, _ROOM / len(ranks))
    figure, axes = new_axes(58 + size * len(ranks), left=64)
    place = {rank: index for index, rank in enumerate(ranks)}
    fastest, slowest = min(times_s, key=lambda p: times_s[p]), max(times_s, key=lambda p: times_s[p])
    span = log(max(times_s[slowest] / times_s[fastest], _LEAST_SPAN))
    words = {fastest: "fastest", slowest: "slowest"} if fastest != slowest else {fastest: "the one link"}
    for (source, target), time_s in times_s.items():
        shade = _FAINTEST + (_DARKEST - _FAINTEST) * log(time_s / times_s[fastest]) / span
        name = words.get((source, target))
        label = f"{name}: {shown[source, target]} {unit}" if name else ""
        x, y = place[target], place[source]
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=(BLUE, shade), linewidth=0, label=label))
        if len(ranks) <= _MOST_NUMBERS:
            axes.text(x, y, shown[source, target], ha="center", va="center", size=10)
    _frames(axes, [(place[target], place[source]) for source, target in standing_out])
    _rank_axes(axes, ranks)
    return legend_above(figure)


def _frames(axes: Axes, cells: Collection[tuple[int, int]]) -> None:
    for number, (x, y) in enumerate(cells):
        label = "" if number else "stands out"
        frame = Rectangle(
            (x - 0.44, y - 0.44), 0.88, 0.88, fill=False, edgecolor=VERMILLION, linewidth=1.6, label=label, zorder=3
        )
        axes.add_patch(frame)


def _rank_axes(axes: Axes, ranks: list[int]) -> None:
    every = ceil(len(ranks) / 16)
    ticks, names = range(0, len(ranks), every), [str(rank) for rank in ranks[::every]]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.set_xlim(-0.5, max(len(ranks), 4) - 0.5)
    axes.set_ylim(len(ranks) - 0.5, -0.5)
    axes.set_xlabel("to rank")
    axes.set_ylabel("from rank")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.axhline(len(ranks) - 0.5, color=INK, linewidth=0.4, alpha=0.4)
