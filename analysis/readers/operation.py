"""Which collective does a table hold, when only its columns tell?

nccl-tests wrote the name into its output only late. The columns leave few candidates: size / (count * bytes an element) is 1
where a rank's buffer is the message and n where every rank holds a share; a reduction, a root; an in-place placement that
was never validated (all_to_all has none). What is left open the log's name may decide, and then this is said.
"""

import re
from collections.abc import Iterable
from statistics import mode

from commprof.analysis.readers.foreign import ForeignSweep, ForeignTime
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS

_FEW = 4
_IN_NAMES = (
    ("all_reduce", "all_?reduce"),
    ("reduce_scatter", "reduce_?scatter"),
    ("all_gather", "all_?gather"),
    ("all_to_all", "all_?to_?all|a2a"),
    ("send_recv", "send_?recv"),
    ("broadcast", "broadcast|bcast"),
    ("gather", "gather"),
    ("scatter", "scatter"),
    ("reduce", "reduce"),
)


def operation(sweep: ForeignSweep, name: str, asked: str | None = None) -> tuple[str, str]:
    """Return the collective and how it is known; `name` is the file's. Raises UnusableData where it stays open."""
    candidates = _candidates(sweep)
    if asked is not None:
        if sweep.op not in (None, asked):
            raise UnusableData(f"--op {asked}: {sweep.op_source}; drop --op")
        return asked, "--op says so"
    if sweep.op is not None:
        if sweep.op not in OPERATIONS:
            raise UnusableData(f"{sweep.op_source}, and {sweep.op} has no counterpart here; known are {', '.join(OPERATIONS)}")
        return sweep.op, sweep.op_source
    if len(candidates) == 1:
        return candidates[0], "its columns are those of no other"
    named = operation_in(name)
    if named is not None and named in candidates:
        return named, "the file's name says so"
    if len(candidates) > _FEW:
        raise UnusableData("nothing in it tells which collective it measured; say --op OP")
    if candidates[0] == "all_reduce":
        return "all_reduce", "its columns are those of all_reduce; if it is sendrecv, say --op send_recv"
    raise UnusableData(f"the table may be {' or '.join(candidates)}; say which with --op")


def operation_in(name: str) -> str | None:
    """Return the collective that a name such as a file's or a test's holds; None for none."""
    return next((op for op, pattern in _IN_NAMES if re.search(pattern, name.lower().replace("-", "_"))), None)


def share_ranks(times: Iterable[ForeignTime]) -> int | None:
    """Return size / (count * bytes an element), which is n where every rank holds a share of the message and else 1."""
    found = [
        round(time.message_bytes / (time.count * DATA_TYPES[time.dtype].num_bytes))
        for time in times
        if time.count and time.message_bytes % (time.count * DATA_TYPES[time.dtype].num_bytes) == 0
    ]
    return mode(found) if found else None


def _candidates(sweep: ForeignSweep) -> tuple[str, ...]:
    times, shares = sweep.times, share_ranks(sweep.times)
    if any(t.busbw and t.algbw and t.busbw.low > t.algbw.high for t in times):
        return ("all_reduce",)  # no other factor is above 1
    rooted = any(time.root is not None for time in times)
    reduces = any(time.reduction is not None for time in times)
    if shares is None:
        return tuple(OPERATIONS)
    if shares > 1:
        if reduces:
            return ("reduce_scatter",)
        if rooted:
            return ("gather", "scatter")
        return _all_gather_or_all_to_all(times)
    if rooted:
        return ("reduce",) if reduces else ("broadcast",)
    return _all_reduce_or_send_recv(sweep) if reduces else ("broadcast", "send_recv", "all_gather", "all_to_all")


def _all_reduce_or_send_recv(sweep: ForeignSweep) -> tuple[str, ...]:
    """Tell them apart by the factor, which is 1 for both on two ranks; nccl-tests prints a reduction for sendrecv too."""
    if any(t.busbw.value != t.algbw.value for t in sweep.times if t.busbw and t.algbw):
        return ("all_reduce",)
    return ("send_recv",) if len({device.rank for device in sweep.devices}) > 2 else ("all_reduce", "send_recv")


def _all_gather_or_all_to_all(times: Iterable[ForeignTime]) -> tuple[str, ...]:
    """Tell them apart by the in-place results, which nccl-tests compares for all_gather only."""
    checked = {time.in_place for time in times if time.num_wrong is not None}
    return ("all_gather", "all_to_all") if not checked else ("all_gather",) if True in checked else ("all_to_all",)
