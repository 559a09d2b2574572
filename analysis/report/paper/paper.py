"""Runs, a study, or runs side by side -> a Paper: abstract, set-up, results, root cause, guidelines.

Every number and name in it comes from the runs; what no run answers is left out. The method's text is the template's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commprof.analysis.advice.results import Budget
from commprof.analysis.report.numbers.data import Material, cell_material, gather
from commprof.analysis.report.numbers.decided import spoken_of
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import laws
from commprof.analysis.report.page.html import Picture, Report, Section, Table
from commprof.analysis.report.sections.build import build_report
from commprof.analysis.report.sections.origin import environment_section, facts
from commprof.analysis.report.sections.predicted import change_section
from commprof.analysis.report.sections.why import overhead_picture, overhead_table
from commprof.analysis.report.sides.page import build_comparison
from commprof.analysis.report.sides.sides import Side, sides_of, why_apart
from commprof.analysis.report.study.grid_page import build_grid_report
from commprof.analysis.report.study.pages import has_grid, read_grid
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.results import BreakEven
from commprof.analysis.study.experiment import cells_of

_ELSEWHERE = frozenset({"environment", "changes", "what-if", "files"})  # a paper has them in another place, or not
_NO_CAUSE = "Nothing predicts these runs, so no cause is told: that takes a training run on one rank and a bench of the wire."
_NO_ADVICE = "Without a prediction nothing can be advised."


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper's contents; `appendix` are the tables that a reader looks up rather than reads."""

    title: str
    question: str
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


def paper_of(paths: Sequence[Path], page: Path, budget: Budget | None = None) -> Paper:
    """Put together the paper on a study of several cells, on runs side by side, or on runs that belong together.

    `page` is the file it goes to. Raises BadInput where a folder is no run or the runs can neither be combined nor compared.
    """
    if len(paths) == 1 and has_grid(paths[0]):
        return _paper_of_grid(paths[0])
    if len(paths) > 1 and (reason := why_apart(paths)):
        return _paper_of_sides(sides_of(paths, reason), reason, page)
    return _paper_of_runs(gather(paths, budget), page)


def _paper_of_runs(material: Material, page: Path) -> Paper:
    report = build_report(material, page)
    known = "Predicted and measured" if material.outcomes else "Predicted"
    overview = Section(name="overview", title=f"{known} speedup", pictures=report.pictures)
    results = [overview] if overview.pictures else []
    results += [section for section in report.sections if section.name not in _ELSEWHERE]
    return _paper(report, environment_section(material), results, _cause(material), _guidelines(material))


def _paper_of_grid(root: Path) -> Paper:
    """Tell the grid's answers, then each cell's."""
    grid = read_grid(root, cells_of(load_runs([root])))
    report = build_grid_report(grid)
    cells = {cell.name: cell_material(cell.runs, page.parent) for (cell, _), page in zip(grid.cells, grid.pages, strict=True)}
    overview = Section(name="overview", title="Speedup over the wire", pictures=report.pictures)
    results = [*([overview] if overview.pictures else []), *report.sections, *_cell_sections(cells)]
    runs = {run.path: run for material in cells.values() for run in material.runs}
    table = _overhead_table(cells)
    cause = replace(_causes(cells), tables=(table,) if table is not None else ())
    guidelines = replace(_cures(cells), sentences=report.sentences[:1])
    return _paper(
        report, _grid_set_up(replace(next(iter(cells.values())), runs=tuple(runs.values()))), results, cause, guidelines
    )


def _paper_of_sides(sides: Sequence[Side], reason: str, page: Path) -> Paper:
    """Tell what differs, then step against step and wire against wire, then each side's own answers."""
    report = build_comparison(sides, reason, page)
    set_up, *sections = report.sections
    runs = tuple(
        replace(table, title=f"{side.letter}: {table.title}", folded=True) for side in sides for table in _run_tables(side)
    )
    told = {side.letter: side.material for side in sides}
    results = [section for section in sections if not section.name.startswith("files-")]
    opened = tuple(replace(table, folded=False) for table in set_up.tables)
    return _paper(report, replace(set_up, tables=(*opened, *runs)), results, _causes(told), _cures(told), "side by side")


def _paper(
    report: Report,
    set_up: Section,
    results: Sequence[Section],
    cause: Section,
    guidelines: Section,
    question: str = "does training on more ranks pay?",
) -> Paper:
    looked_up = [table for section in (set_up, *results) for table in section.tables if table.folded]
    head = report.headline
    stated = [f"{head.number}: {head.meaning}. {head.interval} {head.detail}"] if head is not None else []
    return Paper(
        title=report.title,
        question=question,
        subtitle=report.subtitle,
        abstract=(*stated, *report.sentences),
        warnings=report.warnings,
        set_up=replace(set_up, tables=tuple(table for table in set_up.tables if not table.folded)),
        results=tuple(_without(section, cause) for section in results),
        cause=cause,
        guidelines=guidelines,
        appendix=tuple(table for table in looked_up if table not in cause.tables),
        written_at=f"{report.written_at[:16].replace('T', ' ')} UTC",
    )


def _without(section: Section, cause: Section) -> Section:
    """Leave out of a result what the root cause shows, and the tables to look things up in."""
    moved = {picture.name for picture in cause.pictures}
    return replace(
        section,
        pictures=tuple(_titled(picture) for picture in section.pictures if picture.name not in moved),
        tables=tuple(table for table in section.tables if not table.folded),
        remarks=tuple(remark for remark in section.remarks if remark not in cause.remarks),
    )


def _titled(picture: Picture) -> Picture:
    """Name the buckets' figures in full: their section's heading may stand on another page."""
    return replace(picture, title=f"Gradient buckets on {picture.title}") if picture.name.startswith("buckets-") else picture


def _run_tables(side: Side) -> tuple[Table, ...]:
    return environment_section(side.material).tables[1:]


def _grid_set_up(material: Material) -> Section:
    """Count the runs that a value belongs to; a grid has too many to name. They are listed in the appendix."""
    values: dict[str, Counter[str]] = {}
    for run in material.runs:
        for name, value in dict.fromkeys(facts(run.info)):
            values.setdefault(name, Counter())[value] += 1
    _, *runs = environment_section(material).tables
    return Section(
        name="environment",
        title="Environment",
        tables=(
            Table(
                title="What was run, and on what",
                head=("What", "Value"),
                rows=tuple((name, _counted(known)) for name, known in values.items()),
                words=frozenset({0, 1}),
            ),
            *(replace(table, folded=True) for table in runs),
        ),
    )


def _counted(known: Counter[str]) -> str:
    if len(known) == 1:
        return next(iter(known))
    return "; ".join(f"{value} ({num} {'run' if num == 1 else 'runs'})" for value, num in known.items())


def _cause_and_cure(material: Material) -> tuple[str, str] | None:
    if material.predicted is None:
        return None
    return material.cause_and_cure(material.predicted, spoken_of(material, material.predicted))


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
        return Section(name="guidelines", title="Guidelines", sentences=(_NO_ADVICE,))
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


def _causes(materials: Mapping[str, Material]) -> Section:
    """Tell each material's cause by the name it goes under here."""
    told = {name: found[0] for name, material in materials.items() if (found := _cause_and_cure(material)) is not None}
    sentences = tuple(f"{name}: {cause}" for name, cause in told.items()) or (_NO_CAUSE,)
    return Section(name="cause", title="Root cause", sentences=sentences)


def _cures(materials: Mapping[str, Material]) -> Section:
    told = {name: found[1] for name, material in materials.items() if (found := _cause_and_cure(material)) is not None}
    remarks = tuple(f"{name}: {cure}" for name, cure in told.items())
    return Section(name="guidelines", title="Guidelines", sentences=() if remarks else (_NO_ADVICE,), remarks=remarks)


def _cell_sections(cells: Mapping[str, Material]) -> Iterator[Section]:
    """Yield each cell's own numbers. Its cause and cure stand with the others', its step times are its speedups' reverse."""
    for name, material in cells.items():
        report = build_report(material, material.root / "report.html")
        verdict, _, how_sure, *_ = report.sentences
        pictures = [picture for picture in report.pictures if picture.name == "speedup"]
        if material.predicted is not None:
            pictures.append(overhead_picture(material, material.predicted))
        yield Section(
            name=f"cell-{name}",
            title=f"Cell {name}",
            sentences=(verdict, how_sure),
            pictures=tuple(replace(p, name=f"{name}-{p.name}", title=f"{name}: {_lower(p.title)}") for p in pictures),
        )


def _overhead_table(cells: Mapping[str, Material]) -> Table | None:
    """Return the parts of every cell's predicted steps in one table."""
    found = {name: overhead_table(m, m.predicted) for name, m in cells.items() if m.predicted is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    return replace(
        first,
        head=("Cell", *first.head),
        rows=tuple((name, *row) for name, table in found.items() for row in table.rows),
        words=frozenset({0, *(index + 1 for index in first.words)}),
        folded=False,
    )


def _lower(title: str) -> str:
    return f"{title[0].lower()}{title[1:]}"
