"""Where a figure's marks lie and what each says, so that a page can tell values under a pointer or a key.

A mark is a marker of a line or a bar. Its place is in the figure's SVG, points from the upper left; its words are the series'
name and both values with the units that the axes name.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
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
    """Yield a mark for each marker of a line, at most so many of a long one."""
    x_words, y_words = _words_of(axes.get_xlabel()), _words_of(axes.get_ylabel())
    for line in axes.lines:
        if line.get_marker() in ("None", None, "", " ") or line.get_transform() != axes.transData:
            continue
        data = np.column_stack([np.asarray(values, dtype=float) for values in line.get_data()])
        shown = data[:: max(1, -(-len(data) // _MOST_OF_A_LINE))]
        shown = shown[np.isfinite(shown).all(axis=1)]
        label = str(line.get_label())
        series = "" if label.startswith("_") else f"{label}: "
        words = [f"{series}{x_words(x)}, {y_words(y)}" for x, y in shown.tolist()]
        yield from _marks(axes, np.stack([shown, shown], axis=1), words)


def _bars(axes: Axes) -> Iterator[Mark]:
    """Yield a mark for each bar that has a length, with the name of its row."""
    containers = [container for container in axes.containers if isinstance(container, BarContainer)]
    if not containers:
        return
    value_words, row_name = _words_of(axes.get_xlabel()), _row_names(axes)
    for container in containers:
        label = str(container.get_label())
        boxes = np.array([bar.get_bbox().get_points() for bar in container]).reshape(-1, 2, 2)
        boxes = boxes[boxes[:, 0, 0] != boxes[:, 1, 0]]
        words = []
        for (left, bottom), (right, top) in boxes.tolist():
            row = row_name((bottom + top) / 2)
            told = ": ".join(part for part in (row, "" if label.startswith("_") or label in row else label) if part)
            value = value_words(right - left)
            words.append(f"{told}: {value}" if told else value)
        yield from _marks(axes, boxes, words)


def _row_names(axes: Axes) -> Callable[[float], str]:
    """Return what tells the label of the row that a bar stands in: the nearest tick's."""
    rows = [(tick, label.get_text()) for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=False)]

    def name(y: float) -> str:
        distance, found = min(((abs(tick - y), text) for tick, text in rows), default=(1.0, ""))
        return " ".join(found.split()) if distance < 0.5 else ""

    return name


def _words_of(label: str) -> Callable[[float], str]:
    """Return what writes a value with the name and the unit of its axis."""
    named = _NAMED.fullmatch(label)
    if named is None:
        return lambda value: f"{label} {value:.4g}".strip()
    name, unit = named[1], named[2]
    form, behind = _FORMS.get(unit), unit if unit in ("x", "%") else f" {unit}"
    return lambda value: f"{name} {form(value) if form is not None and value > 0 else f'{value:.4g}{behind}'}"


def _marks(axes: Axes, corners: Floats, words: Sequence[str]) -> Iterator[Mark]:
    """Yield marks of at least eight points a side around pairs of corners, in data's coordinates: (marks, 2, 2)."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn on a figure"
    points = axes.transData.transform(corners.reshape(-1, 2)).reshape(-1, 2, 2) * 72 / figure.dpi
    sides = np.maximum(8.0, np.abs(points[:, 1] - points[:, 0]))
    left_bottom = (points[:, 0] + points[:, 1]) / 2 - sides / 2
    top = 72 * figure.get_figheight() - left_bottom[:, 1] - sides[:, 1]
    places = np.round(np.column_stack([left_bottom[:, 0], top, sides]), 1).tolist()
    for (x, y, width, height), text in zip(places, words, strict=True):
        yield Mark(x=x, y=y, width=width, height=height, words=text)
