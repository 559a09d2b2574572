"""What a matplotlib figure holds, read off it: its one pair of axes, lines, bars, error bars and legend."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure


def only(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def points(axes: Axes, label: str) -> list[list[float]]:
    """Return x and y of the line, or of the markers, with this label."""
    found = [line for line in axes.lines if line.get_label() == label]
    found += [container.lines[0] for container in axes.containers if container.get_label() == label]  # type: ignore[attr-defined]
    (line,) = found
    return [np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()]


def bars(axes: Axes, label: str) -> list[tuple[float, float]]:
    """Return the left end and the width of each bar with this label."""
    (container,) = (c for c in axes.containers if c.get_label() == label and isinstance(c, BarContainer))
    return [(round(bar.get_x(), 9), round(bar.get_width(), 9)) for bar in container]


def error_ends(axes: Axes, colour: str) -> list[list[float]]:
    """Return low and high of each error bar of this colour."""
    found = [c for c in axes.collections if c.get_edgecolor().size and np.allclose(c.get_edgecolor()[0], rgba(colour))]
    (collection,) = found
    return [segment[:, 1].tolist() for segment in collection.get_segments()]  # type: ignore[attr-defined]


def rgba(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
