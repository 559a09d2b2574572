"""What do the columns of nccl-tests' table say, in which order, where a header names them?

Tables that were shortened by hand, and mscclpp-test's, have no data type and are read by their header's names. The line above
the header says which placement comes first; mscclpp-test leaves the one blank that it did not measure.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from commprof.analysis.readers.foreign import figure, whole_number

_STAMP = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d")
_PLACEMENT = re.compile(r"\b(?:(in)|out[- _]of)[- _]place\b", re.IGNORECASE)
_LEFT_BLANK = re.compile(r"\s{25,}")  # between a row's count and the second placement's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row's words: what it is about, then the values of each placement, of which the first may be left blank."""

    size: str
    count: str | None
    dtype: str
    words: tuple[str, ...]
    starts_at: int = 0


def columns_of(line: str) -> tuple[str, ...] | None:
    """Return the names of a header's columns, or None for any other line."""
    if "time" not in line.lower():
        return None
    words = line.lower().replace("#wrong", "wrong").replace("#", " ").split()
    for index, word in enumerate(words):
        if word in ("size", "bytes") and ({"time", "cputime"} & set(words)):
            return tuple(words[index:])
    return None


def placements_of(lines: Iterable[str]) -> tuple[bool, ...]:
    """Return of each placement, from left to right, whether it is in place; nothing where no line above the header says so."""
    said: tuple[bool, ...] = ()
    for line in lines:
        if columns_of(line) is not None:
            return said
        found = tuple(match[1] is not None for match in _PLACEMENT.finditer(line[:500]))
        said = found if found and not re.sub(_PLACEMENT, "", line[:500]).strip("# |\t") else said
    return ()


def first_time(columns: Sequence[str]) -> int:
    return next(index for index, name in enumerate(columns) if name in ("time", "cputime"))


def is_value(word: str) -> bool:
    return figure(word) is not None or word.upper() in ("N/A", "NAN", "INF", "-NAN", "-INF") or bool(_STAMP.fullmatch(word))


def without_stamp(words: Iterable[str]) -> list[str]:
    return [word for word in words if not _STAMP.fullmatch(word)]


def bare_rows(lines: Iterable[str], columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a table with a header of its own, such as `size time algbw busbw`, once or twice beside each other."""
    begins = [index for index, name in enumerate(columns) if name in ("time", "cputime")]
    ends = [*begins[1:], len(columns)]
    for line in lines:
        words = line.replace("#", " ").split()
        if (
            not begins[0]
            or not words
            or whole_number(words[0]) is None
            or not all(is_value(w) or whole_number(w) for w in words)
        ):
            continue
        named = dict(zip(columns[: begins[0]], words, strict=False))
        left_blank = int(len(begins) > 1 and len(words) <= ends[0] and _LEFT_BLANK.search(line.strip()) is not None)
        halves = _halves(words, columns, list(zip(begins, ends, strict=True))[: 1 if len(words) <= ends[0] else 2])
        if halves:
            count = next((named[name] for name in ("count", "elements", "n") if name in named), None)
            yield Row(size=words[0], count=count, dtype="float", words=halves, starts_at=left_blank)


def _halves(words: Sequence[str], columns: Sequence[str], spans: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Return `time algbw busbw errors` of each placement; nothing for a row that lacks some of it."""
    found: list[str] = []
    for begin, end in spans:
        named = dict(zip(columns[begin:end], words[begin:end], strict=False))
        if len(named) < end - begin - ("wrong" in columns):  # which mscclpp-test leaves out where nothing was compared
            return ()
        errors = named.get("wrong", named.get("error", "N/A"))
        found += [named.get("time", named.get("cputime", "N/A")), named.get("algbw", "N/A"), named.get("busbw", "N/A"), errors]
    return tuple(found)
