"""Which report do some paths make? A study of several cells, runs side by side, or runs that belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.advice.results import Budget
from commprof.analysis.report.figures.canvas import styled
from commprof.analysis.report.numbers.data import cell_material, gather
from commprof.analysis.report.page.document import ReportDocument, Results, report_document
from commprof.analysis.report.page.html import Report
from commprof.analysis.report.page.place import home_of
from commprof.analysis.report.sections.build import PAGE, build_report, results
from commprof.analysis.report.sides.page import COMPARISON, build_comparison
from commprof.analysis.report.sides.sides import sides_of, why_apart
from commprof.analysis.report.study.grid_page import build_grid_report
from commprof.analysis.report.study.pages import has_grid, read_grid
from commprof.analysis.runs.load import load_runs
from commprof.analysis.study.experiment import cells_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeReport:
    """A report, and the results behind it."""

    report: Report
    results: tuple[Results, ...]

    def document(self) -> ReportDocument:
        return report_document(self.report, self.results)


@styled()
def whole_report(paths: Sequence[Path], budget: Budget | None = None) -> WholeReport:
    """Build the report of these paths; nothing is written. Raises BadInput as `commprof report` does."""
    if len(paths) == 1 and has_grid(paths[0]):
        grid = read_grid(paths[0], cells_of(load_runs(paths)))
        pages = zip(grid.cells, grid.pages, strict=True)
        cells = tuple(results(cell_material(cell.runs, page.parent), cell.name) for (cell, _), page in pages)
        return WholeReport(report=build_grid_report(grid), results=cells)
    if len(paths) > 1 and (reason := why_apart(paths)):
        sides = sides_of(paths, reason)
        told = build_comparison(sides, reason, Path(COMPARISON))
        return WholeReport(report=told, results=tuple(results(side.material, side.name) for side in sides))
    material = gather(paths, budget)
    told = build_report(material, (home_of(paths) or Path()) / PAGE)
    return WholeReport(report=told, results=(results(material, material.root.resolve().name),))
