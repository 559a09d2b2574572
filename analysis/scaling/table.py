"""A user's table of throughputs or step times by number of ranks -> series.

A header, then one line a measurement; comma, semicolon or tab between the cells. Needed are the ranks (`n_gpus`, `world_size`,
`n`, `gpus`, `ranks`) and what was measured: `throughput` (samples, tokens ... per second over all ranks), or the time of a step
(`step_s`, `step_ms`, `time_s`, `time_ms`). `series` or `group_id` tells several series of one file apart; `interconnect`,
`nodes` and `gpus_per_node` are taken where they are there, other columns are left alone. Lines of one series with the same
ranks are repeats; their median counts.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from commprof.analysis.readers.as_run import read_text
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import printable

Interconnect = Literal["nvlink", "pcie", "unknown"]
Measure = Literal["throughput", "step_s"]
_MAX_ROWS = 100_000
_MAX_NAME = 60
_ALIASES = {
    "ranks": ("n_gpus", "world_size", "n", "gpus", "ranks", "num_gpus", "num_ranks", "ngpus"),
    "throughput": ("throughput",),
    "series": ("series", "group_id"),
    "interconnect": ("interconnect",),
    "nodes": ("nodes",),
    "gpus_per_node": ("gpus_per_node",),
}
_STEP_UNITS = {"step_s": 1.0, "step_ms": 1e-3, "time_s": 1.0, "time_ms": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Measurements that differ in the number of ranks only.

    `values` are samples per second over all ranks, or seconds per step, by number of ranks; `ranks_per_node` is None where the
    table does not tell.
    """

    name: str
    measure: Measure
    values: Mapping[int, float]
    interconnect: Interconnect = "unknown"
    ranks_per_node: int | None = None

    def time(self, world_size: int, scaling: ScalingKind) -> float:
        """Return the time of a step, in seconds per step or per what a rank (weak) or all ranks (strong) do in one."""
        return _swapped(self.values[world_size], world_size, self.measure, scaling)

    def value(self, time: float, world_size: int, scaling: ScalingKind) -> float:
        """Return the throughput or the seconds a step that belong to such a time."""
        return _swapped(time, world_size, self.measure, scaling)


def read_series(path: Path) -> tuple[Series, ...]:
    """Read a table; raises BadInput naming the file, the line and the mend."""
    try:
        return parse_series(read_text(path))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def parse_series(text: str) -> tuple[Series, ...]:
    """Read a table from its text; raises BadInput naming the line and the mend."""
    if "\0" in text:
        raise BadInput("it holds NUL bytes and is no text; save the table as CSV")
    lines = _lines(text)
    header_line, header = next(lines, (1, []))
    columns = _columns(header, header_line)
    rows: dict[str, list[_Row]] = {}
    for count, (line, cells) in enumerate(lines, 1):
        if count > _MAX_ROWS:
            raise BadInput(f"line {line}: more than {_MAX_ROWS} rows; keep those that belong together")
        if len(cells) > len(header):
            raise BadInput(f"line {line} has {len(cells)} cells, the header {len(header)}; quote cells that hold a comma")
        row = _row({kind: cells[index] if index < len(cells) else "" for kind, index in columns.items()}, line)
        rows.setdefault(row.series, []).append(row)
    if not rows:
        raise BadInput(f"line {header_line} is its last; give a header and a row for each number of ranks")
    measure: Measure = "throughput" if "throughput" in columns else "step_s"
    return tuple(_series(name, members, measure) for name, members in rows.items())


def interconnect_of(words: str) -> Interconnect:
    """Return the class of a link from its description; cards on PCIe with bridges between pairs count as PCIe."""
    words = words.lower()
    if "pcie" in words or "pci-e" in words or "pci express" in words:
        return "pcie"
    if "no nvlink" in words:
        return "unknown"
    return "nvlink" if "nvlink" in words or "nvswitch" in words else "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    line: int
    series: str
    ranks: int
    value: float
    interconnect: str
    ranks_per_node: int | None


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise BadInput(f"line {reader.line_num} is no CSV ({error}); quote cells properly") from None


def _columns(header: Sequence[str], line: int) -> dict[str, int]:
    """Return where each known column is; a column of step times is known by its unit."""
    names = [name.lower().replace(" ", "_") for name in header]
    found = {kind: names.index(name) for kind, known in _ALIASES.items() for name in reversed(known) if name in names}
    found |= {unit: names.index(unit) for unit in _STEP_UNITS if unit in names and "throughput" not in found}
    known = {*_STEP_UNITS, *(name for aliases in _ALIASES.values() for name in aliases)}
    if twice := next((name for name in names if name in known and names.count(name) > 1), None):
        raise BadInput(f"line {line}: several columns {twice}; keep one")
    if "ranks" not in found:
        raise BadInput(f"line {line}: no column of ranks; name one n_gpus or world_size")
    if "throughput" not in found and not found.keys() & _STEP_UNITS.keys():
        raise BadInput(f"line {line}: nothing measured; name a column throughput (over all ranks), step_s or step_ms")
    return found


def _row(cells: Mapping[str, str], line: int) -> _Row:
    ranks = _whole(cells["ranks"], line, "ranks")
    kind = next(kind for kind in ("throughput", *_STEP_UNITS) if kind in cells)
    value = _positive(cells[kind], line, kind) * _STEP_UNITS.get(kind, 1.0)
    nodes, per_node = (_whole(cells[name], line, name) if cells.get(name) else None for name in ("nodes", "gpus_per_node"))
    if per_node is None and nodes is not None and nodes > 1:
        per_node = -(-ranks // nodes)
    name = printable(cells.get("series", ""))[:_MAX_NAME]
    return _Row(
        line=line, series=name, ranks=ranks, value=value, interconnect=cells.get("interconnect", ""), ranks_per_node=per_node
    )


def _whole(cell: str, line: int, name: str) -> int:
    cell = cell.removesuffix(".0")  # a number of ranks beside a gap was a float to whatever wrote the table
    if not cell.isascii() or not cell.isdigit() or len(cell) > 6 or not 1 <= int(cell) <= MAX_RANKS:
        raise BadInput(f"line {line}: {name} {cell[:_MAX_NAME]!r} is no whole number from 1 to {MAX_RANKS}")
    return int(cell)


def _positive(cell: str, line: int, name: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 1e-30 < value < 1e30:
        raise BadInput(f"line {line}: {name} {cell[:_MAX_NAME]!r} is no number above 0; leave out rows that were not measured")
    return value


def _series(name: str, rows: Sequence[_Row], measure: Measure) -> Series:
    kinds = {interconnect_of(row.interconnect) for row in rows}
    sizes = [row.ranks_per_node for row in rows if row.ranks_per_node is not None]
    by_ranks: dict[int, list[float]] = {}
    for row in rows:
        by_ranks.setdefault(row.ranks, []).append(row.value)
    return Series(
        name=name,
        measure=measure,
        values={ranks: median(values) for ranks, values in sorted(by_ranks.items())},
        interconnect=kinds.pop() if len(kinds) == 1 else "unknown",
        ranks_per_node=min(sizes, default=None),
    )


def _swapped(number: float, world_size: int, measure: Measure, scaling: ScalingKind) -> float:
    """Turn a throughput into the time of a step or back; seconds a step stay as they are."""
    if measure == "step_s":
        return number
    return (world_size if scaling == "weak" else 1) / number
