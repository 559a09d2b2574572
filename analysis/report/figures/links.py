"""A matrix of links -> a heat map: darker is slower, and a frame marks a link that stands out.

The shade is log(t / fastest t), full at the slowest link but never below 1.5 times the fastest, so that links which differ
by noise look alike. It is the opacity of one colour and so fits light pages and dark ones.

And where the bytes of a ring over nodes go: nodes as boxes on lines to a switch, a line as wide as what it carries.
"""

from collections.abc import Collection, Mapping
from math import ceil, log

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from commprof.analysis.report.figures.canvas import BLUE, GREEN, INK, VERMILLION, legend_above, new_axes, styled
from commprof.analysis.wire.fabric import RingTraffic
from commprof.commbench.units import format_bytes

MAX_RANKS = 32
_LEAST_SPAN = 1.5
_FAINTEST, _DARKEST = 0.08, 0.75
_MOST_NUMBERS = 8  # ranks; beyond, numbers in the cells would touch each other
_ROOM = 340.0  # points for the matrix' height
_CELL = 34.0

_MOST_NODES = 4  # drawn; their texts have no room beside more
_WIDE, _HIGH = 332.0, 150.0  # points of the traffic's drawing
_NODE, _SWITCH = 46.0, 26.0  # heights of their boxes
_WIDEST_LINE = 12.0

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


@styled()
def traffic_figure(traffic: RingTraffic, num_nodes: int) -> Figure:
    """Draw what a ring moves inside a node, out of it and through the switch, bytes; of many nodes the first and the last."""
    figure, axes = new_axes(_HIGH, left=4)
    axes.set_axis_off()
    axes.set_xlim(-1, _WIDE + 1)
    axes.set_ylim(-1, _HIGH + 1)
    most = max(traffic.inside_bytes, traffic.line_bytes)
    _box(axes, (0, _HIGH - _SWITCH, _WIDE, _SWITCH), f"through the switch {format_bytes(round(traffic.switch_bytes))}", BLUE)
    drawn = range(num_nodes) if num_nodes <= _MOST_NODES else (0, 1, num_nodes - 1)
    room = _WIDE / len(drawn)
    for place, node in enumerate(drawn):
        left, line = place * room + 3, place * room + 3 + _WIDEST_LINE
        inside = f"inside\n{format_bytes(round(traffic.inside_bytes))}"
        _box(axes, (left, 0, room - 6, _NODE), f"node {node}\n{inside}", GREEN, share=traffic.inside_bytes / most)
        thick = max(_WIDEST_LINE * traffic.line_bytes / most, 1.0)
        axes.plot([line, line], [_NODE + 2, _HIGH - _SWITCH - 2], color=BLUE, linewidth=thick, solid_capstyle="butt")
        out = format_bytes(round(traffic.line_bytes))
        axes.text(line + _WIDEST_LINE / 2 + 4, (_NODE + _HIGH - _SWITCH) / 2, f"out\n{out}", va="center", size=10)
    if len(drawn) < num_nodes:
        axes.text(2 * room - 12, (_NODE + _HIGH - _SWITCH) / 2, "...", ha="center", va="center")
    figure.subplots_adjust(bottom=0.02, top=0.98)
    return figure


def _box(axes: Axes, place: tuple[float, float, float, float], text: str, colour: str, share: float = 1.0) -> None:
    x, y, width, height = place
    face = (colour, _FAINTEST + 0.3 * share)
    axes.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=INK, linewidth=0.6))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", size=10)
