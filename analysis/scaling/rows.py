"""What does a line of a table of throughputs say? Its header and cells, checked one by one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.scaling.series import Measure
from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import printable

_SHOWN = 60  # characters of a cell
_ALIASES = {
    "ranks": ("n_gpus", "world_size", "n", "gpus", "ranks", "num_gpus", "num_ranks", "ngpus"),
    "series": ("series", "group_id"),
    "machine": ("machine", "cluster", "system"),
    "gpu": ("gpu",),
    "interconnect": ("interconnect",),
    "nodes": ("nodes",),
    "gpus_per_node": ("gpus_per_node",),
    "unit": ("unit",),
    "metric": ("metric",),
    "value": ("value",),
}
_MEASURED: Mapping[str, tuple[Measure, float]] = {  # in the order in which a table's columns are taken
    "throughput": ("throughput", 1.0),
    "tokens_per_second": ("throughput", 1.0),
    "samples_per_second": ("throughput", 1.0),
    "throughput_per_gpu": ("throughput_per_rank", 1.0),
    "throughput_per_rank": ("throughput_per_rank", 1.0),
    "tokens_per_second_per_gpu": ("throughput_per_rank", 1.0),
    "step_s": ("step_s", 1.0),
    "step_ms": ("step_s", 1e-3),
    "time_s": ("step_s", 1.0),
    "time_ms": ("step_s", 1e-3),
    "mfu": ("mfu", 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measurement; `kind` is what the table calls it, with its unit."""

    ranks: int
    kind: str
    measure: Measure
    value: float
    interconnect: str
    ranks_per_node: int | None


def columns_of(header: Sequence[str], line: int) -> dict[str, int]:
    """Return where each known column is, what was measured as `measured`; raise BadInput naming what is missing."""
    names = [name.lower().replace(" ", "_") for name in header]
    found = {kind: names.index(name) for kind, known in _ALIASES.items() for name in reversed(known) if name in names}
    known = {*_MEASURED, *(name for aliases in _ALIASES.values() for name in aliases)}
    if twice := next((name for name in names if name in known and names.count(name) > 1), None):
        raise BadInput(f"line {line}: several columns {twice}; keep one")
    if "ranks" not in found:
        raise BadInput(f"line {line}: no column of ranks; name one n_gpus or world_size")
    if measured := next((name for name in _MEASURED if name in names), None):
        return {name: index for name, index in found.items() if name not in ("metric", "value")} | {
            measured: names.index(measured)
        }
    if not {"metric", "value"} <= found.keys():
        raise BadInput(f"line {line}: nothing measured; name a column throughput (over all ranks), step_s or step_ms")
    return found


def line_of(cells: Mapping[str, str], line: int) -> Line:
    """Return what the cells of a line say, by column; raise BadInput naming the line and the mend."""
    ranks = _whole(cells["ranks"], line, "ranks")
    kind, measure, value = _measured(cells, line)
    nodes, per_node = (_whole(cells[name], line, name) if cells.get(name) else None for name in ("nodes", "gpus_per_node"))
    if nodes is not None and (ranks < nodes or (per_node and ranks > nodes * per_node)):
        size = f" of {per_node}" if per_node else ""
        raise BadInput(f"line {line}: {ranks} ranks on {nodes} nodes{size}; give the nodes that they ran on")
    if per_node is None and nodes is not None and nodes > 1:
        per_node = -(-ranks // nodes)
    return Line(
        ranks=ranks, kind=kind, measure=measure, value=value,
        interconnect=cells.get("interconnect", ""), ranks_per_node=per_node,
    )  # fmt: skip


def machine_of(cells: Mapping[str, str]) -> str:
    """Return what a line's machine is called; without a name two are one where card and interconnect are, "" with neither."""
    if named := cells.get("machine", ""):
        return named
    return f"{cells['gpu']} {cells.get('interconnect', '')}".strip() if cells.get("gpu") else ""


def _measured(cells: Mapping[str, str], line: int) -> tuple[str, Measure, float]:
    if name := next((name for name in _MEASURED if name in cells), None):
        measure, factor = _MEASURED[name]
        return f"{name} {cells.get('unit', '')}".strip(), measure, _positive(cells[name], line, name) * factor
    metric, unit = cells["metric"].lower().replace(" ", "_"), cells.get("unit", "")
    value = _positive(cells["value"], line, "value")
    kind = f"{metric} {unit}".strip()
    if metric == "step_time" and unit.split(" ")[0] in ("s", "ms"):
        return kind, "step_s", value * (1e-3 if unit.startswith("ms") else 1.0)
    if metric == "steps_per_second":
        return kind, "step_s", 1 / value
    if metric not in _MEASURED:
        raise BadInput(
            f"line {line}: metric {printable(kind)[:_SHOWN]!r} is not known; use step_time in s or ms, throughput or mfu"
        )
    measure, factor = _MEASURED[metric]
    return kind, measure, value * factor


def _whole(cell: str, line: int, name: str) -> int:
    cell = cell.removesuffix(".0")  # a number of ranks beside a gap was a float to whatever wrote the table
    if not cell.isascii() or not cell.isdigit() or len(cell) > 6 or not 1 <= int(cell) <= MAX_RANKS:
        raise BadInput(f"line {line}: {name} {cell[:_SHOWN]!r} is no whole number from 1 to {MAX_RANKS}")
    return int(cell)


def _positive(cell: str, line: int, name: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 1e-30 < value < 1e30:
        raise BadInput(f"line {line}: {name} {cell[:_SHOWN]!r} is no number above 0; leave out rows that were not measured")
    return value
