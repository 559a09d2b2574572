"""What a training learned -> matplotlib Figures: loss and accuracy over optimizer steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from commprof.analysis.report.figures.canvas import SERIES, legend_above, new_axes, styled

MAX_RUNS = len(SERIES)
_MARKERS = 8  # of one line, at most

Points = Sequence[tuple[int, float]]


@styled()
def curve_figure(curves: Mapping[str, Points], label: str, *, marked: bool) -> Figure:
    """Draw (step, value) of each run; `marked` puts a marker on every point, not on a few that tell the lines apart.

    The keys become the legend: none from a file.
    """
    figure, axes = new_axes(230, left=56)
    for (name, points), (colour, marker) in zip(curves.items(), SERIES, strict=False):
        steps, values = zip(*points, strict=True)
        every = 1 if marked else apart(len(points))
        axes.plot(steps, values, f"{marker}-", color=colour, label=name, markersize=6 if marked else 4, markevery=every)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_ylabel(label)
    return legend_above(figure)


def apart(num_points: int) -> int:
    """Return at every how many points a line gets a marker, so that lines differ without colour and stay lines."""
    return -(-num_points // _MARKERS)


def thinned(points: Points, most: int) -> list[tuple[int, float]]:
    """Return at most so many points, each the mean over a stretch of neighbours, at its last step."""
    stretches = np.array_split(np.arange(len(points)), min(most, len(points)))
    steps, values = np.array([step for step, _ in points]), np.array([value for _, value in points])
    return [(int(steps[own[-1]]), float(values[own].mean())) for own in stretches]
