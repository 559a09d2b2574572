"""Speedup over the rate of the wire, predicted and measured, with the boundary at which N ranks begin to pay."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.canvas import INK, SERIES, legend_above, new_axes, styled
from analysis.results import PredictionSet, WireRate
from commbench.units import format_line_rate

Points = Sequence[tuple[float, float]]


@styled()
def speedup_over_rate(
    predicted: Sequence[tuple[float, PredictionSet]],
    measured: Mapping[int, Points],
    crossings: Mapping[int, tuple[WireRate, WireRate | None]],
) -> Figure:
    """Draw one line a world size. `predicted`: (bit/s, predictions); `measured`: (bit/s, speedup) by world size."""
    figure, axes = new_axes(250, left=52, legend_rows=2)
    axes.axhline(1, color=INK, linewidth=0.8, alpha=0.5)
    for (n, points), (colour, marker) in zip(measured.items(), SERIES, strict=False):
        _draw_predicted(axes, predicted, n, colour)
        axes.plot(*_columns(points), linestyle="none", marker=marker, color=colour, label=f"measured: {n} ranks")
        for crossing, style in zip(crossings.get(n, ()), ("--", ":"), strict=False):
            if crossing is not None and crossing.bits_per_s is not None and crossing.inside:
                axes.axvline(crossing.bits_per_s, color=colour, linestyle=style, linewidth=1.2)
    rates = [rate for rate, _ in predicted]
    axes.set_xscale("log")
    axes.set_xticks(rates, [format_line_rate(rate) for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("rate of each host's line")
    axes.set_ylabel("speedup over one rank (x)")
    axes.set_ylim(bottom=0)
    return legend_above(figure)


def _draw_predicted(axes: Axes, predicted: Sequence[tuple[float, PredictionSet]], world_size: int, colour: str) -> None:
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
    axes.plot(rates, speedups, "-", color=colour, label=f"predicted: {world_size} ranks")
    for rate, p in found:
        if p.interval_s is not None:
            work_s = p.speedup * p.step_s
            axes.plot([rate, rate], [work_s / p.interval_s.high, work_s / p.interval_s.low], color=colour, linewidth=1)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
