"""A report's words and tables without its pictures: plain text of 80 columns for terminals and logs.

Everything in the report is untrusted text: it passes `printable`. Figures stay on the page.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from commprof.analysis.report.page.document import cell_text
from commprof.analysis.report.page.html import Report, Section, Table
from commprof.commbench.units import printable

WIDTH = 80
MOST_LINES = 120
_MOST_HEAD = 60  # lines of verdict and warnings
_LONGEST_PART = 16  # lines; a longer table would leave no room for what is said elsewhere
_FOOT = 4  # lines that say that more was left out, and when the report was written
_TITLE = 0  # the first part of a section


def as_text(report: Report, *, full: bool) -> str:
    """Lay the report out in plain text; a table wider than 80 columns becomes a block of lines for each row.

    Without `full` in 120 lines at most: what has no room, long tables first, is named at the end.
    """
    return "\n".join(_text_lines(report) if full else _short_lines(report)) + "\n"


def as_lines(lines: Iterable[str]) -> str:
    """Wrap the six lines for a terminal, each beginning at the margin."""
    return "".join(f"{text}\n" for line in lines for text in _wrapped(line, "", "  "))


def _text_lines(report: Report) -> Iterator[str]:
    yield from (one_line(report.title), *_wrapped(report.subtitle), "=" * WIDTH)
    yield from _paragraphs(verdict_lines(report))
    for section in worded_sections(report):
        title = one_line(section.title)
        yield from ("", title, "-" * min(WIDTH, len(title)))
        yield from _paragraphs(section.sentences)
        for table in section.tables:
            yield from ("", *_text_table(table))
        yield from _paragraphs(section.remarks)
    yield from ("", f"written {one_line(report.written_at)}")


def _short_lines(report: Report) -> list[str]:
    """Lay out the verdict, then of the sections what fits whole: their sentences before their tables."""
    head = [one_line(report.title), *_wrapped(report.subtitle), "=" * WIDTH, *_paragraphs(verdict_lines(report))]
    if len(head) > _MOST_HEAD:
        head = [*head[:_MOST_HEAD], "..."]
    sections = list(worded_sections(report))
    shown = _fitting([*map(_parts, sections)], MOST_LINES - _FOOT - len(head))
    lines, cut = head, False
    for section, parts, kept in zip(sections, map(_parts, sections), shown, strict=True):
        lines += [line for number in (_TITLE, *sorted(kept)) for line in parts[number]] if kept else []
        cut = cut or len(kept) + 1 < len(parts) or any(table.folded for table in section.tables)
    more = ["", "Left out: longer tables and what explains them; --full shows all of it."] if cut else []
    return [*lines, *more, "", f"written {one_line(report.written_at)}"]


def _parts(section: Section) -> list[list[str]]:
    """Return a section's lines in parts that are shown whole or not: title, sentences, tables that are not folded, remarks."""
    title = one_line(section.title)
    tables = (["", *_text_table(table)] for table in section.tables if not table.folded)
    sentences, remarks = ((list(_paragraphs([text])) for text in texts) for texts in (section.sentences, section.remarks))
    return [["", title, "-" * min(WIDTH, len(title))], *sentences, *tables, *remarks]


def _fitting(sections: Sequence[Sequence[Sequence[str]]], room: int) -> list[set[int]]:
    """Return by section which parts are shown in so many lines; each section's first before any's second, the title with it."""
    shown: list[set[int]] = [set() for _ in sections]
    for number in range(1, max(map(len, sections), default=0)):
        for parts, kept in zip(sections, shown, strict=True):
            if number >= len(parts):
                continue
            needed = len(parts[number]) + (0 if kept else len(parts[_TITLE]))
            if needed <= room and len(parts[number]) <= _LONGEST_PART:
                kept.add(number)
                room -= needed
    return shown


def _text_table(table: Table) -> Iterator[str]:
    yield one_line(table.title)
    head, *body = [[one_line(cell_text(cell)) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    if sum(widths) + 2 * len(widths) <= WIDTH:
        for row in (head, *body):
            aligned = (_aligned(text, widths[i], words=i in table.words) for i, text in enumerate(row))
            yield f"  {'  '.join(aligned).rstrip()}"
    else:
        label = max(len(name) for name in head)
        for row in body:
            for name, text in zip(head, row, strict=True):
                yield from _wrapped(f"{name:{label}}  {text}", "    ", " " * (label + 6))
            yield ""
    yield from _wrapped(table.note) if table.note else ()


def verdict_lines(report: Report) -> Iterator[str]:
    """Yield the headline, the six lines, what they rest on, and the warnings."""
    head = report.headline
    if head is not None:
        yield " ".join(part for part in (f"{head.number}: {head.meaning}.", head.interval, head.detail) if part)
    yield from report.sentences
    if report.sources:
        yield f"The verdict rests on {', '.join(report.sources)}."
    yield from (f"Warning: {warning}" for warning in report.warnings)


def worded_sections(report: Report) -> Iterator[Section]:
    """Yield the sections that say something without a browser."""
    said = (section for section in report.sections if section.explorer is None)
    return (section for section in said if section.sentences or section.tables or section.remarks)


def _aligned(text: str, width: int, *, words: bool) -> str:
    return text.ljust(width) if words else text.rjust(width)


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from ("", *_wrapped(text))


def _wrapped(text: str, first: str = "", further: str = "") -> list[str]:
    return textwrap.wrap(one_line(text), WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)


def one_line(text: str) -> str:
    """Return text that any terminal shows, whatever a file's name holds."""
    return printable(text.encode(errors="replace").decode())
