"""How does a sheet look on a terminal? rich's tables and colours, as wide as the terminal is, 100 columns at most.

No value is cut: words fold, a table that is too wide is shown in parts which repeat its key columns, and where not even
that fits it is plain text. Text is never read as rich's markup.
"""

import os
from collections.abc import Iterator, Sequence
from typing import IO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from commprof.commbench.display.sheet import GAP, Cell, Column, Row, Sheet, Table, Tone, Words, cell_of, plain_text
from commprof.commbench.units import printable

_WIDEST = 100  # words on longer lines are hard to read
_NARROWEST_FOLD = 20
_STYLES: dict[Tone, str] = {"plain": "", "strong": "bold", "good": "green", "bad": "red", "note": "yellow", "faint": "dim"}
_ASCII_RULE = box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True)


def console_on(stream: IO[str]) -> Console:
    """Return what draws on a terminal; with NO_COLOR set it writes no attributes at all."""
    return Console(
        file=stream,
        force_terminal=True,
        force_interactive=True,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print everything from top to bottom."""
    width = min(console.width, _WIDEST)
    for before, block in zip((GAP, *sheet), sheet, strict=False):
        if isinstance(block, Words):
            _print_words(block, console, width)
            continue
        if isinstance(before, Table):
            _print_lines("", "plain", console)
        _print_table(block, console, width)


def _print_table(table: Table, console: Console, width: int) -> None:
    indent = len(table.columns[0].before)
    parts = list(_parts(table, width - indent))
    if not parts:
        _print_lines(plain_text([table]), "plain", console)
    for number, (indices, gap) in enumerate(parts):
        if number:
            _print_lines("", "plain", console)
        drawn = _rich_table(table, indices, gap, ascii_only=console.options.ascii_only)
        console.print(Padding(drawn, (0, 0, 0, indent), expand=False), width=width)


def _print_words(words: Words, console: Console, width: int) -> None:
    own = words.text.lstrip(" ")
    blanks = " " * (len(words.text) - len(own))
    hanging = words.hanging if words.wraps else f"{words.indent}{blanks}  "
    wrapped = Words(
        own,
        indent=words.indent + blanks,
        hanging=hanging,
        break_long_words=words.break_long_words,
        break_on_hyphens=words.break_on_hyphens,
    )
    _print_lines("\n".join(wrapped.lines(width)), words.tone, console)


def _print_lines(text: str, tone: Tone, console: Console) -> None:
    console.print(Text(text, style=_STYLES[tone]), soft_wrap=True)


def _parts(table: Table, width: int) -> Iterator[tuple[list[int], int]]:
    """Yield which columns are shown together, and the blanks between them; nothing where a value has no room."""
    least = [_least_width(table, index) for index in range(len(table.columns))]
    every = [index for index, own in enumerate(least) if own]
    for gap in (2, 1):
        if _total(least, every, gap) <= width:
            yield every, gap
            return
    keys = [index for index in every if table.columns[index].key]
    parts: list[list[int]] = []
    for index in every:
        if index in keys:
            continue
        if _total(least, [*keys, index], 1) > width:
            return
        if not parts or _total(least, [*parts[-1], index], 1) > width:
            parts.append([*keys])
        parts[-1].append(index)
    for part in parts:
        yield part, 2 if _total(least, part, 2) <= width else 1


def _total(widths: Sequence[int], indices: Sequence[int], gap: int) -> int:
    return sum(widths[index] for index in indices) + gap * (len(indices) - 1)


def _least_width(table: Table, index: int) -> int:
    column = table.columns[index]
    texts = [_heading(column, shared=True), *(_text(row, index) for row in table.rows)]
    widest = max(cell_len(part) for text in texts for part in text.plain.split("\n"))
    return min(widest, _NARROWEST_FOLD) if column.folds else widest


def _rich_table(table: Table, indices: Sequence[int], gap: int, *, ascii_only: bool) -> RichTable:
    columns = [table.columns[index] for index in indices]
    shared = any(column.over for column in columns)
    drawn = RichTable(
        box=_ASCII_RULE if ascii_only else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
        show_header=any(column.name for column in columns),
        header_style="bold",
    )
    for column in columns:
        drawn.add_column(
            _heading(column, shared=shared),
            justify="left" if column.left else "right",
            no_wrap=not column.folds,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(_text(row, index) for index in indices))
    return drawn


def _heading(column: Column, *, shared: bool) -> Text:
    name, over = printable(column.name), printable(column.over)
    return Text(f"{over}\n{name}" if shared else name)


def _text(row: Row, index: int) -> Text:
    """Return what stands in a column: its cell, and in the last one also what is said below it."""
    cell = cell_of(row.cells[index]) if index < len(row.cells) else Cell("")
    text = Text(printable(cell.text), style=_STYLES[cell.tone])
    if index == len(row.cells) - 1:
        for words in row.below:
            text.append(f"\n{printable(words.text)}", style=_STYLES[words.tone])
    return text
