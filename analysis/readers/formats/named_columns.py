"""What do the names of a table's columns mean, and what does a row of such cells say?

Needed are a size and a time, or a size and algbw. Names are read without case and blanks, and the unit stands in the name:
`size`, `bytes`, `size_mib`; `time_us`, `time (ms)`, `latency_s`; `algbw`, `busbw` (GB/s). A time without a unit has the one by
which size / time is the printed algbw. Further columns are taken where they are there: op, n (ranks, world_size, gpus), nodes,
dtype, redop, root, in_place, wrong. Each collective and number of ranks becomes a sweep.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.readers.foreign import (
    Figure,
    ForeignSweep,
    ForeignTime,
    data_type,
    figure,
    is_close,
    printed_over_derived,
    rescaled,
    whole_number,
)
from commprof.analysis.readers.operation import operation_in
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import parse_bytes

_SIZE = re.compile(r"(?:message_?|msg_?|total_?|payload_?)?(?:size|bytes|payload)_?(?:in_?)?(b|bytes|k|kb|kib|mb|mib|gb|gib)?")
_TIME = re.compile(r"(?:median_|mean_|avg_)?(?:time|latency|duration|seconds)_?(us|usec|ms|msec|s|sec|seconds|ns)?")
_RATE = re.compile(r"(alg|bus)_?(?:bw|bandwidth)_?(gbps|gb_?s|gb_per_s|bytes_per_s)?")
_SIZE_UNITS = {"k": 2**10, "kb": 1e3, "kib": 2**10, "mb": 1e6, "mib": 2**20, "gb": 1e9, "gib": 2**30}
_TIME_UNITS = {"us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ns": 1e-9}
_OTHERS = {
    "op": ("op", "operation", "collective", "coll", "name"),
    "ranks": ("n", "ranks", "world_size", "nranks", "num_ranks", "gpus", "ngpus", "n_gpus", "num_gpus"),
    "nodes": ("nodes", "nnodes", "num_nodes", "n_nodes"),
    "dtype": ("dtype", "type", "datatype"),
    "redop": ("redop", "reduction", "reduce_op"),
    "root": ("root",),
    "in_place": ("in_place", "inplace"),
    "wrong": ("wrong", "num_wrong", "nwrong", "errors"),
}
OP_NAMES = {"alltoall": "all_to_all", "sendrecv": "send_recv", "allreduce": "all_reduce", "allgather": "all_gather"}
OP_NAMES |= {"reducescatter": "reduce_scatter", "bcast": "broadcast", "alltoallv": "all_to_all", "allgatherv": "all_gather"}
_NO_UNIT = "its time column has no unit; name it time_us, time_ms or time_s"

Key = tuple[str | None, int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the surroundings of a table say where its columns do not."""

    dialect: str = "CSV"
    op: str | None = None
    op_source: str = "its op column"
    num_ranks: int | None = None
    ranks_source: str = "its column of ranks"
    num_nodes: int | None = None
    nodes_source: str = "its column of nodes"
    backend: str = "nccl"
    time_unit: str | None = None


def columns_of(cells: Iterable[str]) -> list[str]:
    """Return what each column means, units included ("size:mib"); nothing for a line that is no header."""
    names = [_meaning(re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_")) for cell in cells]
    kinds = {name.partition(":")[0] for name in names}
    return names if "size" in kinds and kinds & {"time", "alg"} else []


def sweeps_of(rows: Iterable[Mapping[str, str]], said: Statement) -> tuple[ForeignSweep, ...]:
    """Return the sweeps of rows, each a cell by its column's meaning; raises UnusableData where none has a size and a time."""
    by_sweep: dict[Key, list[ForeignTime]] = {}
    skipped, has_unit = 0, True
    for row in rows:
        cells = {name.partition(":")[0]: (cell, name.partition(":")[2]) for name, cell in row.items()}
        has_unit = "time" not in cells or bool(cells["time"][1])
        time = _time(cells)
        if time is None:
            skipped += 1
            continue
        by_sweep.setdefault(_key(cells), []).append(time)
    if not by_sweep:
        raise UnusableData("its table has no line with a size and a time")
    notes = [f"{skipped} lines without a size and a time left out"] if skipped else []
    return tuple(_sweep(key, times, notes, said, has_unit=has_unit) for key, times in by_sweep.items())


def _meaning(name: str) -> str:
    for kind, pattern in (("size", _SIZE), ("time", _TIME)):
        if match := pattern.fullmatch(name):
            return f"{kind}:{match[1] or ('s' if name == 'seconds' else '')}"
    if match := _RATE.fullmatch(name):
        return f"{match[1]}:{'B' if match[2] == 'bytes_per_s' else ''}"
    return next((kind for kind, names in _OTHERS.items() if name in names), f"?{name}")


def _key(cells: Mapping[str, tuple[str, str]]) -> Key:
    op = re.sub(r"_perf$", "", cells.get("op", ("", ""))[0].strip().lower().replace("-", "_"))
    ranks, nodes = (whole_number(cells.get(name, ("", ""))[0].strip()) for name in ("ranks", "nodes"))
    op = OP_NAMES.get(op, op)
    return (op if op in OPERATIONS else operation_in(op) or op) or None, ranks, nodes


def _time(cells: Mapping[str, tuple[str, str]]) -> ForeignTime | None:
    if "size" not in cells:
        return None
    size = _size(*cells["size"])
    alg, bus = (_rate(cells.get(name)) for name in ("alg", "bus"))
    time_s = _seconds(cells.get("time"), size, alg)
    dtype = data_type(cells["dtype"][0]) if "dtype" in cells else ("float32", True)
    if size is None or time_s is None or dtype is None:
        return None
    wrong, root = (whole_number(cells.get(name, ("", ""))[0]) for name in ("wrong", "root"))
    redop = cells.get("redop", ("", ""))[0].lower()
    return ForeignTime(
        message_bytes=size,
        time_s=time_s,
        in_place=cells.get("in_place", ("", ""))[0].lower() not in ("0", "false", "no", "out"),
        dtype=dtype[0],
        reduction=redop if redop not in ("", "none", "n/a") else None,
        root=root,
        algbw=alg,
        busbw=bus,
        num_wrong=wrong,
    )


def _size(cell: str, unit: str) -> int | None:
    if unit in _SIZE_UNITS:
        number = figure(cell)
        return round(number.value * _SIZE_UNITS[unit]) if number else None
    if (size := whole_number(cell)) is not None:
        return size
    try:
        return parse_bytes(cell.replace(" ", ""))
    except BadInput:
        return None


def _rate(cell: tuple[str, str] | None) -> Figure | None:
    return None if cell is None else figure(cell[0], 1.0 if cell[1] == "B" else 1e9)


def _seconds(cell: tuple[str, str] | None, size: int | None, algbw: Figure | None) -> Figure | None:
    """Return the time, in whatever unit where the column names none; where only the rate is given, size / rate."""
    if cell is not None:
        return figure(cell[0], _TIME_UNITS.get(cell[1], 1.0))
    if size is None or algbw is None or not algbw.low > 0:
        return None
    return Figure(value=size / algbw.value, slack=size / algbw.value * algbw.slack / algbw.value)


def _in_seconds(times: Sequence[ForeignTime]) -> tuple[tuple[ForeignTime, ...], str]:
    """Return the times in the unit by which size / time is algbw, and its name; raises UnusableData where none is."""
    off = printed_over_derived(times)
    for unit in ("us", "ms", "s", "ns"):
        if off is not None and is_close(off, 1 / _TIME_UNITS[unit]):
            return rescaled(times, _TIME_UNITS[unit]), unit
    raise UnusableData(_NO_UNIT)


def _sweep(key: Key, times: Sequence[ForeignTime], notes: Sequence[str], said: Statement, *, has_unit: bool) -> ForeignSweep:
    op, ranks, nodes = key
    if not has_unit and said.time_unit is not None:
        times = rescaled(times, _TIME_UNITS[said.time_unit])
    elif not has_unit:
        times, unit = _in_seconds(times)
        notes = [*notes, f"the times are in {unit}: only so do they agree with the printed algbw"]
    return ForeignSweep(
        dialect=said.dialect,
        times=tuple(times),
        op=op or said.op,
        op_source="its op column" if op else said.op_source,
        num_ranks=ranks or said.num_ranks,
        ranks_source="its column of ranks" if ranks else said.ranks_source,
        num_nodes=nodes or said.num_nodes,
        nodes_source="its column of nodes" if nodes else said.nodes_source,
        backend=said.backend,
        notes=tuple(notes),
    )
