"""A study's folder -> its predictions, study.csv, and a page: of its one cell, or of the grid with a page for each cell."""

from collections.abc import Mapping, Sequence
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
from commprof.analysis.study.sharded import kept_choices
from commprof.analysis.study.table import study_rows, to_csv
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info, write_text


def write_study_report(root: Path, out: Path | None = None) -> tuple[list[str], Path]:
    """Write study.csv and the report; return the six lines of its verdict and the page's path.

    With `out` the page goes there and the cells' pages into a folder beside it; the study's own folder is only read.
    Raises BadInput where nothing has been measured yet, or where no cell's runs can stand beside each other.
    """
    cards = cells_of(load_cards([root]))
    if not cards:
        raise BadInput(f"{root} has no finished training run to report on yet")
    grid = is_grid(root, cards)
    refused = _refused(cards)
    if refused and (not grid or len(refused) == len(cards)):
        raise BadInput(next(iter(refused.values())))
    if not grid:
        material = _study_read(root, refused, grid=False, out=out)
        written = write_cell_report(root, material.cells[0][0], material.pages[0].parent)
        return list(written.lines), written.page
    said: list[str] = []
    kept = [cell for cell in cards if cell.name not in refused]
    pages = _pages([cell_folder(root, cell, grid=True) for cell in kept], out)
    write_cell_pages(root, kept, pages, lambda: said.extend(_write_grid_page(_study_read(root, refused, grid=True, out=out))))
    return said, _page(root, out)


def _study_read(root: Path, refused: Mapping[str, str], *, grid: bool, out: Path | None) -> Grid:
    """Read a study's cells but those refused, and keep study.csv unless the study is only read."""
    cells = [cell for cell in cells_of(load_runs([root])) if cell.name not in refused]
    material = read_grid(root, cells, grid=grid, out=out)
    if out is None:
        write_text(root / "analysis" / "study.csv", to_csv(material.rows))
    return replace(material, failures=(*material.failures, *refused.items()))


def _write_grid_page(material: Grid) -> tuple[str, ...]:
    report = build_grid_report(material)
    write_text(material.page, render(report))
    return report.sentences


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
    kept = {cell.name: kept_choices([folder]) for cell, folder in zip(cells, folders, strict=True)}
    sharded = {name: own for name, own in kept.items() if own is not None}
    return Grid(
        root=root,
        cells=known,
        rows=tuple(study_rows(known, sharded)),
        sharded=sharded,
        boundaries=read_boundaries(root),
        page=_page(root, out),
        pages=_pages(folders, out),
        disturbed=disturbance_text([run for cell in cells for run in cell.runs]),
        failures=tuple(failed_stages(root)),
    )


def _page(root: Path, out: Path | None) -> Path:
    return root / "analysis" / PAGE if out is None else out


def _pages(folders: Sequence[Path], out: Path | None) -> tuple[Path, ...]:
    """Return where the cells' pages go: into their folders, or beside the study's page where that goes elsewhere."""
    if out is None:
        return tuple(folder / PAGE for folder in folders)
    return tuple(out.parent / f"{out.stem}-cells" / folder.name / PAGE for folder in folders)


def _foretold(cell: Cell, folder: Path) -> PredictionSet | None:
    own = foretold(kept_predictions([folder]), cell.runs)
    return None if own is None else own.predictions


def has_grid(path: Path) -> bool:
    """Say whether a folder is a study of several models or wires, whose runs cannot stand in one report."""
    return read_info(path).kind == "study" and is_grid(path, cells_of(load_cards([path])))
