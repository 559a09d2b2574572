"""What every figure of a report shares: its style, axes that carry units, a legend above the data instead of over it.

Ink and paper are marker colours that a page may replace by its own (`currentColor`); the palette is Okabe and Ito's, safe for
colour-blind eyes. Whatever a user's matplotlibrc says, text is drawn as it is: no TeX, no mathtext.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil, floor, log2, log10
from threading import RLock

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from commprof.commbench.units import format_bytes

INK, PAPER = "#010203", "#fefdfc"
GREY, BLUE, VERMILLION, GREEN = "#8c8c8c", "#0072b2", "#d55e00", "#009e73"
PURPLE, ORANGE, SKY = "#cc79a7", "#e69f00", "#56b4e9"
SERIES = tuple(zip((GREEN, PURPLE, ORANGE, SKY, BLUE, VERMILLION), "osD^vP", strict=True))
MOST_SERIES = len(SERIES) ** 2  # that one figure can tell apart

_EDGE = 4.0  # points between a figure's edge and its legend
_NAME_BELOW, _NAME_BESIDE = 24.0, 14.0  # points from a figure's edges: the top of the x axis' name, the right of the y axis'
_MOST_TICKS = 6  # stretches between them, where a figure does not choose its own
_WIDTH = 360.0  # points; 358 CSS pixels are a telephone's column, where text then keeps its 11 px
_CHARACTER, _HANDLE = 5.5, 36.0  # points that a letter takes, and a legend's line with its gaps
_WIDE_CHARACTER = 6.2
_NOTEBOOK_DPI = 144
_LARGEST_LINEAR_AXIS = 16  # ranks; beyond, doublings lie at equal distances
_STYLE = {
    "font.size": 11,
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "errorbar.capsize": 3,
}
_style_of_all_threads = RLock()
_in_style = ContextVar("_in_style", default=False)


class _ShownFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot; `plot_height` and `plot_left` are points (`_arrange`)."""

    plot_height = 0.0
    plot_left = 0.0

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with styled():
            self.savefig(buffer, format="png", dpi=_NOTEBOOK_DPI)
        return buffer.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style; hold it while saving too, because tick labels are made then.

    To enter it takes a millisecond, so a page with many figures holds it throughout, and within that it is there already.
    matplotlib has one style for all threads, so one thread draws at a time, and what was set before is there again after it.
    """
    if _in_style.get():
        yield
        return
    entered = _in_style.set(True)
    try:
        with _style_of_all_threads, matplotlib.style.context(["default", _STYLE]):
            yield
    finally:
        _in_style.reset(entered)


def new_axes(height: float, *, left: float) -> tuple[Figure, Axes]:
    """Return a figure of fixed width and its axes; margins in points, so that text has room at every height."""
    figure = _ShownFigure()
    figure.plot_height, figure.plot_left = height, left
    axes = figure.add_subplot()
    _arrange(figure, legend_rows=0)
    _place_names(figure, axes)
    axes.locator_params(nbins=_MOST_TICKS)
    return figure, axes


def _place_names(figure: Figure, axes: Axes) -> None:
    """Give the axes' names their places in the margins, which matplotlib would find by measuring every tick's label twice."""
    points = figure.dpi_scale_trans
    axes.xaxis.set_label_coords(0.5, _NAME_BELOW / 72, transform=blended_transform_factory(axes.transAxes, points))
    axes.yaxis.set_label_coords(_NAME_BESIDE / 72, 0.5, transform=blended_transform_factory(points, axes.transAxes))


def _arrange(figure: _ShownFigure, legend_rows: int) -> None:
    """Leave room for so many rows of a legend above the axes."""
    top = _EDGE + 14 + 17 * legend_rows
    share = figure.plot_height + top
    figure.set_size_inches(_WIDTH / 72, share / 72)
    figure.subplots_adjust(left=figure.plot_left / _WIDTH, right=1 - 24 / _WIDTH, bottom=46 / share, top=1 - top / share)


def series_style(index: int) -> tuple[str, str]:
    """Return the colour and the marker of a series, a pair that no other of the first MOST_SERIES has."""
    return SERIES[index % len(SERIES)][0], SERIES[(index + index // len(SERIES)) % len(SERIES)][1]


def label_width(labels: Iterable[str]) -> float:
    """Return the points that the longest label beside an axis takes."""
    return max(map(len, labels), default=0) * _WIDE_CHARACTER + 10


def speedup_width(world_size: int) -> float:
    """Return the points beside an axis of speedups up to so many ranks."""
    return max(52.0, 28 + 7 * len(str(world_size)))


def legend_above(figure: Figure, columns: int = 3) -> Figure:
    """Put the legend between the figure's upper edge and the axes, where it covers nothing; what matters most first.

    In so many columns at most: as many as its labels have room for.
    """
    (axes,) = figure.axes
    entries = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: _place(entry[1]))
    most = min(columns, _columns([label for _, label in entries]))
    if isinstance(figure, _ShownFigure):
        _arrange(figure, legend_rows=ceil(len(entries) / most))
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="upper left",
        bbox_to_anchor=(_EDGE / (72 * figure.get_figwidth()), 1 - _EDGE / (72 * figure.get_figheight())),
        ncols=most,
        columnspacing=1.3,
        handletextpad=0.6,
        borderaxespad=0.0,
        borderpad=0.1,
    )
    return figure


def _columns(labels: Sequence[str]) -> int:
    """Return how many columns of a legend, filled one after the other, find room beside each other."""
    widths = [len(label) * _CHARACTER + _HANDLE for label in labels]

    def taken(columns: int) -> float:
        rows = ceil(len(widths) / columns)
        return sum(max(widths[start : start + rows]) for start in range(0, len(widths), rows))

    return next((columns for columns in range(len(widths), 1, -1) if taken(columns) <= _WIDTH), 1)


def _place(label: str) -> int:
    return next((place for place, word in enumerate(("measured", "predicted")) if label.startswith(word)), 2)


def time_unit(longest_s: float) -> tuple[float, str]:
    """Return the seconds in, and the name of, the unit in which this time reads best on an axis."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if longest_s >= 2 * scale:
            return scale, unit
    return 1e-6, "us"


def bar_axis(axes: Axes, label: str, rows: int) -> None:
    """Set up horizontal bars, the first row on top, the value axis from zero and named."""
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.set_ylim(rows - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def rank_axis(axes: Axes, world_sizes: Collection[int], shared: Collection[int]) -> None:
    """Set up the x axis over ranks, the stretch where ranks share cores shaded; room on the right for a value's label."""
    largest = max(world_sizes)
    axes.set_xlabel("ranks")
    if is_long(world_sizes):
        axes.set_xscale("log", base=2)
        axes.set_xlim(0.85, largest**1.15)
    else:
        axes.set_xlim(1 - 0.06 * (largest - 1), largest + 0.15 * (largest - 1))
    shown = _with_room(world_sizes, log2 if is_long(world_sizes) else float)
    axes.set_xticks(shown, [str(n) for n in shown])
    axes.minorticks_off()
    if crowded := [n for n in world_sizes if n in shared]:
        first, right = min(crowded), axes.get_xlim()[1]
        edge = (max((n for n in world_sizes if n < first), default=first) + first) / 2
        axes.axvspan(edge, right, color=GREY, alpha=0.16, linewidth=0)
        note = axes.text(right, 0.02, "ranks share cores ", transform=axes.get_xaxis_transform(), ha="right", va="bottom")
        note.set(size=10, style="italic")


def _with_room(world_sizes: Collection[int], place: Callable[[int], float]) -> list[int]:
    """Return the numbers of ranks whose labels do not run into each other: the ends, then powers of two, then the others."""
    first, last = min(world_sizes), max(world_sizes)
    points = 0.8 * _WIDTH / max(place(last) - place(first), 1e-9)
    kept = [last]
    for n in sorted(world_sizes, key=lambda n: (n != first, n.bit_count() > 1, -n)):
        room = [_CHARACTER * (len(f"{n}{other}") / 2 + 1.5) for other in kept]
        if all(points * abs(place(n) - place(other)) > gap for other, gap in zip(kept, room, strict=True)):
            kept.append(n)
    return sorted(kept)


def from_zero(axes: Axes) -> None:
    """Begin the y axis at zero and leave room for a marker above the highest value."""
    axes.set_ylim(0, 1.04 * axes.get_ylim()[1])


def is_long(world_sizes: Collection[int]) -> bool:
    """Say whether the rank axis is logarithmic."""
    return max(world_sizes) > _LARGEST_LINEAR_AXIS


def size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """Set up a logarithmic x axis over message sizes, with ticks at powers of two."""
    axes.set_xscale("log", base=2)
    low, high = log2(min(sizes)), log2(max(sizes))
    step = next(step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 5)
    ticks = [2**k for k in range(ceil(low / step) * step, floor(high) + 1, step)] or [min(sizes)]
    axes.set_xticks(ticks, [format_bytes(size) for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("message size (bytes)")


def log_value_axis(axes: Axes, low: float, high: float, label: str, form: Callable[[float], str]) -> None:
    """Set up a logarithmic y axis around the values, ticks at 1, 2, 5 of each decade, closer or at decades only."""
    steps: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 7) if high / low < 4 else (1, 2, 5) if high / low < 200 else (1,)
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    marks = [step * 10.0**decade for decade in decades for step in steps]
    bottom = max(mark for mark in marks if mark <= low)
    top = min((mark for mark in marks if mark >= high and mark > bottom), default=2 * high)
    ticks = [mark for mark in marks if bottom <= mark <= top]
    axes.set_yscale("log")
    axes.set_yticks(ticks, [form(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom, top)
    axes.set_ylabel(label)
