"""Rows out of nccl-tests' text: lines -> tables -> rows of words. What the words mean, nccl_tests.py says.

A row is searched for inside its line, so that whatever a launcher puts before it does not matter. NCCL writes its own lines to
the same output, now and then into the middle of a row: they are cut out and the row is put together again.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from commprof.analysis.readers.ending import fatal_line
from commprof.analysis.readers.foreign import DATA_TYPE_WORDS, whole_number
from commprof.analysis.readers.formats.nccl_tests_columns import Row, bare_rows, columns_of, first_time, is_value, without_stamp

_REDUCTIONS = ("sum", "prod", "max", "min", "avg", "mulsum", "none")
_MAX_LINE = 2_000  # a row with per-iteration figures has 250 characters, padding included
_VALUES = 8  # two placements: time, algbw, busbw and errors

_ANSI = re.compile(r"\x1b\[[0-9;]{0,16}[A-Za-z]")
_LAUNCHER = re.compile(r"\s*(?:\[\d{1,9},(\d{1,9})\]<std\w{3}>:|(\d{1,6}): )")
_INFO = re.compile(r" \[-?\d{1,4}\] NCCL (?:INFO|WARN|TRACE|VERSION)\b")
_ROW = re.compile(rf"(?<![\w.])(\d{{1,18}})\s+(\d{{1,18}})\s+({'|'.join(DATA_TYPE_WORDS)})(?:\s+(.*))?$", re.IGNORECASE)
_STUCK = re.compile(r"(?:-?\d{1,12}(?:\.\d{1,4})?|N/A)(?=[A-Za-z])")
_TYPES = ("float", "half", "double", "int", "char", "f8", "fp", "bf16", "bool", "long")  # at least one is in every type's name
PROGRAM = re.compile(r"\b(\w{4,18})_perf\b")
DEVICE = re.compile(
    r"Rank\s+(\d{1,6})\s+(?:Group\s+(\d{1,6})\s+)?Pid\s+(\S{1,12})\s+on\s+(\S{1,256})\s+device\s+(\d{1,6})\s+\[([^\]]{1,32})\]\s+(.*)"
)
LIST_BEGINS = "Using devices"
HEADER = "minBytes"  # in the line that says what was asked for
_BEGINS = (HEADER, "test starting", LIST_BEGINS, "nccl-tests version")


def tables(text: str) -> list[list[str]]:
    """Part a text into the lines of each table, what stands before and after it included; a test that began may have no rows.

    None where no table has rows.
    """
    found = [section for stream in _streams(text_lines(text)) for section in _sections(stream)]
    return found if any(map(rows_of, found)) else []


def text_lines(text: str) -> list[str]:
    return [_ANSI.sub("", line[:_MAX_LINE]).rstrip() for line in text.splitlines()]


def _streams(lines: Sequence[str]) -> list[list[str]]:
    """Part the output of ranks that each printed a table of their own, where the launcher tells them apart."""
    by_rank: dict[str, list[str]] = {}
    for line in lines:
        match = _LAUNCHER.match(line)
        by_rank.setdefault((match[1] or match[2]) if match else "", []).append(line[match.end() :] if match else line)
    talking = [stream for stream in by_rank.values() if any(map(_is_row, stream))]
    if len(talking) > 1:
        return talking
    return [[line[match.end() :] if (match := _LAUNCHER.match(line)) else line for line in lines]]


def _is_row(line: str) -> bool:
    return _row_in(line) is not None


def _row_in(line: str) -> re.Match[str] | None:
    low = line.lower()
    return _ROW.search(line) if any(name in low for name in _TYPES) else None  # far cheaper on lines of digits alone


def _sections(lines: Sequence[str]) -> list[list[str]]:
    """Part a stream where, after rows or a crash, something begins anew; keep the parts with rows and the tests without."""
    sections: list[list[str]] = [[]]
    has_rows = has_header = crashed = False
    for line in lines:
        header = columns_of(line) is not None
        anew = header or any(mark in line for mark in _BEGINS)
        if (anew and (has_rows or crashed)) or (has_rows and _names_another(line)):
            sections.append([])
            has_rows = has_header = crashed = False
        sections[-1].append(line)
        has_header = has_header or header
        has_rows = (
            has_rows or _is_row(line) or (has_header and whole_number(line.split(maxsplit=1)[0] if line else "") is not None)
        )
        crashed = crashed or fatal_line([line]) is not None
    return [section for section in sections if rows_of(section) or any(HEADER in line for line in section)]


def _names_another(line: str) -> bool:
    """Whether a line after rows belongs to the next table: a device or a program's name, unless it tells of the end."""
    return DEVICE.search(line) is not None or ("concluded" not in line and PROGRAM.search(line) is not None)


def _without_info(line: str) -> str:
    """Cut off what NCCL logs, from its `host:pid:tid` on; a value that it stuck to, as in `0node3:12:34`, stays."""
    match = _INFO.search(line)
    if match is None:
        return line
    start = line.rfind(" ", 0, match.start()) + 1
    stuck = _STUCK.match(line, start) if line[:start].strip() else None
    return line[:start] + (stuck[0] if stuck else "")


def rows_of(lines: Sequence[str]) -> list[Row]:
    columns = next((found for line in lines if (found := columns_of(line))), None)
    if columns is not None and not {"type"} & set(columns):
        return list(bare_rows(lines, columns))
    wanted = _num_values(columns)
    return list(_full_rows(lines, wanted)) or list(_full_rows(lines, 4))


def _full_rows(lines: Iterable[str], wanted: int) -> Iterator[Row]:
    """Yield rows with at least the wanted number of values, those that NCCL's own lines broke put together from their parts."""
    open_row: Row | None = None
    for line in lines:
        rest = _without_info(line)
        match = _row_in(rest)
        if match is not None:
            words = tuple((match[4] or "").split())
            open_row = Row(size=match[1], count=match[2], dtype=match[3], words=words)
        elif open_row is not None and rest.split() and all(map(is_value, rest.split())):
            open_row = replace(open_row, words=(*open_row.words, *rest.split()))
        if open_row is not None and len(values_of(open_row)[2]) >= wanted:
            yield open_row
            open_row = None


def last_start(lines: Sequence[str]) -> tuple[int, str] | None:
    """Return the line in which the last row begins, whole or not, and its size; None without any."""
    columns = next((found for line in lines if (found := columns_of(line))), None)
    bare = columns is not None and "type" not in columns
    for index in range(len(lines) - 1, -1, -1):
        words = lines[index].replace("#", " ").split()
        match = None if bare else _row_in(_without_info(lines[index]))
        if match is not None:
            return index, match[1]
        if (
            bare
            and len(words) > 1
            and all(is_value(w) or whole_number(w) for w in words)
            and whole_number(words[0]) is not None
        ):
            return index, words[0]
    return None


def _num_values(columns: tuple[str, ...] | None) -> int:
    """Return how many values a whole row has at least."""
    if columns is None:
        return _VALUES
    return len(columns) - first_time(columns) - ("timestamp" in columns)


def values_of(row: Row) -> tuple[str | None, int | None, list[str]]:
    """Part a row's words into reduction, root and the values of its placements."""
    words = without_stamp(row.words)
    reduction = words.pop(0).lower() if words and words[0].lower() in _REDUCTIONS else None
    has_root = len(words) % 4 == 1 or words[:1] == ["-1"]
    root = int(words[0]) if has_root and re.fullmatch(r"-?\d{1,6}", words[0]) else None
    return reduction, root, words[1:] if root is not None else words
