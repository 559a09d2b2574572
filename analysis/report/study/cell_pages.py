"""The pages of a study's cells, written side by side: matplotlib takes half a second a page, and studies have dozens."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from commprof.analysis.runs.load import load_runs
from commprof.analysis.runs.workers import side_by_side
from commprof.analysis.study.experiment import Cell, cell_folder
from commprof.commbench.progress import progress

_WORTH_PROCESSES = 4  # cells; below, interpreters of their own take longer to start than the pages to write
_PATIENCE_S = 60.0
_PAGE_PATIENCE_S = 60.0
_MAX_OBJECTS = 600_000  # of finished pages' that may wait to be freed; a page leaves 45,000, in 8 MB

Job = tuple[Path, str, str | None, tuple[Path, ...], Path]  # of the page at last


def write_cell_pages(
    root: Path, cells: Sequence[Cell], pages: Sequence[Path], meanwhile: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write every cell's page, of which it needs the runs' paths, and return theirs; `meanwhile` is what else there is to do.

    Raises as `write_cell_report` and `meanwhile` do.
    """
    if len(cells) < _WORTH_PROCESSES:
        meanwhile()
        from commprof.analysis.report.sections.build import write_cell_report

        read = [Cell(experiment=own.experiment, wire=own.wire, runs=tuple(load_runs(paths_of(own)))) for own in cells]
        return [
            write_cell_report(root, cell, cell_folder(root, cell, grid=True), page).page
            for cell, page in zip(read, pages, strict=True)
        ]
    jobs = [(root, cell.experiment, cell.wire, paths_of(cell), page) for cell, page in zip(cells, pages, strict=True)]
    doing, deadline_s = f"writing {len(jobs)} pages", _PATIENCE_S + _PAGE_PATIENCE_S * len(jobs)
    with progress("pages", len(jobs)) as report:
        return side_by_side(
            _write, jobs, deadline_s=deadline_s, doing=doing, watch=lambda done, _: report(done, ""), meanwhile=meanwhile
        )


def paths_of(cell: Cell) -> tuple[Path, ...]:
    return tuple(run.path for run in cell.runs)


def _write(job: Job) -> Path:
    """Read the cell's runs again in a process of its own: cheaper than to send them there."""
    root, experiment, wire, paths, target = job
    from commprof.analysis.report.sections.build import (
        write_cell_report,  # half a second that the waiting process need not spend as well
    )

    if gc.isenabled():
        gc.disable()  # a page's figures live to its end; to look through them again and again costs a seventh of the time
        gc.freeze()  # nor need what was loaded before be looked through, once for all pages
    cell = Cell(experiment=experiment, wire=wire, runs=tuple(load_runs(paths)))
    page = write_cell_report(root, cell, cell_folder(root, cell, grid=True), target).page
    if gc.get_count()[0] > _MAX_OBJECTS:
        gc.collect()
    return page
