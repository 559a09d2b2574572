"""UCC's perftest: `Collective: Allreduce`, Memory type, Datatype and Inplace, then `Count Size Time, us` of avg, min and max.

The mean over ranks is taken. The size is that of a rank's source buffer: its share for all_gather and gather. The number of
ranks is nowhere; with -F the bus bandwidth of an all-reduce tells it.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime, data_type, figure, whole_number
from commprof.analysis.readers.formats.mpi_names import launched_ranks, mpi_operation, ranks_apart
from commprof.commbench.errors import UnusableData

MARK = re.compile(r"^Collective: +(\w{1,40})\s*$", re.MULTILINE)
_TITLE = re.compile(r"Collective: +(\w{1,40})\s*$")
_COLUMNS = 5  # count, size, avg, min, max; with -F three bandwidths more
_OUT_OF_PLACE = "its times are out of place; they stand for in place, of which it has none"


def read_ucc_perftest(text: str) -> tuple[ForeignSweep, ...]:
    """Read every table of a collective; raises UnusableData where there is none."""
    lines = [line[:500] for line in text.splitlines()]
    starts = [index for index, line in enumerate(lines) if _TITLE.match(line)]
    found = tuple(
        sweep
        for start, end in pairwise([*starts, len(lines)])
        if (sweep := _sweep(lines[start:end], launched_ranks(lines[: start + 1], "ucc_perftest"))) is not None
    )
    if not found:
        raise UnusableData("UCC's perftest has no table of a collective's sizes in it")
    return found


def _sweep(lines: Sequence[str], ranks: int | None) -> ForeignSweep | None:
    said = {key.strip(): value.strip() for line in lines[:20] if ":" in line for key, _, value in [line.partition(":")]}
    op, dtype = mpi_operation(said.get("Collective", "")), data_type(said.get("Datatype", "float32"))
    if op is None or dtype is None:
        return None
    times, slow = [], []
    for words in map(str.split, lines):
        if len(words) not in (_COLUMNS, _COLUMNS + 3) or (size := whole_number(words[1])) is None:
            continue
        time_s, worst = figure(words[2], 1e-6), figure(words[4], 1e-6)
        busbw = figure(words[5], 1e9) if len(words) > _COLUMNS and op == "all_reduce" else None
        if time_s is not None and worst is not None:
            times.append(ForeignTime(message_bytes=size, time_s=time_s, in_place=True, dtype=dtype[0], busbw=busbw))
            slow.append(worst.value)
    if not times:
        return None
    memory = said.get("Memory type", "host").lower()
    return ForeignSweep(
        dialect="UCC perftest",
        times=tuple(times),
        op=op,
        op_source="its line Collective",
        num_ranks=ranks,
        ranks_source="its command line",
        sizes_per_rank=op in ("all_gather", "gather"),
        backend="ucc" if memory == "host" else f"ucc-{memory}"[:16],
        notes=(*ranks_apart(times, slow), *([_OUT_OF_PLACE] if said.get("Inplace") == "0" else [])),
    )
