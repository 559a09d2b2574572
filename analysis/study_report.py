"""A study's folder -> its predictions, study.csv, and a page: of its one cell, or of the grid with a page for each cell."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from analysis.cell_pages import write_cell_pages
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
from analysis.grid import Grid
from analysis.grid_page import build_grid_report
from analysis.load import load_cards, load_runs
from analysis.predict import predict
from analysis.report_page import render
from analysis.results import Boundary, PredictionSet
from analysis.study_table import study_rows, to_csv
from analysis.verdict import outcomes, verdict
from commbench.errors import BadInput, CommprofError, UnusableData
from commbench.rundir import RUN_FILE, read_document, read_info, write_document, write_text


def write_predictions(root: Path, experiment: str, wire: str | None, *, grid: bool) -> dict[str, str]:
    """Predict one cell unless that has been done; return what could not be predicted and why, nothing when all is well.

    `grid` says that the study has several cells. A prediction on disk is never replaced: runs may have been checked against it.
    """
    runs = load_runs([root])
    found = [cell for cell in cells_of(runs) if (cell.experiment, cell.wire) == (experiment, wire)]
    for cell in found:
        path = cell_folder(root, cell, grid=grid) / PREDICTIONS_FILE
        if path.exists():
            continue
        try:
            own = {run.path for run in cell.calibration}
            write_document(path, predict(cell.calibration, beside=[run for run in runs if run.path not in own]))
        except CommprofError as error:
            return {f"prediction of {cell.name}": str(error)}
    return {}


def write_boundaries(root: Path, experiment: str) -> None:
    """Predict where a model begins to pay, unless that has been done, from what is measured of it before its first check.

    Its computation has been measured on one wire by then, and serves all: nothing is sent in it.
    """
    before = read_boundaries(root)
    if any(boundary.experiment == experiment for boundary in before):
        return
    own = [cell for cell in cells_of(load_runs([root])) if cell.experiment == experiment]
    computed = {run.path: run for cell in own for run in cell.calibration if run.world_size > 1 and not run.sends}
    known: list[tuple[float, PredictionSet]] = []
    for cell in own:
        rate = line_rate(cell.wire)
        if rate is not None:
            runs = {**computed, **{run.path: run for run in cell.calibration}}
            with suppress(UnusableData):  # a cell that cannot be predicted says so when its turn comes
                known.append((rate, predict(list(runs.values()))))
    if found := predicted_boundaries(experiment, known):
        write_document(root / "analysis" / BOUNDARY_FILE, (*before, *found))


def write_study_report(root: Path) -> tuple[list[str], Path]:
    """Write study.csv and the report; return the sentences of its verdict and the page's path.

    Raises BadInput where nothing has been measured yet.
    """
    runs = load_runs([root])
    cells = cells_of(runs)
    if not cells:
        raise BadInput(f"{root} has no finished training run to report on yet")
    grid = is_grid(root, cells)
    material = read_grid(root, cells, grid=grid)
    write_text(root / "analysis" / "study.csv", to_csv(material.rows))
    write_cell_pages(root, cells, [page.parent for page in material.pages])
    if not grid:
        (cell, predicted) = material.cells[0]
        return verdict(predicted, outcomes(predicted, cell.runs), cell.runs) if predicted else [], material.pages[0]
    page = root / "analysis" / "report.html"
    report = build_grid_report(material)
    write_text(page, render(report))
    return list(report.sentences), page


def read_grid(root: Path, cells: Sequence[Cell], *, grid: bool = True) -> Grid:
    """Put together what a study's cells have been predicted, what was measured, and where their pages lie."""
    folders = [cell_folder(root, cell, grid=grid) for cell in cells]
    known = tuple((cell, read_predictions(folder)) for cell, folder in zip(cells, folders, strict=True))
    return Grid(
        root=root,
        cells=known,
        rows=tuple(study_rows(known)),
        boundaries=read_boundaries(root),
        pages=tuple(folder / "report.html" for folder in folders),
        failures=tuple(_failures(root)),
    )


def _failures(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the stages that were tried and have no completed run, with what ended the last try."""
    numbered = [(*path.parent.name.rpartition("-")[::2], path.parent) for path in root.glob(f"incomplete/*/{RUN_FILE}")]
    tries = {stage: folder for stage, _, folder in sorted(numbered, key=lambda entry: (entry[0], int(entry[1])))}
    for stage, folder in tries.items():
        if not (root / stage).exists():
            yield stage, read_info(folder).failure or "it did not end"


def has_grid(path: Path) -> bool:
    """Say whether a folder is a study of several models or wires, whose runs cannot stand in one report."""
    return read_info(path).kind == "study" and is_grid(path, cells_of(load_cards([path])))


def read_boundaries(root: Path) -> tuple[Boundary, ...]:
    path = root / "analysis" / BOUNDARY_FILE
    return read_document(path, tuple[Boundary, ...]) if path.exists() else ()
