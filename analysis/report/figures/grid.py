"""Speedup over the rate of the wire, predicted and measured, with the boundary at which N ranks begin to pay."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import INK, SERIES, from_zero, legend_above, new_axes, styled
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.results import Boundary, WireRate
from commprof.commbench.units import format_line_rate

_FINE = 100  # points of a line between the rates

Points = Sequence[tuple[float, float]]


@styled()
def speedup_over_rate(
    predicted: Sequence[tuple[float, PredictionSet]],
    measured: Mapping[int, Points],
    boundaries: Mapping[int, tuple[Boundary, WireRate | None]],
) -> Figure:
    """Draw one line a world size. `predicted`: (bit/s, predictions); `measured`: (bit/s, speedup) by world size.

    Between the rates the line follows the communication that shows, straight in log-log, as the boundary does.
    """
    figure, axes = new_axes(250, left=52)
    axes.axhline(1, color=INK, linewidth=0.8, alpha=0.5)
    for (n, points), (colour, marker) in zip(measured.items(), SERIES, strict=False):
        boundary, found = boundaries.get(n, (None, None))
        _draw_predicted(axes, predicted, n, boundary, colour)
        axes.plot(*_columns(points), linestyle="none", marker=marker, color=colour, label=f"measured: {n} ranks")
        for crossing, style in ((boundary.by_schedule if boundary else None, "--"), (found, ":")):
            if crossing is not None and crossing.bits_per_s is not None and crossing.inside:
                axes.axvline(crossing.bits_per_s, color=colour, linestyle=style, linewidth=1.2)
    rates = [rate for rate, _ in predicted]
    axes.set_xscale("log")
    axes.set_xticks(rates, [format_line_rate(rate) for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("rate of each host's line")
    axes.set_ylabel("speedup over one rank (x)")
    from_zero(axes)
    return legend_above(figure, columns=2)


def _draw_predicted(
    axes: Axes, predicted: Sequence[tuple[float, PredictionSet]], world_size: int, boundary: Boundary | None, colour: str
) -> None:
    found = sorted(
        (
            (rate, p)
            for rate, known in predicted
            for p in known.predictions
            if p.model == "schedule" and p.world_size == world_size
        ),
        key=lambda entry: entry[0],
    )
    rates, speedups = [rate for rate, _ in found], [p.speedup for _, p in found]
    if boundary is not None and all(p.step_s > boundary.compute_s for _, p in found):
        shown = [p.step_s - boundary.compute_s for _, p in found]
        fine = np.geomspace(rates[0], rates[-1], _FINE)
        exposed = np.exp(np.interp(np.log(fine), np.log(rates), np.log(shown)))
        rates, speedups = fine.tolist(), (boundary.work_s / (boundary.compute_s + exposed)).tolist()
    axes.plot(rates, speedups, "-", color=colour, label=f"predicted: {world_size} ranks")
    for rate, p in found:
        if p.interval_s is not None:
            work_s = p.speedup * p.step_s
            axes.plot([rate, rate], [work_s / p.interval_s.high, work_s / p.interval_s.low], color=colour, linewidth=1)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
