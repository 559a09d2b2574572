"""Intel MPI Benchmarks: `# Benchmarking Allreduce`, `# #processes = 8`, then `#bytes #repetitions t_min[usec] t_max t_avg`.

Bytes and us; the mean over ranks is taken, of a non-blocking collective its pure communication. Calls follow each other without
a barrier. Its header says how far it will go, and `All processes entering MPI_Finalize` comes last.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.ending import fatal_line
from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, data_type, figure, whole_number
from commprof.analysis.readers.formats.mpi_names import mpi_operation, ranks_apart
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_bytes

TITLE = re.compile(r"# Benchmarking +(\w{1,40})")
_RANKS = re.compile(r"# *#processes *= *(\d{1,6})")
_GROUPS = re.compile(r"# *\( *(\d{1,6}) groups of (\d{1,6}) processes")
_DTYPE = re.compile(r"# MPI_Datatype *: *(\w{1,32})")
_REDUCED = re.compile(r"# MPI_Datatype for reductions *: *(\w{1,32})")
_MOST = re.compile(r"# Maximum message length in bytes: *(\d{1,18})")
_TIMES = ("t_avg[usec]", "t_pure[usec]")


def read_imb(text: str) -> tuple[ForeignSweep, ...]:
    """Read every collective's table; raises UnusableData where there is none but tests of pairs."""
    lines = [line[:500].strip() for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if TITLE.match(line)]
    found, others = [], []
    for start, end in pairwise([*starts, len(lines)]):
        name = str(TITLE.match(lines[start])[1])  # type: ignore[index]
        op = mpi_operation(name)
        sweep = None if op is None else _sweep(lines[start:end], op, lines[:start], last=end == len(lines))
        if sweep is None:
            others.append(name)
        else:
            found.append(sweep)
    if not found:
        raise UnusableData(
            f"Intel MPI Benchmarks' {', '.join(dict.fromkeys(others)) or 'log'} has no table of a collective's sizes; import "
            "Allreduce or its like, and measure pairs with commprof links"
        )
    return tuple(found)


def _sweep(lines: Sequence[str], op: str, above: Sequence[str], *, last: bool) -> ForeignSweep | None:
    header = next((line for line in lines if line.startswith("#bytes")), "")
    columns = header.split()
    wanted = next((columns.index(name) for name in _TIMES if name in columns), None)
    if wanted is None:
        return None
    slowest = columns.index("t_max[usec]") if "t_max[usec]" in columns else wanted
    dtype = data_type(
        _first(_REDUCED if OPERATIONS[op].reduces else _DTYPE, above) or ("float" if OPERATIONS[op].reduces else "byte")
    )
    times, slow = [], []
    for words in map(str.split, lines):
        if len(words) <= max(wanted, slowest) or (size := whole_number(words[0])) is None:
            continue
        time_s, worst = figure(words[wanted], 1e-6), figure(words[slowest], 1e-6)
        if time_s is not None and worst is not None:
            times.append(ForeignTime(message_bytes=size, time_s=time_s, in_place=True, dtype=dtype[0] if dtype else "int8"))
            slow.append(worst.value)
    if not times:
        return None
    groups, ranks = next((m for line in lines if (m := _GROUPS.match(line))), None), _first(_RANKS, lines)
    return ForeignSweep(
        dialect="Intel MPI Benchmarks",
        times=tuple(times),
        op=op,
        op_source="its title",
        num_ranks=int(groups[2]) if groups else int(ranks) if ranks else None,
        ranks_source="its line #processes",
        sizes_per_rank=op != "reduce_scatter",
        mode="pipelined",
        backend="mpi",
        ended_early=_ended_early([*above, *lines], times[-1].message_bytes) if last else None,
        notes=(*ranks_apart(times, slow), *([f"{groups[1]} groups ran side by side and share the wire"] if groups else [])),
    )


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> str | None:
    return next((match[1] for line in lines if (match := pattern.match(line))), None)


def _ended_early(lines: Sequence[str], size: int) -> str | None:
    most = _first(_MOST, lines)
    if most is None or size >= int(most) or any("entering MPI_Finalize" in line for line in lines):
        return None
    said = fatal_line(lines)
    return (
        f"the header announces sizes to {format_bytes(int(most))}, the last is {format_bytes(size)}, and it never entered "
        f"MPI_Finalize" + (f"; it says {said!r}" if said else "")
    )
