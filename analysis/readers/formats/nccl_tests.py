"""nccl-tests' text, and rccl-tests', in every dialect since 2019.

A row is `size count type [redop] [root]` and then, once per placement, `time algbw busbw error` (bytes, elements; us, GB/s;
the largest deviation, or since 2.13 the number of wrong values; with -I four more figures). Tables that people shortened by
hand keep their header, and it says what their columns are.
"""

import re
from collections.abc import Iterator, Sequence

from commprof.analysis.readers.ending import trouble, why_incomplete
from commprof.analysis.readers.foreign import (
    ForeignSweep,
    ForeignTime,
    data_type,
    figure,
    is_close,
    printed_over_derived,
    rescaled,
    whole_number,
)
from commprof.analysis.readers.formats.device_list import devices_of
from commprof.analysis.readers.formats.mpi_names import launched_ranks
from commprof.analysis.readers.formats.nccl_tests_columns import Row, columns_of, placements_of
from commprof.analysis.readers.formats.nccl_tests_rows import HEADER, PROGRAM, last_start, rows_of, tables, values_of
from commprof.analysis.readers.nccl_info import nccl_info, software_of

NAMES = {"alltoall": "all_to_all", "sendrecv": "send_recv", "allreduce": "all_reduce", "allgather": "all_gather"}
NAMES |= {op: op for op in ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "gather", "scatter")}
CPU_TIME = "its times are CPU time (-C 1), not the time of the collective; run nccl-tests without -C"
_PER_ITERATION = 8  # values of one placement with -I
_DEFAULT_ITERATIONS = 20
_TOLERATED = {"float16": 1e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}  # what the error column may show

_FOOTER = re.compile(r"Out of bounds values *: *(\d{1,15}) *(\w*)")


def read_nccl_tests(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table with rows, and say of a test between them that it has none; nothing where no table has rows."""
    return tuple(
        _sweep(table) if rows_of(table) else ForeignSweep(dialect="nccl-tests", times=(), refused=why_no_rows(table))
        for table in tables(text)
    )


def why_no_rows(lines: Sequence[str]) -> str:
    """Say what a log without rows says itself."""
    said = trouble(lines)
    return f"nccl-tests began and no row came out{f'; it says {said}' if said else ''}"


def _sweep(lines: Sequence[str]) -> ForeignSweep:
    """Conclude what one table's lines say together."""
    columns = next((found for line in lines if (found := columns_of(line))), ())
    rows = rows_of(lines)
    times, notes = _all_times(rows, columns, placements_of(lines))
    header = next((line for line in reversed(lines) if HEADER in line), "")
    failed_values = _failed_values(lines)
    if _number(header, "validation") == 0 and not failed_values:
        notes.append("validation was off: nobody knows whether the results were right")
    op, op_source = _program(lines)
    blocking = any("Blocking Enabled" in line for line in lines)
    iterations = (_number(header, "(?<!warmup )(?<!agg )iters") or _DEFAULT_ITERATIONS) * (_number(header, "agg iters") or 1)
    devices, refused = devices_of(lines, rows)
    info = nccl_info(lines, one_host=len({device.hostname for device in devices}) == 1)
    return ForeignSweep(
        dialect=_dialect(lines, columns),
        times=times,
        op=op,
        op_source=op_source,
        num_ranks=info.num_ranks or _launched(lines, header),
        ranks_source="NCCL's own line (nranks)" if info.num_ranks else "its command line (processes, -t and -g)",
        num_nodes=info.num_nodes,
        nodes_source="NCCL's own line (nNodes)",
        transport=info.transport,
        environ=info.environ,
        devices=devices,
        mode="isolated" if blocking else "pipelined",
        calls_per_sample=1 if blocking else iterations,
        warmup_iterations=_number(header, "warmup iters") or 0,
        cuda_graph=bool(_number(header, "graph")),
        software=software_of(lines),
        failed_values=failed_values,
        ended_early=_ended_early(lines, rows),
        notes=tuple(notes),
        refused=CPU_TIME if "cputime" in columns else refused,
    )


def _dialect(lines: Sequence[str], columns: Sequence[str]) -> str:
    if any("MSCCL++" in line or "kernel num:" in line for line in lines):
        return "mscclpp-test"
    return "nccl-tests, shortened" if _is_bare(columns) else "nccl-tests"


def _is_bare(columns: Sequence[str]) -> bool:
    return bool(columns) and "type" not in columns


def _failed_values(lines: Sequence[str]) -> int | None:
    """Return the footer's count of wrong values; None without a footer."""
    footer = next((found for line in lines if (found := _FOOTER.search(line))), None)
    return None if footer is None else int(footer[1]) if footer[2] == "FAILED" else 0


def _all_times(
    rows: Sequence[Row], columns: Sequence[str], placements: Sequence[bool]
) -> tuple[tuple[ForeignTime, ...], list[str]]:
    """Return the times in seconds, and what had to be assumed for them."""
    notes = []
    shown = [name for name in columns if name != "i_min" or not _is_bare(columns)]
    times = tuple(time for row in rows for time in _times(row, shown, placements))
    if not placements and columns.count("time") == 1:
        notes.append("the table does not say whether it is in place; taken as in place")
    elif not placements and _is_bare(columns):
        notes.append("the table does not say which placement comes first; taken as out of place, as in nccl-tests")
    elif tuple(placements) == (False,):
        notes.append("its times are out of place; they stand for in place, of which it has none")
    if any(not exact for _, exact in (data_type(row.dtype) or ("", True) for row in rows)):
        notes.append("a data type that torch has no name for is recorded as one of its size")
    off = printed_over_derived(times)
    if off is not None and is_close(off, 1e-3):
        times = rescaled(times, 1e3)
        notes.append("the times are in ms: only so do they agree with the printed algbw")
    return times, notes


def _times(row: Row, columns: Sequence[str], placements: Sequence[bool]) -> Iterator[ForeignTime]:
    """Yield a row's placements: as the table says, else out of place first; the only one is in place."""
    reduction, root, values = values_of(row)
    known = data_type(row.dtype)
    size, count = whole_number(row.size), whole_number(row.count) if row.count else None
    if known is None or size is None:
        return
    width = _PER_ITERATION if "i_min" in columns or len(values) >= 2 * _PER_ITERATION else 4
    width = min(width, len(values))
    halves = [values[start : start + width] for start in range(0, len(values) - width + 1, width)][:2]
    said = placements if len(placements) > 1 else ()
    for index, half in enumerate(halves, row.starts_at):
        time_s = figure(half[0], 1e-6)
        if time_s is None or len(half) < 3:
            continue
        yield ForeignTime(
            message_bytes=size,
            time_s=time_s,
            in_place=said[index] if index < len(said) else index == len(halves) - 1,
            dtype=known[0],
            count=count,
            reduction=None if reduction == "none" else reduction,
            root=None if root is None or root < 0 else root,
            algbw=figure(half[1], 1e9),
            busbw=figure(half[2], 1e9),
            num_wrong=_num_wrong(half[3], known[0], counts_wrong="wrong" in columns) if len(half) > 3 else None,
        )


def _num_wrong(word: str, dtype: str, *, counts_wrong: bool) -> int | None:
    """Read `#wrong`, or the older `error`, a deviation of which only too much or not is known."""
    error = figure(word)
    if error is None:
        return None
    if counts_wrong:
        return int(error.value)
    return int(error.value > _TOLERATED.get(dtype, 0.0))


def _number(header: str, name: str) -> int | None:
    match = re.search(rf"{name}:? (\d{{1,9}})", header)
    return int(match[1]) if match else None


def _program(lines: Sequence[str]) -> tuple[str | None, str]:
    """Return the collective whose program these lines name last before the table, or after it."""
    found = [match[1].removesuffix("_test") for line in lines for match in PROGRAM.finditer(line)]
    known = [name for name in found if name in (*NAMES, "alltoallv", "hypercube")]
    return (NAMES.get(known[-1], known[-1]), f"the log names {known[-1]}_perf") if known else (None, "")


def _launched(lines: Sequence[str], header: str) -> int | None:
    """Return the ranks that a command line started: processes times threads times GPUs a thread."""
    processes, threads, gpus = launched_ranks(lines, r"\w+_perf\b"), _number(header, "nThread"), _number(header, "nGpus")
    return processes * threads * gpus if processes and threads and gpus else None


def _ended_early(lines: Sequence[str], rows: Sequence[Row]) -> str | None:
    start = last_start(lines)
    size = whole_number(rows[-1].size) or 0
    broken = start is not None and start[1] != rows[-1].size
    return why_incomplete(lines, start[0] if start else None, size, broken=broken)
