"""A study's folder -> its predictions, study.csv, and a page: of its one cell, or of the grid with a page for each cell."""

from collections.abc import Sequence
from pathlib import Path

from analysis.experiment import (
    BOUNDARY_FILE,
    PREDICTIONS_FILE,
    Cell,
    cell_folder,
    cells_of,
    is_grid,
    line_rate,
    predicted_boundaries,
    read_predictions,
)
from analysis.grid_page import Grid, build_grid_report
from analysis.load import load_runs
from analysis.predict import predict
from analysis.report import write_cell_report
from analysis.report_page import render
from analysis.results import Boundary, PredictionSet
from analysis.study_table import study_rows, to_csv
from analysis.verdict import outcomes, verdict
from commbench.errors import BadInput, CommprofError
from commbench.rundir import read_document, read_info, write_document, write_text


def write_predictions(root: Path, experiment: str, *, grid: bool) -> dict[str, str]:
    """Predict a model's cells that have no prediction yet, and where it begins to pay; return which could not be and why.

    `grid` says that the study has several cells. A prediction on disk is never replaced: runs may have been checked against it.
    """
    failures = {}
    own = [cell for cell in cells_of(load_runs([root])) if cell.experiment == experiment]
    for cell in own:
        path = cell_folder(root, cell, grid=grid) / PREDICTIONS_FILE
        if path.exists():
            continue
        try:
            write_document(path, predict([run for run in cell.runs if not (run.synchronised and run.world_size > 1)]))
        except CommprofError as error:
            failures[f"prediction of {cell.name}"] = str(error)
    if grid:
        _write_boundaries(root, experiment, own)
    return failures


def write_study_report(root: Path) -> tuple[list[str], Path]:
    """Write study.csv and the report; return the sentences of its verdict and the page's path.

    Raises BadInput where nothing has been measured yet.
    """
    runs = load_runs([root])
    cells = cells_of(runs)
    if not cells:
        raise BadInput(f"{root} has no finished training run to report on yet")
    grid = is_grid(root, cells)
    folders = [cell_folder(root, cell, grid=grid) for cell in cells]
    known = [(cell, read_predictions(folder)) for cell, folder in zip(cells, folders, strict=True)]
    rows = study_rows(known)
    write_text(root / "analysis" / "study.csv", to_csv(rows))
    pages = [write_cell_report(root, cell, folder) for cell, folder in zip(cells, folders, strict=True)]
    if not grid:
        (cell, predicted) = known[0]
        return verdict(predicted, outcomes(predicted, cell.runs), cell.runs) if predicted else [], pages[0]
    material = Grid(root=root, cells=tuple(known), rows=tuple(rows), boundaries=read_boundaries(root), pages=tuple(pages))
    page = root / "analysis" / "report.html"
    report = build_grid_report(material)
    write_text(page, render(report))
    return list(report.sentences), page


def has_grid(path: Path) -> bool:
    """Say whether a folder is a study of several models or wires, whose runs cannot stand in one report."""
    return read_info(path).kind == "study" and is_grid(path, cells_of(load_runs([path])))


def read_boundaries(root: Path) -> tuple[Boundary, ...]:
    path = root / "analysis" / BOUNDARY_FILE
    return read_document(path, tuple[Boundary, ...]) if path.exists() else ()


def _write_boundaries(root: Path, experiment: str, own: Sequence[Cell]) -> None:
    """Add a model's boundaries to those on disk, where wires have rates and the model has none there yet."""
    before = read_boundaries(root)
    if any(boundary.experiment == experiment for boundary in before):
        return
    known: list[tuple[float, PredictionSet]] = []
    for cell in own:
        rate, predicted = line_rate(cell.wire), read_predictions(cell_folder(root, cell, grid=True))
        if rate is not None and predicted is not None:
            known.append((rate, predicted))
    if found := predicted_boundaries(experiment, known):
        write_document(root / "analysis" / BOUNDARY_FILE, (*before, *found))
