"""Tables with a header of names, one line per size: comma, semicolon, tab or | between the cells, or flat JSON objects.

One's own CSV, rccl-tests' (-Z csv, -Z json) and mscclpp-test's. What the names mean, named_columns.py says.
"""

import csv
import io
import re
from collections.abc import Iterator

import msgspec

from commprof.analysis.readers.foreign import ForeignSweep
from commprof.analysis.readers.formats.named_columns import Statement, columns_of, sweeps_of
from commprof.commbench.errors import UnusableData

_HEADER_WITHIN = 1_000  # lines
_MAX_OBJECTS = 100_000
_UNREAD = (
    "no table is recognised in it: known are nccl-tests, rccl-tests, mscclpp-test, all_reduce_bench, PARAM's COMMS-RES lines, "
    "OSU's and Intel's MPI benchmarks, ds_bench, gloo's, UCC's and NVSHMEM's benchmarks, nccom-test, and CSV with columns such "
    "as size and time_us"
)


def read_csv_table(text: str) -> tuple[ForeignSweep, ...]:
    """Read a table; raises UnusableData naming the column that is missing, or the unit."""
    lines = [line for line in text.splitlines() if line.strip() and not re.fullmatch(r"[|:\- ]+", line[:500])]
    start = next((index for index, line in enumerate(lines[:_HEADER_WITHIN]) if columns_of(_cells(line))), None)
    if start is None:
        raise UnusableData(_UNREAD)
    columns = columns_of(_cells(lines[start]))
    rows = (dict(zip(columns, _cells(line), strict=False)) for line in lines[start + 1 :])
    return sweeps_of(rows, _said(text))


def read_json_rows(text: str) -> tuple[ForeignSweep, ...]:
    """Read flat JSON objects, in a list or one a line; nothing where there are none with a size and a time."""
    rows: list[dict[str, str]] = []
    for found in _objects(text):
        names = columns_of(found)
        if names:
            rows.append(dict(zip(names, map(str, found.values()), strict=True)))
    return sweeps_of(rows, _said(text)) if rows else ()


def _said(text: str) -> Statement:
    rccl = "numCycle" in text or "gpusPerRank" in text
    if rccl or '"busBw"' in text:
        return Statement(dialect="rccl-tests -Z" if rccl else "mscclpp-test JSON", time_unit="us")
    return Statement()


def _objects(text: str) -> Iterator[dict[str, str | int | float | bool | None]]:
    scalars = dict[str, str | int | float | bool | None]
    try:
        yield from msgspec.json.decode(text, type=list[scalars])[:_MAX_OBJECTS]
    except (msgspec.MsgspecError, RecursionError):
        for line in text.splitlines()[:_MAX_OBJECTS]:
            try:
                yield msgspec.json.decode(line.strip().rstrip(","), type=scalars)
            except (msgspec.MsgspecError, RecursionError):
                continue


def _cells(line: str) -> list[str]:
    line = line[:2_000].strip().strip("|")
    separator = next((mark for mark in ("|", "\t", ";", ",") if mark in line), ",")
    try:
        return [cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []
