"""A Paper as LaTeX that pdflatex takes, with the packages of Debian's texlive-latex-recommended and texlive-fonts-recommended.

Everything in the Paper is untrusted text. It passes `latex` at one place, the template's output; only what is made here, such
as a table's column widths, goes through as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from commprof.analysis.report.numbers.plain_text import file_stem, plain
from commprof.analysis.report.page.html import Cell, Link, Noted, Picture, Table
from commprof.analysis.report.paper.paper import Paper
from commprof.analysis.report.paper.text import latex, longest_piece

_TEMPLATE = "report.tex.j2"
_TEXT_WIDTH_MM: Final = 165.0
_CHARACTER_MM: Final = 1.52  # of the tables' 8 point type, on average
_MORE_FOR_CAPITALS_MM: Final = 0.45
_GAP_MM: Final = 3.0  # between columns
_WIDEST_NUMBER_MM: Final = 34.0  # a column of numbers with words around them is wrapped
_NARROWEST_MM: Final = 22.0  # of words, but where they need less
_PAGE_LINES: Final = 66  # of a table that fits on a page; longer ones go on in a table of their own
_MOST_ROWS: Final = 400
_MOST_SOURCES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _LatexTable:
    """A table's rows as text, and its columns as LaTeX describes them."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | Markup, ...], ...]
    columns: Markup


def render_latex(paper: Paper) -> str:
    """Return the document; a name that the template misspells raises instead of printing nothing."""
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    stems = {name: Markup(stem) for name, stem in figure_stems(paper.pictures).items()}  # noqa: S704  a to z, 0 to 9, hyphens
    environment.filters |= {"fitted": fitted, "told": told_sources, "stem": stems.__getitem__}
    return environment.get_template(_TEMPLATE).render(paper=paper) + "\n"


def figure_stems(pictures: Sequence[Picture]) -> dict[str, str]:
    """Return a file name without ending for each picture's name, no two alike."""
    stems: dict[str, str] = {}
    for picture in pictures:
        stem = file_stem(picture.name)
        taken = set(stems.values())
        number = next(n for n in range(1, len(stems) + 2) if (stem if n == 1 else f"{stem}-{n}") not in taken)
        stems[picture.name] = stem if number == 1 else f"{stem}-{number}"
    return stems


def fitted(table: Table) -> tuple[_LatexTable, ...]:
    """Return the table in as many parts as it takes pages, its columns as wide as a page where words can be wrapped."""
    shown = table.rows[:_MOST_ROWS]
    columns = [[row[i] for row in shown] for i in range(len(table.head))]
    widths = [_width_mm(head, column) for head, column in zip(table.head, columns, strict=True)]
    wrapping = {i: width for i, width in enumerate(widths) if i in table.words or width > _WIDEST_NUMBER_MM}
    narrowest = {i: _narrowest_mm(table.head[i], columns[i]) for i in wrapping}
    room = _TEXT_WIDTH_MM - _GAP_MM * len(widths) - sum(width for i, width in enumerate(widths) if i not in wrapping)
    given = dict(enumerate(widths)) | _shared(wrapping, narrowest, room)
    specs = [f"{'L' if i in table.words else 'R'}{{{given[i]:.1f}mm}}" for i in range(len(widths))]
    linked = any(isinstance(cell, Link) for row in table.rows for cell in row)
    more = f" The first {_MOST_ROWS} of {len(table.rows)} rows." if len(table.rows) > _MOST_ROWS else ""
    parts = list(_pages(shown, given)) or [()]
    return tuple(
        _LatexTable(
            title=table.title + (f" ({number} of {len(parts)})" if len(parts) > 1 else ""),
            note=("" if linked else table.note) + more,
            head=table.head,
            rows=tuple(tuple(map(_shown, row)) for row in rows),
            columns=Markup("@{}" + "".join(specs) + "@{}"),  # noqa: S704  widths made above
        )
        for number, rows in enumerate(parts, 1)
    )


def told_sources(sources: Sequence[str]) -> str:
    """Name the files that a figure was drawn from, the first of them where there are many."""
    named = ", ".join(sources[:_MOST_SOURCES])
    more = len(sources) - _MOST_SOURCES
    return f"{named} and {more} more" if more > 0 else named


def _lines(cell: Cell) -> tuple[str, ...]:
    match cell:
        case Noted():
            return cell.value, cell.note
        case Link():
            return (cell.text,)
        case _:
            return (cell,)


def _shown(cell: Cell) -> Markup:
    return Markup(r" \linebreak{} ").join(map(latex, _lines(cell)))


def _pages(rows: Sequence[tuple[Cell, ...]], given_mm: dict[int, float]) -> Iterator[tuple[tuple[Cell, ...], ...]]:
    """Yield the rows that fit on a page each."""
    page: list[tuple[Cell, ...]] = []
    lines = 0
    for row in rows:
        needed = max(sum(ceil(_text_mm(plain(line)) / given_mm[i]) for line in _lines(cell)) for i, cell in enumerate(row))
        if page and lines + needed > _PAGE_LINES:
            yield tuple(page)
            page, lines = [], 0
        page.append(row)
        lines += max(needed, 1)
    if page:
        yield tuple(page)


def _text_mm(text: str) -> float:
    capitals = sum(map(str.isupper, text))
    return len(text) * _CHARACTER_MM + capitals * _MORE_FOR_CAPITALS_MM


def _width_mm(head: str, column: Sequence[Cell]) -> float:
    """Return what a column needs: its longest line, and its head's longest word."""
    texts = [*(plain(line) for cell in column for line in _lines(cell)), *head.split()]
    return max(map(_text_mm, texts)) + _CHARACTER_MM


def _narrowest_mm(head: str, column: Sequence[Cell]) -> float:
    """Return what a column needs where its words are wrapped."""
    pieces = [longest_piece(text) for text in [head, *(line for cell in column for line in _lines(cell))]]
    return max(_NARROWEST_MM, (max(pieces) + 1) * _CHARACTER_MM)


def _shared(wanted_mm: dict[int, float], narrowest_mm: dict[int, float], room_mm: float) -> dict[int, float]:
    """Give each column of words what it wants, or a fair share of what the narrower ones leave; never less than a word."""
    given, left = {}, room_mm
    for number, (index, wanted) in enumerate(sorted(wanted_mm.items(), key=lambda item: item[1])):
        given[index] = min(wanted, max(narrowest_mm[index], left / (len(wanted_mm) - number)))
        left -= given[index]
    return given


def _printed(value: object) -> Markup:
    return value if isinstance(value, Markup) else latex(str(value))
