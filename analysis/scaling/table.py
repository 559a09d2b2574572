"""A user's table of throughputs or step times by number of ranks -> series.

A header, then one line a measurement; comma, semicolon or tab between the cells. Needed are the ranks (`n_gpus`,
`world_size`, `n`, `gpus`, `ranks`) and what was measured: `throughput` (samples, tokens ... per second over all ranks), that
of one rank (`throughput_per_gpu`), the time of a step (`step_s`, `step_ms`, `time_s`, `time_ms`) or `mfu`; or `metric` and
`value`, the metric being one of these, or step_time or steps_per_second with a `unit`. `series` or `group_id` tells several
series of one file apart, `machine` (or cluster, system; else `gpu` and `interconnect` together) what they ran on;
`interconnect`, `nodes` and `gpus_per_node` are taken where they are there, other columns are left alone. Lines of one series
with the same ranks are repeats; their median counts, unless most are far from it. A series with a line that cannot be read
keeps what is wrong with it, as `fault`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from commprof.analysis.readers.as_run import read_text
from commprof.analysis.scaling.rows import Line, columns_of, line_of, machine_of
from commprof.analysis.scaling.series import Interconnect, Series
from commprof.commbench.errors import BadInput
from commprof.commbench.units import printable

_MAX_ROWS = 100_000
_MAX_NAME = 60
_REPEATS = 0.1  # most repeats lie as near their median; where they do not, something else differed


@dataclass(slots=True)
class _Lines:
    """What the table says of one series, and what is wrong with the first line that cannot be read."""

    machine: str
    read: list[Line] = field(default_factory=list)
    fault: str | None = None


def read_series(path: Path) -> tuple[Series, ...]:
    """Read a table; raises BadInput naming the file, the line and the mend."""
    try:
        return parse_series(read_text(path))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def parse_series(text: str) -> tuple[Series, ...]:
    """Read a table from its text; raises BadInput naming the line and the mend where no series of it can be read."""
    if "\0" in text:
        raise BadInput("it holds NUL bytes and is no text; save the table as CSV")
    lines = _lines(text)
    header_line, header = next(lines, (1, []))
    columns = columns_of(header, header_line)
    found: dict[str, _Lines] = {}
    for count, (line, cells) in enumerate(lines, 1):
        if count > _MAX_ROWS:
            raise BadInput(f"line {line}: more than {_MAX_ROWS} rows; keep those that belong together")
        if len(cells) > len(header):
            raise BadInput(f"line {line} has {len(cells)} cells, the header {len(header)}; quote cells that hold a comma")
        named = {kind: cells[index] if index < len(cells) else "" for kind, index in columns.items()}
        _take(found.setdefault(named.get("series", ""), _Lines(machine_of(named))), named, line)
    if not found:
        raise BadInput(f"line {header_line} is its last; give a header and a row for each number of ranks")
    series = tuple(_series(name, lines) for name, lines in found.items())
    if all(one.fault for one in series):
        raise BadInput(series[0].fault)
    return series


def _take(into: _Lines, cells: dict[str, str], line: int) -> None:
    try:
        into.read.append(line_of(cells, line))
    except BadInput as error:
        into.fault = into.fault or str(error)


def interconnect_of(words: str) -> Interconnect:
    """Return the class of a link from its description; cards on PCIe with bridges between pairs count as PCIe."""
    words = words.lower()
    if "pcie" in words or "pci-e" in words or "pci express" in words:
        return "pcie"
    if "no nvlink" in words:
        return "unknown"
    return "nvlink" if "nvlink" in words or "nvswitch" in words else "unknown"


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


def _series(name: str, lines: _Lines) -> Series:
    read = lines.read
    kinds = {interconnect_of(line.interconnect) for line in read}
    by_ranks: dict[int, list[float]] = {}
    for line in read:
        by_ranks.setdefault(line.ranks, []).append(line.value)
    return Series(
        name=_shown(printable(name)),
        measure=read[0].measure if read else "throughput",
        values={ranks: median(values) for ranks, values in sorted(by_ranks.items())},
        interconnect=kinds.pop() if len(kinds) == 1 else "unknown",
        ranks_per_node=min((line.ranks_per_node for line in read if line.ranks_per_node is not None), default=None),
        machine=lines.machine,
        fault=lines.fault or _mixed(read) or _other_nodes(read) or _differ(by_ranks),
    )


def _mixed(lines: Sequence[Line]) -> str | None:
    kinds = sorted({line.kind for line in lines})
    if len(kinds) < 2:
        return None
    return f"{' and '.join(repr(printable(kind)[:_MAX_NAME]) for kind in kinds[:2])} in one series; keep one metric and unit"


def _other_nodes(lines: Sequence[Line]) -> str | None:
    sizes = sorted({line.ranks_per_node for line in lines if line.ranks_per_node is not None})
    return f"nodes of {sizes[0]} and of {sizes[1]} ranks in one series; tell them apart by series" if len(sizes) > 1 else None


def _differ(by_ranks: dict[int, list[float]]) -> str | None:
    for ranks, values in sorted(by_ranks.items()):
        middle = median(values)
        if 2 * sum(abs(value / middle - 1) <= _REPEATS for value in values) <= len(values):
            ends = f"{min(values):.4g} to {max(values):.4g}"
            return f"{len(values)} rows of {ranks} ranks, {ends}, are no repeats; tell them apart by series"
    return None


def _shown(name: str) -> str:
    """Shorten a long name in its middle: series differ at the ends."""
    half = _MAX_NAME // 2 - 2
    return name if len(name) <= _MAX_NAME else f"{name[:half]}...{name[-half:]}"
