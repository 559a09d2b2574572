"""A report in Markdown as GitHub and GitLab read it: about a screen for a pull request, or all of it.

Everything in the report is untrusted text: it passes `printable`, and whatever could begin a link, a tag or a table's cell is
escaped. Figures stay on the page.
"""

import re
from collections.abc import Iterator

from commprof.analysis.report.page.document import cell_text
from commprof.analysis.report.page.html import Report, Table
from commprof.analysis.report.page.words import one_line, verdict_lines, worded_sections

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~!&$@])")
_MOST_ROWS = 10  # of the one table that a short answer has


def as_markdown(report: Report) -> str:
    """Write the whole report; what the page folds away is folded here too."""
    return "\n".join(_all_lines(report)) + "\n"


def as_short_markdown(report: Report, command: str) -> str:
    """Write the six lines, what is known by number of ranks, and how it was measured; `command` writes all of it."""
    return "\n".join(_short_lines(report, command)) + "\n"


def _all_lines(report: Report) -> Iterator[str]:
    yield from (f"# {_escaped(report.title)}", "", _escaped(report.subtitle))
    for text in verdict_lines(report):
        yield from ("", _escaped(text))
    for section in worded_sections(report):
        yield from ("", f"## {_escaped(section.title)}")
        for text in section.sentences:
            yield from ("", _escaped(text))
        for table in section.tables:
            yield from ("", *_table_lines(table))
        if section.remarks:
            yield from ("", *(f"- {_escaped(remark)}" for remark in section.remarks))
    yield from ("", f"Written {_escaped(report.written_at)} by commprof.")


def _short_lines(report: Report, command: str) -> Iterator[str]:
    verdict, *others = report.sentences
    yield from (f"# {_escaped(report.title)}", "", _escaped(verdict))
    if report.summary is not None:
        yield from ("", *_table_lines(report.summary, _MOST_ROWS))
    yield from ("", *(f"- {_escaped(text)}" for text in others))
    if report.warnings:
        counted = f"{len(report.warnings)} {'warning' if len(report.warnings) == 1 else 'warnings'}"
        yield from ("", f"<details><summary>{counted}</summary>", "")
        yield from (f"- {_escaped(warning)}" for warning in report.warnings)
        yield from ("", "</details>")
    yield from ("", _escaped(f"Measured: {report.subtitle}. {report.measured}".rstrip()))
    yield from ("", f"{_escaped(f'All tables and figures: {command}. Written {report.written_at} by commprof')}.")


def _table_lines(table: Table, most_rows: int | None = None) -> Iterator[str]:
    title = _escaped(table.title)
    yield from (f"<details><summary>{title}</summary>", "") if table.folded else (f"**{title}**", "")
    yield f"| {' | '.join(map(_escaped, table.head))} |"
    yield f"|{'|'.join('---' if i in table.words else '--:' for i in range(len(table.head)))}|"
    for row in table.rows[:most_rows]:
        yield f"| {' | '.join(_escaped(cell_text(cell)) for cell in row)} |"
    left_out = len(table.rows) - len(table.rows[:most_rows])
    yield from ("", f"{left_out} more rows are on the page.") if left_out else ()
    yield from ("", _escaped(table.note)) if table.note else ()
    yield from ("", "</details>") if table.folded else ()


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(one_line(text).split()))
