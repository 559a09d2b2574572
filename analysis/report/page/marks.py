"""Where a figure's marks lie and what each says, so that a page can tell values under a pointer or a key.

A mark is a marker of a line or a bar. Its place is in the figure's SVG, points from the upper left; its words are the series'
name and both values with the units that the axes name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from commprof.commbench.units import format_bytes, format_rate, format_seconds

Floats = NDArray[np.float64]

_MOST_OF_A_LINE = 40
MOST_MARKS = 400  # of a figure: more would be neither hit by a pointer nor gone through by keys

_NAMED = re.compile(r"(.*?) \(([^;)]*)[^)]*\)$")
_FORMS = {"bytes": format_bytes, "bytes/s": format_rate, "s": format_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A rectangle in an SVG's coordinates that a value belongs to, and the value in words."""

    x: float
    y: float
    width: float
    height: float
    words: str


def marks_of(figure: Figure) -> tuple[Mark, ...]:
    """Return the marks of a figure that has been drawn once, from left to right within each series."""
    found = [mark for axes in figure.axes for mark in (*_points(axes), *_bars(axes))]
    return tuple(found[:MOST_MARKS])


def _points(axes: Axes) -> Iterator[Mark]:
    for line in axes.lines:
        if line.get_marker() in ("None", None, "", " ") or line.get_transform() != axes.transData:
            continue
        data = [np.asarray(values, dtype=float) for values in line.get_data()]
        every = max(1, -(-len(data[0]) // _MOST_OF_A_LINE))
        xs, ys = (values[::every] for values in data)
        for x, y in zip(xs, ys, strict=True):
            if np.isfinite(x) and np.isfinite(y):
                yield _mark(axes, axes.transData.transform(np.array([[x, y]] * 2)), _of_point(axes, line, x, y))


def _of_point(axes: Axes, line: Line2D, x: float, y: float) -> str:
    label = str(line.get_label())
    series = "" if label.startswith("_") else f"{label}: "
    return f"{series}{_value(axes, 'x', x)}, {_value(axes, 'y', y)}"


def _bars(axes: Axes) -> Iterator[Mark]:
    for container in axes.containers:
        if not isinstance(container, BarContainer):
            continue
        label = str(container.get_label())
        for bar in container:
            low, high = bar.get_bbox().get_points()
            if high[0] == low[0]:
                continue
            row = _row_name(axes, float(low[1] + high[1]) / 2)
            told = ": ".join(part for part in (row, "" if label.startswith("_") or label in row else label) if part)
            value = _value(axes, "x", float(high[0] - low[0]))
            yield _mark(axes, axes.transData.transform([low, high]), f"{told}: {value}" if told else value)


def _row_name(axes: Axes, y: float) -> str:
    """Return the label of the row that a bar stands in: the nearest tick's."""
    names = [(abs(tick - y), label.get_text()) for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=False)]
    distance, name = min(names, default=(1.0, ""))
    return " ".join(name.split()) if distance < 0.5 else ""


def _value(axes: Axes, side: str, value: float) -> str:
    """Write a value with the name and the unit of its axis."""
    label = axes.get_xlabel() if side == "x" else axes.get_ylabel()
    named = _NAMED.fullmatch(label)
    if named is None:
        return f"{label} {value:.4g}".strip()
    name, unit = named[1], named[2]
    form = _FORMS.get(unit)
    told = form(value) if form is not None and value > 0 else f"{value:.4g}{unit if unit in ('x', '%') else f' {unit}'}"
    return f"{name} {told}"


def _mark(axes: Axes, corners: Floats, words: str) -> Mark:
    """Return a mark of at least eight points a side around these pixels."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn on a figure"
    box = Bbox(corners * 72 / figure.dpi)
    width, height = max(8.0, box.width), max(8.0, box.height)
    x, y = (box.x0 + box.x1) / 2 - width / 2, 72 * figure.get_figheight() - (box.y0 + box.y1) / 2 - height / 2
    x, y, width, height = (round(float(value), 1) for value in (x, y, width, height))
    return Mark(x=x, y=y, width=width, height=height, words=words)
