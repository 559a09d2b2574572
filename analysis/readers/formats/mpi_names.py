"""Which of our collectives do MPI's benchmarks mean, and who started how many ranks of them?

OSU's, Intel's and UCC's tools name a collective as MPI does (Iallreduce, Allgatherv, All-to-All Personalized Exchange). Their
size is one rank's share for all_gather, all_to_all, gather and scatter. None of them compares results.
"""

import re
from collections.abc import Iterable, Sequence

from commprof.analysis.readers.foreign import ForeignTime
from commprof.commbench.units import format_bytes

_OPS = {
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "alltoall": "all_to_all",
    "reducescatter": "reduce_scatter",
    "broadcast": "broadcast",
    "bcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather",
    "scatter": "scatter",
}
_NAME = re.compile(rf"i?({'|'.join(_OPS)})(?:block)?[vw]?(?:personalizedexchange|pure|latency)?")
_LAUNCH = re.compile(r"\b(?:mpirun\w*|mpiexec\w*|srun|jsrun|prterun)\b(.{0,400})")
_COUNT = re.compile(r"(?:^|\s)(?:-np|-n|--np|--ntasks)[ =]+(\d{1,6})\b")
_APART = 1.2  # slowest rank over the mean: worth a note


def mpi_operation(name: str) -> str | None:
    """Return our name of a benchmark's collective; None for one that is none of ours."""
    match = _NAME.fullmatch(re.sub(r"[^a-z]|non-?blocking|persistent", "", name.lower()))
    return _OPS[match[1]] if match else None


def launched_ranks(lines: Iterable[str], program: str) -> int | None:
    """Return the ranks that a command line in the log started `program` (a pattern) on; None without one."""
    for line in lines:
        launch = _LAUNCH.search(line[:2_000])
        named = re.search(program, launch[1]) if launch else None
        if launch and named and (count := _COUNT.search(launch[1][: named.start()])):  # after it come the program's own flags
            return int(count[1])
    return None


def ranks_apart(means: Sequence[ForeignTime], slowest_s: Sequence[float]) -> tuple[str, ...]:
    """Return a note on how far the slowest rank's time is from the ranks' mean, which is what the run gets."""
    ratios = [(slow / time.time_s.value, time) for time, slow in zip(means, slowest_s, strict=True) if time.time_s.value > 0]
    if not ratios:
        return ()
    ratio, time = max(ratios, key=lambda found: found[0])
    if ratio <= _APART:
        return ()
    return (
        f"times are means over ranks; the slowest rank's is up to {ratio:.2f}x that, at {format_bytes(time.message_bytes)}",
    )
