"""OSU's micro-benchmarks of collectives: `# OSU MPI-CUDA Allreduce Latency Test v7.3`, then `# Size  Avg Latency(us) ...`.

Bytes and us. The mean over ranks is taken, of a non-blocking collective its pure communication. Each call follows a barrier.
The number of ranks is nowhere but in the command line. Lines that a library wrote between the rows are skipped.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, data_type, figure, whole_number
from commprof.analysis.readers.formats.mpi_names import launched_ranks, mpi_operation, ranks_apart
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS

TITLE = re.compile(
    r"# OSU (MPI|NCCL|RCCL|XCCL)(?:-(CUDA|ROCM|OPENACC)\w*)?(?: (.{1,60}?))?(?: Latency)? (?:Latency )?Test", re.IGNORECASE
)
_DTYPE = re.compile(r"# Datatype: *(\w{1,32})")
_PREFIX = re.compile(r"^(?:\[\d{1,9},\d{1,9}\]<std\w{3}>: ?|\d{1,6}: )")


def read_osu(text: str) -> tuple[ForeignSweep, ...]:
    """Read every collective's table; raises UnusableData where there is none but tests of one pair."""
    lines = [_PREFIX.sub("", line[:500]) for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if TITLE.search(line)]
    found, others = [], []
    for start, end in pairwise([*starts, len(lines)]):
        match = TITLE.search(lines[start])
        assert match is not None
        op = mpi_operation(match[3] or "")
        table = None if op is None else _sweep(lines[start:end], op, match, launched_ranks(lines[: start + 1], r"osu_\w+"))
        if table is None:
            others.append((match[3] or "latency").lower())
        else:
            found.append(table)
    if not found:
        raise UnusableData(
            f"OSU's test of {others[0] if others else 'nothing'} has no table of a collective's sizes; import osu_allreduce or "
            "its like, and measure pairs with commprof links"
        )
    return tuple(found)


def _sweep(lines: Sequence[str], op: str, title: re.Match[str], ranks: int | None) -> ForeignSweep | None:
    header = next((line for line in lines if line.startswith("# Size")), None)
    if header is None:
        return None
    columns = [cell.strip().lower() for cell in re.split(r"\s{2,}|\t", header.strip("# \r"))]
    wanted = next((i for i, name in enumerate(columns) if re.match(r"(?:avg )?latency|pure comm", name)), None)
    slowest = next((i for i, name in enumerate(columns) if name.startswith("max lat")), wanted)
    if wanted is None or slowest is None:
        return None
    said = next((match[1] for line in lines if (match := _DTYPE.search(line))), None)
    dtype = data_type(said or ("float" if OPERATIONS[op].reduces else "char"))
    rows = [words for line in lines if (words := line.split()) and len(words) > slowest and whole_number(words[0]) is not None]
    times, slow = [], []
    for words in rows:
        time_s, worst = figure(words[wanted], 1e-6), figure(words[slowest], 1e-6)
        if time_s is not None and worst is not None:
            size = whole_number(words[0]) or 0
            times.append(ForeignTime(message_bytes=size, time_s=time_s, in_place=True, dtype=dtype[0] if dtype else "int8"))
            slow.append(worst.value)
    if not times:
        return None
    library, device = title[1].lower(), (title[2] or "").lower()
    return ForeignSweep(
        dialect="OSU",
        times=tuple(times),
        op=op,
        op_source="its title",
        num_ranks=ranks,
        ranks_source="its command line",
        sizes_per_rank=op != "reduce_scatter",
        backend="nccl" if library != "mpi" else f"mpi-{device}" if device else "mpi",
        notes=ranks_apart(times, slow),
    )
