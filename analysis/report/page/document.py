"""A report as one JSON document: its words and tables as the page has them, and the results behind them as numbers.

`results` has an entry for each set of runs that the report pools: one for runs that belong together, one a cell of a study of
several models or wires, one a side where runs stand side by side. Seconds, bytes and bytes per second.

History of the schema
1  first version
"""

from dataclasses import dataclass

from commprof.analysis.report.page.html import Cell, Headline, Link, Noted, Picture, Report, Section, Table
from commprof.analysis.step.results import AssumptionCheck, CheckedPrediction, PredictionSet
from commprof.analysis.strategies.results import Choice
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.types import RunInfo

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What is known of some runs: who they are, what they cost to send, what was predicted and what became of it."""

    name: str
    runs: tuple[RunInfo, ...]
    fits: tuple[CostModel, ...]
    predictions: PredictionSet | None
    verification: tuple[CheckedPrediction, ...]
    assumptions: tuple[AssumptionCheck, ...]
    strategies: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDocument:
    """A table's cells as text, as the page shows them; a note below a value follows it in brackets."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureDocument:
    """What a figure shows, in words, and the raw files that it was drawn from."""

    name: str
    title: str
    alt: str
    caption: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionDocument:
    """One section of the page."""

    name: str
    title: str
    sentences: tuple[str, ...]
    tables: tuple[TableDocument, ...]
    figures: tuple[FigureDocument, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """The document of `commprof report --json`; `verdict` are the six lines on top, `sources` the files they rest on."""

    schema_version: int
    written_at: str
    title: str
    subtitle: str
    headline: Headline | None
    verdict: tuple[str, ...]
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: tuple[FigureDocument, ...]
    sections: tuple[SectionDocument, ...]
    results: tuple[Results, ...]


def report_document(report: Report, results: tuple[Results, ...]) -> ReportDocument:
    """Return everything that a report says, for programs."""
    return ReportDocument(
        schema_version=REPORT_SCHEMA_VERSION,
        written_at=report.written_at,
        title=report.title,
        subtitle=report.subtitle,
        headline=report.headline,
        verdict=report.sentences,
        sources=report.sources,
        warnings=report.warnings,
        figures=tuple(map(_figure, report.pictures)),
        sections=tuple(map(_section, report.sections)),
        results=results,
    )


def cell_text(cell: Cell) -> str:
    """Return what a cell says in plain words."""
    if isinstance(cell, Link):
        return cell.text
    return f"{cell.value} ({cell.note})" if isinstance(cell, Noted) else cell


def _section(section: Section) -> SectionDocument:
    return SectionDocument(
        name=section.name,
        title=section.title,
        sentences=section.sentences,
        tables=tuple(map(_table, section.tables)),
        figures=tuple(map(_figure, section.pictures)),
        remarks=section.remarks,
    )


def _table(table: Table) -> TableDocument:
    rows = tuple(tuple(map(cell_text, row)) for row in table.rows)
    return TableDocument(title=table.title, columns=table.head, rows=rows, note=table.note)


def _figure(picture: Picture) -> FigureDocument:
    return FigureDocument(
        name=picture.name, title=picture.title, alt=picture.alt, caption=picture.caption, sources=picture.sources
    )
