"""Experiments beside each other: measured and predicted speedup, efficiency and step, one row or point each world size.

Names of experiments come from files. They are drawn as `shortened` leaves them: in characters that the font has, not too long.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.figure import Figure

from commprof.analysis.report.figures.canvas import (
    BLUE,
    INK,
    PAPER,
    SERIES,
    VERMILLION,
    bar_axis,
    legend_above,
    log_value_axis,
    new_axes,
    styled,
)
from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.plain_text import shortened
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.results import Prediction
from commprof.commbench.units import format_seconds

_LONGEST_NAME = 36
_CHARACTER = 6.0  # points, at 10 point type
_ROW = 30.0  # points
_BOX = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5}  # keeps a value legible on a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One experiment at one world size. `work_s` W: one rank's seconds for the samples of one step of N."""

    experiment: str
    world_size: int
    work_s: float
    measured_step_s: float | None
    predicted: Prediction | None

    @property
    def measured_speedup(self) -> float | None:
        return None if self.measured_step_s is None else self.work_s / self.measured_step_s

    @property
    def predicted_speedup(self) -> float | None:
        return None if self.predicted is None else self.work_s / self.predicted.step_s


def comparisons(experiment: str, material: Material) -> Iterator[Comparison]:
    """Yield each world size above one that was measured or predicted; nothing where one rank alone was neither."""
    training = material.compared
    alone = [run.median_step_s() for run in material.alone]
    planned = {p.world_size: p for p in material.predicted.predictions if p.model == "schedule"} if material.predicted else {}
    if not alone and material.predicted is None:
        return
    single_s = median(alone) if alone else material.predicted.single_step_s  # type: ignore[union-attr]
    scaling = training[0].info.workload.scaling if training and training[0].info.workload else "weak"
    for n in sorted({*planned, *(run.world_size for run in training)} - {1, *material.contradicted}):
        steps_s = [run.median_step_s() for run in training if run.world_size == n]
        yield Comparison(
            experiment=experiment,
            world_size=n,
            work_s=work_s(single_s, n, scaling),
            measured_step_s=median(steps_s) if steps_s else None,
            predicted=planned.get(n),
        )


def speedup_bars(rows: Sequence[Comparison]) -> Figure:
    """Draw each row's speedup over one rank, in samples per second; the line is one rank."""
    return _bars(rows, "speedup over one rank (x)", lambda speedup, _: speedup, "{:.2f}".format, line=1)


def efficiency_bars(rows: Sequence[Comparison]) -> Figure:
    """Draw each row's speedup over its ranks; the line is what a free wire would give."""
    return _bars(rows, "efficiency (%)", lambda speedup, n: 100 * speedup / n, "{:.1f}".format, line=100)


@styled()
def predicted_measured_figure(rows: Sequence[Comparison]) -> Figure:
    """Draw each row's predicted over its measured step, both logarithmic, with 90 % intervals; on the line they agree."""
    checked = [(row.world_size, row.measured_step_s, row.predicted) for row in rows if row.measured_step_s and row.predicted]
    figure, axes = new_axes(290, left=78)
    for index, n in enumerate(sorted({n for n, _, _ in checked})):
        colour, marker = SERIES[index % len(SERIES)]
        points = [(measured_s, p) for world_size, measured_s, p in checked if world_size == n]
        axes.plot([s for s, _ in points], [p.step_s for _, p in points], marker, color=colour, label=ranks(n))
        for measured_s, p in points:
            if p.interval_s is not None:
                axes.plot([measured_s] * 2, [p.interval_s.low, p.interval_s.high], color=colour, linewidth=1)
    times_s = [s for _, measured_s, p in checked for s in (measured_s, p.step_s)]
    log_value_axis(axes, min(times_s), max(times_s), "predicted step (s)", format_seconds)
    ticks = axes.get_yticks()
    axes.set_xscale("log")
    axes.set_xticks(ticks, [format_seconds(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(axes.get_ylim())
    axes.axline((ticks[0], ticks[0]), (ticks[-1], ticks[-1]), color=INK, linewidth=0.8, alpha=0.5)
    axes.set_xlabel("measured step (s)")
    return legend_above(figure, columns=4)


@styled()
def _bars(
    rows: Sequence[Comparison],
    label: str,
    value: Callable[[float, int], float],
    form: Callable[[float], str],
    *,
    line: float,
) -> Figure:
    names = [shortened(row.experiment, _LONGEST_NAME) for row in rows]
    figure, axes = new_axes(58 + _ROW * len(rows), left=14 + _CHARACTER * max(len(name) for name in (*names, "10 ranks")))
    measured, predicted = [row.measured_speedup for row in rows], [row.predicted_speedup for row in rows]
    for shift, colour, name, speedups in ((-0.19, VERMILLION, "measured", measured), (0.19, BLUE, "predicted", predicted)):
        known = [(i + shift, s, row.world_size) for i, (row, s) in enumerate(zip(rows, speedups, strict=True)) if s]
        if known:
            ys, widths = [y for y, _, _ in known], [value(speedup, n) for _, speedup, n in known]
            axes.barh(ys, widths, height=0.36, color=colour, label=name)
            for y, width in zip(ys, widths, strict=True):
                axes.annotate(form(width), (width, y), (3, 0), textcoords="offset points", va="center", fontsize=9, bbox=_BOX)
    axes.axvline(line, color=INK, linewidth=0.8, alpha=0.5, zorder=2.5)
    axes.set_yticks(
        range(len(rows)), [f"{name}\n{ranks(row.world_size)}" for name, row in zip(names, rows, strict=True)], size=10
    )
    axes.margins(x=0.12)
    bar_axis(axes, label, len(rows))
    return legend_above(figure)
