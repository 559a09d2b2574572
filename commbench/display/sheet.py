"""What does a verb show? Words and tables as values, and their layout for pipes and logs: plain text of 80 columns.

A terminal's layout (tables.py) is made from the same values, so the two cannot differ in content.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from commprof.commbench.units import printable

WIDTH = 80

Tone = Literal["plain", "strong", "good", "bad", "note", "faint"]
"""What a colour says besides the words, which say it too."""


@dataclass(frozen=True, slots=True)
class Words:
    """Text, each line behind `indent` and what is continued behind `hanging`. Plain text wraps it only with `wraps`."""

    text: str
    indent: str = ""
    hanging: str = ""
    tone: Tone = "plain"
    wraps: bool = True
    break_long_words: bool = True
    break_on_hyphens: bool = False

    def lines(self, width: int) -> list[str]:
        """Wrap the text; what cannot be broken may be wider."""
        return textwrap.wrap(
            printable(self.text),
            width,
            initial_indent=self.indent,
            subsequent_indent=self.hanging,
            break_long_words=self.break_long_words,
            break_on_hyphens=self.break_on_hyphens,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as people read it."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; in plain text `before` stands before it, and it is `width` wide or wider.

    `over`: the heading that it shares with its neighbours. `folds`: holds words, which may go on below; all others hold
    values that are never broken. `key`: says what a row is, and is repeated where a terminal is too narrow for all columns.
    """

    name: str = ""
    width: int = 0
    left: bool = False
    before: str = "  "
    over: str = ""
    folds: bool = False
    key: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row's cells, the last of which may be left out; `below` it stands what is said of its last one."""

    cells: Sequence[str | Cell]
    below: Sequence[Words] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows below each other.

    In plain text a shared heading stands over the last of its columns with `over_last`, else over the first; `hanging` is the
    indent of what the last column continues, None for that column's own.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    over_last: bool = False
    hanging: int | None = None
    break_on_hyphens: bool = False


Block = Words | Table
Sheet = Sequence[Block]

GAP = Words("", wraps=False)


def line(text: str, tone: Tone = "plain") -> Words:
    """Return words that plain text leaves on one line."""
    return Words(text, tone=tone, wraps=False)


def cell_of(value: str | Cell) -> Cell:
    return Cell(value) if isinstance(value, str) else value


def joined(sheets: Iterable[Sheet]) -> list[Block]:
    """Put sheets below each other, a blank line between them."""
    return [block for sheet in sheets if sheet for block in (GAP, *sheet)][1:]


def plain_text(sheet: Sheet) -> str:
    """Lay everything out in 80 columns, safe for any terminal."""
    return "\n".join(text for block in sheet for text in _plain_lines(block))


def _plain_lines(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table_lines(block)
    elif block.wraps:
        yield from block.lines(WIDTH)
    else:
        yield printable(f"{block.indent}{block.text}")


def _table_lines(table: Table) -> Iterator[str]:
    columns = table.columns
    if any(column.over for column in columns):
        yield _plain_row(columns, _shared_headings(table))
    if any(column.name for column in columns):
        yield _plain_row(columns, [column.name for column in columns])
    *_, last = columns
    own = sum(len(column.before) + column.width for column in columns[:-1]) + len(last.before)
    hanging = " " * (own if table.hanging is None else table.hanging)
    for row in table.rows:
        text = _plain_row(columns, [cell_of(value).text for value in row.cells])
        yield from (
            textwrap.wrap(text, WIDTH, subsequent_indent=hanging, break_on_hyphens=table.break_on_hyphens)
            if last.folds
            else [text]
        )
        yield from (text for words in row.below for text in words.lines(WIDTH))


def _shared_headings(table: Table) -> list[str]:
    names = [column.over for column in table.columns]
    neighbours = [*names[1:], ""] if table.over_last else ["", *names[:-1]]
    return ["" if name == neighbour else name for name, neighbour in zip(names, neighbours, strict=True)]


def _plain_row(columns: Sequence[Column], texts: Sequence[str]) -> str:
    parts = (
        f"{column.before if text or column.width else ''}{printable(text):{'<' if column.left else '>'}{column.width}}"
        for column, text in zip(columns, texts, strict=False)
    )
    return "".join(parts).rstrip()
