"""Runs or a study -> a Paper: the report's answers in a paper's order. Abstract, set-up, results, root cause, guidelines.

Every number and name in it comes from the runs; what no run answers is left out. The method's text is the template's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.experiment import cells_of
from analysis.grid_page import build_grid_report
from analysis.load import load_runs
from analysis.plots import ranks
from analysis.report import build_report
from analysis.report_data import Material, cell_material, gather
from analysis.report_origin import environment_section
from analysis.report_page import Picture, Report, Section, Table
from analysis.report_predicted import change_section, overhead_picture, overhead_table
from analysis.results import BreakEven
from analysis.study_report import read_grid
from analysis.verdict import cause_and_cure, laws

_ELSEWHERE = frozenset({"environment", "changes", "what-if", "files"})  # a paper has them in another place, or not
_NO_CAUSE = "Nothing predicts these runs, so no cause is told: that takes a training run on one rank and a bench of the wire."


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper's contents; `appendix` are the tables that a reader looks up rather than reads."""

    title: str
    subtitle: str
    abstract: tuple[str, ...]
    warnings: tuple[str, ...]
    set_up: Section
    results: tuple[Section, ...]
    cause: Section
    guidelines: Section
    appendix: tuple[Table, ...]
    written_at: str

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(picture for section in (*self.results, self.cause) for picture in section.pictures)


def paper_of_runs(paths: Sequence[Path], page: Path) -> Paper:
    """Put together the paper on these runs, a study's folder standing for its runs; `page` is the file it goes to.

    Raises BadInput where a folder is no run or the runs cannot be combined.
    """
    material = gather(paths)
    report = build_report(material, page)
    overview = Section(name="overview", title="Predicted and measured speedup", pictures=report.pictures)
    results = [overview] if overview.pictures else []
    results += [section for section in report.sections if section.name not in _ELSEWHERE]
    return _paper(report, material, results, _cause(material), _guidelines(material))


def paper_of_grid(root: Path) -> Paper:
    """Put together the paper on a study of several models or wires: the grid's answers, then each cell's."""
    grid = read_grid(root, cells_of(load_runs([root])))
    report = build_grid_report(grid)
    cells = {cell.name: cell_material(cell.runs, page.parent) for (cell, _), page in zip(grid.cells, grid.pages, strict=True)}
    overview = Section(name="overview", title="Speedup over the wire", pictures=report.pictures)
    results = [*([overview] if overview.pictures else []), *report.sections, *_cell_sections(cells)]
    everything = {run.path: run for material in cells.values() for run in material.runs}
    material = replace(next(iter(cells.values())), root=root, runs=tuple(everything.values()))
    told = {name: found for name, material in cells.items() if (found := _cause_and_cure(material)) is not None}
    cause = Section(
        name="cause",
        title="Root cause",
        sentences=tuple(f"{name}: {cause}" for name, (cause, _) in told.items()) or (_NO_CAUSE,),
        pictures=tuple(_own_overheads(cells)),
    )
    guidelines = Section(
        name="guidelines",
        title="Guidelines",
        sentences=report.sentences,
        remarks=tuple(f"{name}: {cure}" for name, (_, cure) in told.items()),
    )
    return _paper(report, material, results, cause, guidelines)


def _paper(report: Report, material: Material, results: Sequence[Section], cause: Section, guidelines: Section) -> Paper:
    folded = [table for section in results for table in section.tables if table.folded and table not in cause.tables]
    head = report.headline
    stated = [f"{head.number}: {head.meaning}. {head.interval} {head.detail}"] if head is not None else []
    moved = {picture.name for picture in cause.pictures}
    return Paper(
        title=report.title,
        subtitle=report.subtitle,
        abstract=(*stated, *report.sentences),
        warnings=report.warnings,
        set_up=environment_section(material),
        results=tuple(
            replace(
                section,
                pictures=tuple(picture for picture in section.pictures if picture.name not in moved),
                tables=tuple(table for table in section.tables if not table.folded),
            )
            for section in results
        ),
        cause=cause,
        guidelines=guidelines,
        appendix=tuple(folded),
        written_at=report.written_at,
    )


def _cause_and_cure(material: Material) -> tuple[str, str] | None:
    if material.predicted is None:
        return None
    return cause_and_cure(material.predicted, material.schedule_outcomes, material.runs)


def _cause(material: Material) -> Section:
    told = _cause_and_cure(material)
    if told is None or material.predicted is None:
        return Section(name="cause", title="Root cause", sentences=(_NO_CAUSE,))
    return Section(
        name="cause",
        title="Root cause",
        sentences=(told[0],),
        pictures=(overhead_picture(material, material.predicted),),
        tables=(overhead_table(material, material.predicted),),
        remarks=tuple(f"Karp-Flatt, {laws(outcome)}" for outcome in material.schedule_outcomes),
    )


def _guidelines(material: Material) -> Section:
    told, predicted = _cause_and_cure(material), material.predicted
    if told is None or predicted is None:
        return Section(name="guidelines", title="Guidelines", sentences=("Without a prediction nothing can be advised.",))
    changes = change_section(predicted)
    return Section(
        name="guidelines",
        title="Guidelines",
        sentences=(told[1], *changes.sentences),
        tables=changes.tables,
        remarks=tuple(_ratio_sentence(law) for law in predicted.break_evens),
    )


def _ratio_sentence(law: BreakEven) -> str:
    if law.compute_s >= law.work_s:
        return f"On {ranks(law.world_size)} no wire helps: side by side they compute as long as one rank for the same samples."
    relation = "is above" if law.ratio > law.ratio_needed else "is not above"
    return (
        f"On {ranks(law.world_size)} R = {law.ratio:.3g} {relation} the {law.ratio_needed:.3g} that a gain needs with nothing "
        "hidden."
    )


def _cell_sections(cells: dict[str, Material]) -> Iterator[Section]:
    for name, material in cells.items():
        report = build_report(material, material.root / "report.html")
        pictures = tuple(replace(picture, name=f"{name}-{picture.name}") for picture in report.pictures)
        yield Section(name=f"cell-{name}", title=f"Cell {name}", sentences=report.sentences, pictures=pictures)


def _own_overheads(cells: dict[str, Material]) -> Iterator[Picture]:
    for name, material in cells.items():
        if material.predicted is not None:
            picture = overhead_picture(material, material.predicted)
            yield replace(
                picture, name=f"{name}-{picture.name}", title=f"{name}: {picture.title[0].lower()}{picture.title[1:]}"
            )
