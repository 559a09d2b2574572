"""Experiments -> every figure that their data allow, by a name that stays the same, and which ones lack data and why."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from commprof.analysis.report.figures.overview import (
    Comparison,
    comparisons,
    efficiency_bars,
    predicted_measured_figure,
    speedup_bars,
)
from commprof.analysis.report.figures.training import Against, Curve, accuracy_curve, accuracy_figure, loss_curve, loss_figure
from commprof.analysis.report.numbers.data import Material, cell_material, count_steps, raw_files
from commprof.analysis.report.page.html import Picture, Report
from commprof.analysis.report.sections.build import build_report
from commprof.analysis.report.study.grid_page import build_grid_report
from commprof.analysis.report.study.pages import read_grid
from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.kept import PREDICTIONS_FILE
from commprof.analysis.study.below import Experiment, Found
from commprof.analysis.study.experiment import Cell
from commprof.commbench.errors import CommprofError

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
    """A figure to write, named after its experiment and what it shows; `caption` tells its samples and its raw files."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFigure:
    """Figures that were left out, and what they lack."""

    names: tuple[str, ...]
    reason: str


Figures = Sequence[NamedFigure | MissingFigure]


def num_sets(found: Found) -> int:
    """Return how many sets `figure_sets` yields."""
    return len(found.experiments) + len(found.grids) + 1


def figure_sets(found: Found) -> Iterator[Figures]:
    """Yield the figures of each experiment, of each study of several, and of all experiments beside each other."""
    rows: list[Comparison] = []
    compared: list[Experiment] = []
    for experiment in found.experiments:
        try:
            material = cell_material(experiment.runs, experiment.folder)
            report = build_report(material, experiment.folder / "report.html")
        except CommprofError as error:
            yield [MissingFigure(names=(experiment.name,), reason=str(error))]
            continue
        if own := list(comparisons(experiment.name, material)):
            rows += own
            compared.append(experiment)
        yield list(_own_figures(experiment, material, report))
    for root, cells in found.grids:
        yield list(_grid_figures(root, cells))
    yield list(_overview(rows, compared))


def _own_figures(experiment: Experiment, material: Material, report: Report) -> Iterator[NamedFigure | MissingFigure]:
    folder = _folder(experiment)
    pictures = [*report.pictures, *(p for section in report.sections for p in section.pictures)]
    drawn = [_named(experiment.name, picture, folder) for picture in pictures] + list(_learning(experiment, material))
    yield from drawn
    names = {figure.name for figure in drawn}
    for reason in dict.fromkeys(_NEEDED.values()):
        needing = (f"{experiment.name} {name}" for name, need in _NEEDED.items() if need == reason)
        if lacking := tuple(name for name in needing if name not in names):
            yield MissingFigure(names=lacking, reason=f"no data; it takes {reason}")


def _grid_figures(root: Path, cells: Sequence[Cell]) -> Iterator[NamedFigure | MissingFigure]:
    try:
        report = build_grid_report(read_grid(root, cells))
    except CommprofError as error:
        yield MissingFigure(names=(root.name,), reason=str(error))
        return
    yield from (_named(root.name, picture, root) for picture in report.pictures)


def _named(whose: str, picture: Picture, folder: Path) -> NamedFigure:
    caption = f"{picture.title}. {picture.caption} {_drawn_from(folder, picture.sources)}"
    return NamedFigure(name=f"{whose} {picture.name}", figure=picture.figure, caption=caption)


def _folder(experiment: Experiment) -> Path:
    return experiment.runs[0].path.parent


def _drawn_from(folder: Path, sources: Sequence[str]) -> str:
    return f"Drawn from, in {folder}: {', '.join(sources)}."


def _learning(experiment: Experiment, material: Material) -> Iterator[NamedFigure]:
    runs = select(material.runs, kind="train", synchronised=True)
    losses = [(run, curve) for run in runs if (curve := loss_curve(run)) is not None]
    accuracies = [(run, curve) for run in runs if (curve := accuracy_curve(run)) is not None]
    axes: tuple[Against, ...] = ("time", "samples")
    for what, found, draw in (("loss", losses, loss_figure), ("accuracy", accuracies, accuracy_figure)):
        for against in axes if found else ():
            yield NamedFigure(
                name=f"{experiment.name} {what}-over-{against}",
                figure=draw([curve for _, curve in found], against),
                caption=_learning_caption(what, against, found, _folder(experiment)),
            )


def _learning_caption(what: str, against: Against, found: Sequence[tuple[Run, Curve]], folder: Path) -> str:
    runs, sources = [run for run, _ in found], list(raw_files([run for run, _ in found]))
    if what == "loss":
        told = "Training loss: mean cross-entropy over the ranks (nats), long runs as means of equal stretches"
        counted = count_steps(runs)
    else:
        told = "Accuracy on held-out data (%)"
        counted = f"evaluations: {', '.join(f'{run.path.name} {len(curve.values)}' for run, curve in found)}"
        sources += [f"{run.path.name}/evaluations.jsonl" for run in runs]
    axis = "the time of the steps that count" if against == "time" else "the samples that all ranks have seen"
    return f"{told}, over {axis}; {counted}. {_drawn_from(folder, sources)}"


def _overview(rows: Sequence[Comparison], compared: Sequence[Experiment]) -> Iterator[NamedFigure | MissingFigure]:
    told = " ".join(_measured(experiment) for experiment in compared)
    if rows:
        for name, title, draw in (
            ("speedup-bars", "Samples per second over one rank's", speedup_bars),
            ("efficiency-bars", "Speedup over the number of ranks", efficiency_bars),
        ):
            caption = f"{title}. Measured: medians of the steps that count. Predicted: the bucket schedule. {told}"
            yield NamedFigure(name=name, figure=draw(rows), caption=caption)
    else:
        yield MissingFigure(names=("speedup-bars", "efficiency-bars"), reason=f"no data; it takes {_COMPARED}")
    if any(row.measured_step_s and row.predicted for row in rows):
        caption = (
            "Predicted step, its bar the 90 % interval, over the measured median; on the line they agree. One point an "
            f"experiment and number of ranks. {told}"
        )
        yield NamedFigure(name="predicted-measured", figure=predicted_measured_figure(rows), caption=caption)
    else:
        yield MissingFigure(names=("predicted-measured",), reason=f"no data; it takes {_NEEDED['errors']}")


def _measured(experiment: Experiment) -> str:
    """Tell an experiment's samples and files."""
    runs = select(experiment.runs, kind="train", synchronised=True)
    folder, predictions = _folder(experiment), experiment.folder / PREDICTIONS_FILE
    sources = [*raw_files(runs), *([os.path.relpath(predictions, folder)] if predictions.exists() else [])]
    return f"{experiment.name}: {count_steps(runs)}. {_drawn_from(folder, sources)}"
