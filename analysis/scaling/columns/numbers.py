"""Which number is in a cell? Thousands and decimals as people write them, k and M, a unit or a spread behind it.

A comma is what the whole column makes of it: `0,25` in one cell says that it is a decimal comma in all of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LONGEST = 64
_CELL = re.compile(
    r"[~≈]?\s*(?P<number>[+-]?(?:[0-9][0-9.,'_\s]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(?P<suffix>[kKMGB](?![a-zA-Z]))?"
    r"\s*(?P<unit>%|[a-zA-Zµμ][a-zA-Z/µμ .]*)?\s*(?:\(?\s*(?:±|\+/-|\+-).*|[*†‡]+)?"
)
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_BLANKS = re.compile(r"(?<=[0-9])['_\s](?=[0-9]{3}(?![0-9]))")
_TIMES: dict[str, float] = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A cell's number, and the unit behind it as written, "" without one."""

    value: float
    unit: str = ""


def decimal_comma(cells: Iterable[str], separator: str) -> bool | None:
    """Tell whether a column's commas are decimal, from all its cells; None where they may be thousands as well."""
    numbers = [_BLANKS.sub("", found["number"].strip()) for cell in cells if (found := _matched(cell))]
    commas = [number for number in numbers if "," in number]
    if not all(_THOUSANDS.fullmatch(number) for number in commas):
        return True
    sure = len(commas) < len(numbers) or any(number.count(",") > 1 or "." in number for number in commas)
    return None if commas and separator == ";" and not sure else False


def number_of(cell: str, comma_is_decimal: bool) -> Number | None:
    """Return the number of a cell, None where it holds none."""
    found = _matched(cell)
    if found is None:
        return None
    digits = _BLANKS.sub("", found["number"].strip())
    if comma_is_decimal:
        digits = digits.replace(".", "").replace(",", ".", 1) if "," in digits else digits
    elif _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    try:
        value = float(digits)
    except ValueError:
        return None
    return Number(value=value * _TIMES[found["suffix"] or ""], unit=(found["unit"] or "").strip())


def _matched(cell: str) -> re.Match[str] | None:
    return _CELL.fullmatch(cell) if len(cell) <= _LONGEST else None
