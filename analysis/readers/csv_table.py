"""Plain CSV of one's own: a header, then one line per size; comma, semicolon, tab or | between the cells.

Needed are a size and a time, or a size and algbw. Names are read without case and blanks, and the unit stands in the name:
`size`, `bytes`, `size_mib`; `time_us`, `time (ms)`, `latency_s`; `algbw`, `busbw` (GB/s). Further columns are taken where they
are there: op, n (ranks, world_size, gpus), dtype, in_place, wrong. Each collective and number of ranks becomes a sweep.
"""

import csv
import io
import re
from collections.abc import Iterable

from commprof.analysis.readers.foreign import Figure, ForeignSweep, ForeignTime, data_type, figure, whole_number
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.units import parse_bytes

_HEADER_WITHIN = 1_000  # lines
_SIZE = re.compile(r"(?:message_?|msg_?|total_?|payload_?)?(?:size|bytes|payload)_?(?:in_?)?(b|bytes|k|kb|kib|mb|mib|gb|gib)?")
_TIME = re.compile(r"(?:median_|mean_|avg_)?(?:time|latency|duration|seconds)_?(us|usec|ms|msec|s|sec|seconds|ns)?")
_RATE = re.compile(r"(alg|bus)_?(?:bw|bandwidth)_?(gbps|gb_?s|gb_per_s|bytes_per_s)?")
_SIZE_UNITS = {"k": 2**10, "kb": 1e3, "kib": 2**10, "mb": 1e6, "mib": 2**20, "gb": 1e9, "gib": 2**30}
_TIME_UNITS = {"us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ns": 1e-9}
_OTHERS = {
    "op": ("op", "operation", "collective", "coll"),
    "ranks": ("n", "ranks", "world_size", "nranks", "num_ranks", "gpus", "ngpus", "n_gpus", "num_gpus"),
    "dtype": ("dtype", "type", "datatype"),
    "in_place": ("in_place", "inplace"),
    "wrong": ("wrong", "num_wrong", "nwrong", "errors"),
}
_OP_NAMES = {"alltoall": "all_to_all", "sendrecv": "send_recv", "allreduce": "all_reduce", "allgather": "all_gather"}
_OP_NAMES |= {"reducescatter": "reduce_scatter", "bcast": "broadcast"}


def read_csv_table(text: str) -> tuple[ForeignSweep, ...]:
    """Read a table; raises UnusableData naming the column that is missing, or the unit."""
    lines = [line for line in text.splitlines() if line.strip() and not re.fullmatch(r"[|:\- ]+", line[:500])]
    start = next((index for index, line in enumerate(lines[:_HEADER_WITHIN]) if _columns(_cells(line))), None)
    if start is None:
        raise UnusableData(
            "no table is recognised in it: known are nccl-tests (text and JSON), all_reduce_bench, PARAM's COMMS-RES lines and "
            "CSV with columns such as size and time_us"
        )
    columns = _columns(_cells(lines[start]))
    by_sweep: dict[tuple[str | None, int | None], list[ForeignTime]] = {}
    skipped = 0
    for line in lines[start + 1 :]:
        cells = dict(zip(columns, _cells(line), strict=False))
        time = _time(cells)
        if time is None:
            skipped += 1
            continue
        op = re.sub(r"_perf$", "", cells.get("op", "").strip().lower().replace("-", "_"))
        ranks = whole_number(cells.get("ranks", "").strip())
        by_sweep.setdefault((_OP_NAMES.get(op, op) or None, ranks), []).append(time)
    if not by_sweep:
        raise UnusableData("its table has no line with a size and a time")
    notes = (f"{skipped} lines without a size and a time left out",) if skipped else ()
    return tuple(_sweep(op, ranks, times, notes) for (op, ranks), times in by_sweep.items())


def _cells(line: str) -> list[str]:
    line = line[:2_000].strip().strip("|")
    separator = next((mark for mark in ("|", "\t", ";", ",") if mark in line), ",")
    try:
        return [cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return []


def _columns(cells: Iterable[str]) -> list[str]:
    """Return what each column means, units included ("size:mib"); nothing for a line that is no header."""
    names = [_meaning(re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_")) for cell in cells]
    kinds = {name.partition(":")[0] for name in names}
    return names if "size" in kinds and kinds & {"time", "alg"} else []


def _meaning(name: str) -> str:
    for kind, pattern in (("size", _SIZE), ("time", _TIME)):
        if match := pattern.fullmatch(name):
            return f"{kind}:{match[1] or ('s' if name == 'seconds' else '')}"
    if match := _RATE.fullmatch(name):
        return f"{match[1]}:{'B' if match[2] == 'bytes_per_s' else ''}"
    return next((kind for kind, names in _OTHERS.items() if name in names), f"?{name}")


def _time(cells: dict[str, str]) -> ForeignTime | None:
    known = {name.partition(":")[0]: (cell, name.partition(":")[2]) for name, cell in cells.items()}
    if "size" not in known:
        return None
    size = _size(*known["size"])
    alg, bus = (_rate(known.get(name)) for name in ("alg", "bus"))
    time_s = _seconds(known.get("time"), size, alg)
    dtype = data_type(known["dtype"][0]) if "dtype" in known else ("float32", True)
    if size is None or time_s is None or dtype is None:
        return None
    wrong = whole_number(known["wrong"][0]) if "wrong" in known else None
    in_place = known.get("in_place", ("", ""))[0].lower() not in ("0", "false", "no", "out")
    return ForeignTime(
        message_bytes=size, time_s=time_s, in_place=in_place, dtype=dtype[0], algbw=alg, busbw=bus, num_wrong=wrong
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
    """Return the time; where only the rate is given, size / rate. Raises UnusableData for a time without a unit."""
    if cell is not None:
        if not cell[1]:
            raise UnusableData("its time column has no unit; name it time_us, time_ms or time_s")
        return figure(cell[0], _TIME_UNITS[cell[1]])
    if size is None or algbw is None or not algbw.low > 0:
        return None
    return Figure(value=size / algbw.value, slack=size / algbw.value * algbw.slack / algbw.value)


def _sweep(op: str | None, ranks: int | None, times: list[ForeignTime], notes: tuple[str, ...]) -> ForeignSweep:
    return ForeignSweep(
        dialect="CSV",
        times=tuple(times),
        op=op,
        op_source="its op column",
        num_ranks=ranks,
        ranks_source="its column of ranks",
        notes=notes,
    )
