"""PARAM's comms.py: lines `COMMS-RES-all_reduce-float32 SIZE ELEMENTS p50 p75 p95 MIN MAX ALGBW BUSBW` (bytes, us, GB/s).

The percentiles are over ranks, each rank's time being a mean over its iterations; the median is taken. A short form has
SIZE ALGBW BUSBW alone: there the time is size / algbw. The size of all_gather and its like is the total over ranks.
"""

import re

from commprof.analysis.readers.foreign import Figure, ForeignSweep, ForeignTime, data_type, figure, whole_number
from commprof.commbench.errors import UnusableData

_LINE = re.compile(r"COMMS-RES-([A-Za-z0-9_]{1,40})(?:-([a-z0-9_.]{1,20}))?[ \t]+(\d.*)")
_NAMES = {"all_to_allv": "all_to_all", "all_to_all_single": "all_to_all", "all_gather_base": "all_gather", "pt2pt": "send_recv"}
_NAMES |= {"reduce_scatter_base": "reduce_scatter", "all_gather_v": "all_gather", "reduce_scatter_v": "reduce_scatter"}
_SHORT, _FULL = 3, 9


def read_param(text: str) -> tuple[ForeignSweep, ...]:
    """Read all result lines, one sweep a collective; raises UnusableData where none has a collective's times."""
    paired = "nElementsPairPerRank" in text
    by_op: dict[str, list[ForeignTime]] = {}
    others = set()
    for line in text.splitlines():
        match = _LINE.search(line[:500])
        if match is None:
            continue
        time = _time(match[2] or "float32", match[3].split(), paired=paired)
        if time is None or match[1] in ("QUANT", "pt2pt"):
            others.add(match[1])
        else:
            by_op.setdefault(_NAMES.get(match[1], match[1]), []).append(time)
    if not by_op:
        raise UnusableData(f"no COMMS-RES line of one collective's times (seen: {', '.join(sorted(others)) or 'none'})")
    notes = (f"lines of another kind left out: {', '.join(sorted(others))}",) if others else ()
    return tuple(
        ForeignSweep(dialect="PARAM", times=tuple(times), op=op, op_source=f"COMMS-RES-{op}", notes=notes)
        for op, times in by_op.items()
    )


def _time(dtype: str, words: list[str], *, paired: bool) -> ForeignTime | None:
    known, size = data_type(dtype), whole_number(words[0])
    values = [figure(word) for word in words[1 + paired :]] if len(words) > _SHORT else [figure(word) for word in words[1:]]
    if known is None or size is None or None in values or len(words) not in (_SHORT, *range(_FULL, _FULL + 5)):
        return None
    if len(words) == _SHORT:
        algbw, busbw, count = figure(words[1], 1e9), figure(words[2], 1e9), None
        if algbw is None or not algbw.low > 0:
            return None
        seconds = size / algbw.value
        time_s: Figure | None = Figure(value=seconds, slack=seconds * algbw.slack / algbw.value)
    else:
        at = 2 + paired
        time_s, count = figure(words[at], 1e-6), whole_number(words[1])
        algbw, busbw = figure(words[at + 5], 1e9), figure(words[at + 6], 1e9)
    if time_s is None:
        return None
    return ForeignTime(
        message_bytes=size, time_s=time_s, in_place=True, dtype=known[0], count=count, reduction=None, algbw=algbw, busbw=busbw
    )
