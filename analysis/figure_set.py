"""Experiments -> every figure that their data allow, by a name that stays the same, and which ones lack data and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.experiment import Cell
from analysis.experiments_below import Experiment, Found
from analysis.grid_page import build_grid_report
from analysis.load import select
from analysis.overview_plots import (
    Comparison,
    comparisons,
    efficiency_bars,
    predicted_measured_figure,
    speedup_bars,
)
from analysis.report import build_report
from analysis.report_data import Material, cell_material
from analysis.report_page import Report
from analysis.study_report import read_grid
from analysis.training_plots import accuracy_curve, accuracy_figure, loss_curve, loss_figure
from commbench.errors import CommprofError

_PREDICTED = "a prediction, from a training run on one rank and a bench of the wire"
_NEEDED: Mapping[str, str] = {
    "speedup": _PREDICTED,
    "step-time": _PREDICTED,
    "overhead": _PREDICTED,
    "errors": "a training run that checks a prediction",
    "bandwidth": "a bench on two ranks or more",
    "latency": "a bench on two ranks or more",
    "anatomy": "a training run with steps beyond warm-up",
    "loss-over-time": "training losses",
    "loss-over-samples": "training losses",
    "accuracy-over-time": "evaluations (training.evaluate)",
    "accuracy-over-samples": "evaluations (training.evaluate)",
}
_COMPARED = "training runs on one rank and on more, or a prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFigure:
    """A figure to write, named after its experiment and what it shows."""

    name: str
    figure: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFigure:
    """Figures that were left out, and what they lack."""

    names: tuple[str, ...]
    reason: str


def figures_of(found: Found) -> Iterator[NamedFigure | MissingFigure]:
    """Yield the figures of each experiment, of each study of several, and of all experiments beside each other."""
    rows: list[Comparison] = []
    for experiment in found.experiments:
        try:
            material = cell_material(experiment.runs, experiment.folder)
            report = build_report(material, experiment.folder / "report.html")
        except CommprofError as error:
            yield MissingFigure(names=(experiment.name,), reason=str(error))
            continue
        rows += comparisons(experiment.name, material)
        yield from _own_figures(experiment, material, report)
    for root, cells in found.grids:
        yield from _grid_figures(root, cells)
    yield from _overview(rows)


def _own_figures(experiment: Experiment, material: Material, report: Report) -> Iterator[NamedFigure | MissingFigure]:
    drawn = {p.name: p.figure for p in (*report.pictures, *(p for section in report.sections for p in section.pictures))}
    drawn |= _learning(material)
    yield from (NamedFigure(name=f"{experiment.name} {name}", figure=figure) for name, figure in drawn.items())
    for reason in dict.fromkeys(_NEEDED.values()):
        if names := tuple(
            f"{experiment.name} {name}" for name, need in _NEEDED.items() if need == reason and name not in drawn
        ):
            yield MissingFigure(names=names, reason=f"no data; it takes {reason}")


def _grid_figures(root: Path, cells: Sequence[Cell]) -> Iterator[NamedFigure | MissingFigure]:
    try:
        report = build_grid_report(read_grid(root, cells))
    except CommprofError as error:
        yield MissingFigure(names=(root.name,), reason=str(error))
        return
    yield from (NamedFigure(name=f"{root.name} {picture.name}", figure=picture.figure) for picture in report.pictures)


def _learning(material: Material) -> dict[str, Figure]:
    runs = select(material.runs, kind="train", synchronised=True)
    figures = {}
    if losses := [curve for run in runs if (curve := loss_curve(run)) is not None]:
        figures["loss-over-time"] = loss_figure(losses, "time")
        figures["loss-over-samples"] = loss_figure(losses, "samples")
    if accuracies := [curve for run in runs if (curve := accuracy_curve(run)) is not None]:
        figures["accuracy-over-time"] = accuracy_figure(accuracies, "time")
        figures["accuracy-over-samples"] = accuracy_figure(accuracies, "samples")
    return figures


def _overview(rows: Sequence[Comparison]) -> Iterator[NamedFigure | MissingFigure]:
    if rows:
        yield NamedFigure(name="speedup-bars", figure=speedup_bars(rows))
        yield NamedFigure(name="efficiency-bars", figure=efficiency_bars(rows))
    else:
        yield MissingFigure(names=("speedup-bars", "efficiency-bars"), reason=f"no data; it takes {_COMPARED}")
    if any(row.measured_step_s and row.predicted for row in rows):
        yield NamedFigure(name="predicted-measured", figure=predicted_measured_figure(rows))
    else:
        yield MissingFigure(names=("predicted-measured",), reason=f"no data; it takes {_NEEDED['errors']}")
