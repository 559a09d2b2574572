"""A study's folder -> its predictions, study.csv, and a page: of its one cell, or of the grid with a page for each cell."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from commprof.analysis.report.page.html import render
from commprof.analysis.report.sections.build import PAGE, write_cell_report
from commprof.analysis.report.study.cell_pages import write_cell_pages
from commprof.analysis.report.study.grid_page import build_grid_report
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.load import check_combinable, load_cards, load_runs
from commprof.analysis.step.kept import foretold, kept_predictions
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.experiment import (
    Cell,
    cell_folder,
    cells_of,
    is_grid,
)
from commprof.analysis.study.failed import failed_stages
from commprof.analysis.study.grid import Grid
from commprof.analysis.study.predictions import read_boundaries
from commprof.analysis.study.table import study_rows, to_csv
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_text


def write_study_report(root: Path, out: Path | None = None) -> tuple[list[str], Path]:
    """Write study.csv and the report; return the six lines of its verdict and the page's path.

    With `out` the page goes there and the cells' pages into a folder beside it; the study's own folder is only read.
    Raises BadInput where nothing has been measured yet, or where no cell's runs can stand beside each other.
    """
    runs = load_runs([root])
    cells = cells_of(runs)
    if not cells:
        raise BadInput(f"{root} has no finished training run to report on yet")
    grid = is_grid(root, cells)
    refused = _refused(cells)
    if refused and (not grid or len(refused) == len(cells)):
        raise BadInput(next(iter(refused.values())))
    cells = [cell for cell in cells if cell.name not in refused]
    material = read_grid(root, cells, grid=grid, out=out)
    material = replace(material, failures=(*material.failures, *refused.items()))
    if out is None:
        write_text(root / "analysis" / "study.csv", to_csv(material.rows))
    if not grid:
        written = write_cell_report(root, cells[0], material.pages[0].parent)
        return list(written.lines), written.page
    write_cell_pages(root, cells, material.pages)
    report = build_grid_report(material)
    write_text(material.page, render(report))
    return list(report.sentences), material.page


def _refused(cells: Sequence[Cell]) -> dict[str, str]:
    """Return why the runs of a cell cannot stand beside each other, such as a batch that changes with N, by the cell's name."""
    refused = {}
    for cell in cells:
        try:
            check_combinable(cell.runs)
        except BadInput as error:
            refused[cell.name] = str(error)
    return refused


def read_grid(root: Path, cells: Sequence[Cell], *, grid: bool = True, out: Path | None = None) -> Grid:
    """Put together what a study's cells have been predicted, what was measured, and where their pages lie or will, by `out`."""
    folders = [cell_folder(root, cell, grid=grid) for cell in cells]
    known = tuple((cell, _foretold(cell, folder)) for cell, folder in zip(cells, folders, strict=True))
    return Grid(
        root=root,
        cells=known,
        rows=tuple(study_rows(known)),
        boundaries=read_boundaries(root),
        page=root / "analysis" / PAGE if out is None else out,
        pages=tuple(
            folder / PAGE if out is None else out.parent / f"{out.stem}-cells" / folder.name / PAGE for folder in folders
        ),
        disturbed=disturbance_text([run for cell in cells for run in cell.runs]),
        failures=tuple(failed_stages(root)),
    )


def _foretold(cell: Cell, folder: Path) -> PredictionSet | None:
    own = foretold(kept_predictions([folder]), cell.runs)
    return None if own is None else own.predictions


def has_grid(path: Path) -> bool:
    """Say whether a folder is a study of several models or wires, whose runs cannot stand in one report."""
    return read_info(path).kind == "study" and is_grid(path, cells_of(load_cards([path])))
