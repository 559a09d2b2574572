"""A user's table of throughputs or step times by number of ranks -> series.

A header, then one line a measurement, as CSV, Markdown or columns set apart by blanks (`columns.lines`); titles and comments
may stand before. Needed are the ranks (`n_gpus`, `world_size`, `# GPUs`, `2x8` in a cell; or `nodes` and `gpus_per_node`) and
what was measured (`columns.measures`), in a column of its own or as `metric`, `value` and `unit` of each row. `series` or
`group_id` tells several series of one file apart, without them model, framework, precision and their like; `machine` (or
cluster, system; else `gpu` and `interconnect` together) what they ran on. `parallelism`, batches, `interconnect`, `nodes` and
`gpus_per_node` are taken where they are there, other columns are left alone. Lines of one series with the same ranks are
repeats; their median counts, unless most are far from it. Of several metrics a measurement the first counts. A series with a
line that cannot be read keeps what is wrong with it, as `fault`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

from commprof.analysis.readers.as_run import read_text
from commprof.analysis.scaling.columns.header import Columns, columns_of
from commprof.analysis.scaling.columns.lines import cells_of
from commprof.analysis.scaling.columns.rows import Habits, Line, habits_of, line_of, machine_of
from commprof.analysis.scaling.columns.trainings import setups_of, split_of
from commprof.analysis.scaling.series import Interconnect, Series
from commprof.commbench.errors import BadInput
from commprof.commbench.units import printable

_MAX_ROWS = 100_000
_MAX_NAME = 60
_HEADER_WITHIN = 10  # lines: a title, a comment
_REPEATS = 0.1  # most repeats lie as near their median; where they do not, something else differed


@dataclass(slots=True)
class _Lines:
    """What the table says of one series, and what is wrong with the first line that cannot be read."""

    machine: str
    split: str
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
    if text.lstrip()[:1] in ("{", "[", "<"):
        raise BadInput("line 1: it begins like JSON or HTML; save the table as CSV")
    cells = cells_of(text)
    header_line, header = _header(cells.lines)
    columns = columns_of(header, header_line)
    rows = list(_rows(cells.lines, len(header)))
    if not rows:
        raise BadInput(f"line {header_line} is its last; give a header and a row for each number of ranks")
    named = [columns.named(row) for _, row in rows]
    habits = habits_of(named, cells.separator, rows[0][0])
    found: dict[str, _Lines] = {}
    for (line, _), setup, each in zip(rows, setups_of(columns, header, [row for _, row in rows]), named, strict=True):
        _take(
            found.setdefault(each.get("series") or setup, _Lines(machine_of(each), split_of(each.get("split", "")))),
            each,
            columns,
            habits,
            line,
        )
    series = tuple(_series(name, lines) for name, lines in found.items())
    if all(one.fault for one in series):
        raise BadInput(series[0].fault)
    return series


def _header(lines: Iterator[tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """Return the header, which titles and comments may stand before; the first line where none is one."""
    first: tuple[int, list[str]] = (1, [])
    for line, cells in islice(lines, _HEADER_WITHIN):
        try:
            columns_of(cells, line)
        except BadInput:
            first = first if first[1] else (line, cells)
        else:
            return line, cells
    return first


def _rows(lines: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for count, (line, cells) in enumerate(lines, 1):
        if count > _MAX_ROWS:
            raise BadInput(f"line {line}: more than {_MAX_ROWS} rows; keep those that belong together")
        if any(cells[width:]):
            raise BadInput(f"line {line} has {len(cells)} cells, the header {width}; quote cells that hold a comma")
        yield line, cells


def _take(into: _Lines, cells: Mapping[str, str], columns: Columns, habits: Habits, line: int) -> None:
    try:
        into.read.append(line_of(cells, columns, habits, line))
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


def _series(name: str, lines: _Lines) -> Series:
    mixed = _mixed(lines.read)
    read = lines.read if mixed else _of_one_kind(lines.read)
    kinds = {interconnect_of(line.interconnect) for line in read}
    by_ranks: dict[int, list[float]] = {}
    for line in read:
        by_ranks.setdefault(line.ranks, []).append(line.value)
    return Series(
        name=_shown(printable(name)),
        measure=read[0].measure if read else "throughput",
        values={ranks: median(values) for ranks, values in sorted(by_ranks.items())},
        interconnect=kinds.pop() if len(kinds) == 1 else "unknown",
        ranks_per_node=min(_node_sizes(read), default=None),
        machine=lines.machine,
        split=lines.split,
        batches={line.ranks: line.batch for line in read if line.batch is not None},
        fault=lines.fault or mixed or _other_nodes(read) or _differ(by_ranks),
    )


def _of_one_kind(lines: Sequence[Line]) -> Sequence[Line]:
    """Return the lines of the first kind, which has a line for all ranks wherever there are several."""
    first = next(iter(_whole_kinds(lines)), "")
    return [line for line in lines if line.kind == first]


def _whole_kinds(lines: Sequence[Line]) -> list[str]:
    """Return the kinds that have a line for all ranks, as a table with several metrics a measurement has."""
    ranks: dict[str, set[int]] = {}
    for line in lines:
        ranks.setdefault(line.kind, set()).add(line.ranks)
    every = set().union(*ranks.values())
    return [kind for kind, own in ranks.items() if own == every]


def _mixed(lines: Sequence[Line]) -> str | None:
    kinds = sorted({line.kind for line in lines})
    if len(kinds) < 2 or _whole_kinds(lines):
        return None
    return f"{' and '.join(repr(printable(kind)[:_MAX_NAME]) for kind in kinds[:2])} in one series; keep one metric and unit"


def _node_sizes(lines: Sequence[Line]) -> list[int]:
    """Return the ranks on a node, by what the lines say; one node alone has as many as its largest line, or more."""
    several = {line.ranks_per_node for line in lines if line.ranks_per_node is not None and line.nodes != 1}
    alone = max((line.ranks_per_node for line in lines if line.ranks_per_node is not None and line.nodes == 1), default=None)
    if alone is not None and (not several or alone > min(several)):
        several.add(alone)
    return sorted(several)


def _other_nodes(lines: Sequence[Line]) -> str | None:
    nodes = sorted({line.nodes for line in lines if line.nodes is not None})
    if len(nodes) > 1 and len({line.ranks for line in lines}) == 1:
        ranks = f"{lines[0].ranks} ranks on {nodes[0]} and on {nodes[-1]} nodes in one series"
        return f"{ranks}; tell them apart by series, or, if they are a node's, name the column gpus_per_node"
    sizes = _node_sizes(lines)
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
