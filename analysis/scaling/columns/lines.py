"""Which cells are in a table's text? CSV by comma, semicolon or tab, Markdown, or columns set apart by blanks."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from commprof.commbench.errors import BadInput

_SPREADSHEET = re.compile(r"sep=(.)\n", re.IGNORECASE)  # Excel's first line
_RULE = frozenset(" \t|:+-")  # all that is below the header of a Markdown table
_EMPHASIS = "*`"
_LOOKED_AT = 10  # lines: their separators outnumber the commas of a title or of numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The lines that hold something, numbered from 1, and what stands between their cells."""

    separator: str
    lines: Iterator[tuple[int, list[str]]]


def cells_of(text: str) -> Cells:
    """Take a table's text apart; raises BadInput, at the line, where it is no CSV."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    named = _SPREADSHEET.match(text)
    if named:
        return Cells(separator=named[1], lines=_csv(text[named.end() :], named[1], after=1))
    head = "\n".join(line for _, line in islice(_filled(text), _LOOKED_AT))
    separator = max("|,;\t", key=head.count)
    if separator in head:
        return Cells(separator=separator, lines=_markdown(text) if separator == "|" else _csv(text, separator))
    apart = r"[ ]{2,}" if re.search(r"\S[ ]{2,}\S", head) else r"[ ]+"
    return Cells(separator=" ", lines=((number, re.split(apart, line.strip())) for number, line in _filled(text)))


def _filled(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _markdown(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _filled(text):
        if not _RULE.issuperset(line):
            cells = line.strip().removeprefix("|").removesuffix("|").split("|")
            yield number, [cell.strip().strip(_EMPHASIS).strip() for cell in cells]


def _csv(text: str, separator: str, after: int = 0) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield after + reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise BadInput(f"line {after + reader.line_num} is no CSV ({error}); quote cells properly") from None
