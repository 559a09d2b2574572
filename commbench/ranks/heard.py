"""What do ranks say on their standard error, and what of it tells how they ended?

The launcher lets their own words through, keeps their error lines and the keeper's for the one line that matters, and leaves
out what torch says beside. NCCL's watchdog, which aborts a rank that has waited beyond the group's timeout, or whose connection
broke, says who waited and in what (ProcessGroupNCCL.cpp, checkTimeout and checkAndSetException), and never for whom:

    [rank0]:[E1218 20:27:21.426 ProcessGroupNCCL.cpp:629] [Rank 0] Watchdog caught collective operation timeout:
    WorkNCCL(SeqNum=1, OpType=BROADCAST, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600081 milliseconds ...
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from commprof.commbench.display.terminal import clear_line
from commprof.commbench.ranks import keeper
from commprof.commbench.ranks.launched import named

# torch's own log, and the probe lines that Kineto prints when a profiler starts and stops.
_CHATTER = re.compile(r"[WI]\d{4} .*torch/distributed/|USDT:")
# What torch's C++ prints of a peer that is gone: the error that it raises says the same.
_TRACE_OF_CPP = re.compile(r"(\[rank\d+\]:)?\[[WEI]\d{4} .*\.cpp:\d+\]|Exception raised from |frame #\d+: |<omitting python")
_WATCHDOG = re.compile(
    r"Rank (?P<rank>\d{1,7})\] {0,2}(?:Watchdog caught collective operation timeout: |Collective )"
    r"WorkNCCL\(.{0,200}?OpType=(?P<op>\w{1,40}).*(?:before timing out|raised the following async exception)"
)
_MOST_KEPT = 500
_WORDS = "commprof: error: "


@dataclass(slots=True)
class Heard:
    """What the ranks' standard error held besides output: their own error lines (bounded), and the keeper's last word.

    `waited` is in which of NCCL's operations a rank waited until its watchdog ended it.
    """

    words: list[str] = field(default_factory=list)
    ending: str = ""
    stopped: bool = False  # then the user knows why, and what else the ranks say of it adds nothing
    waited: dict[int, str] = field(default_factory=dict)


def forward(source: IO[str], target: IO[str], heard: Heard, on_line: Callable[[str], None] | None) -> None:
    """Copy lines, but keep the ranks' error lines and the keeper's, and leave out what torch says of it beside."""
    told: IO[str] | None = target
    tracing = False
    for line in source:
        if line.startswith(_WORDS):
            heard.words.append(line.removeprefix(_WORDS).strip()[:1000])
            del heard.words[_MOST_KEPT:]
            continue
        if line.startswith(keeper.WORDS):
            heard.ending = line.removeprefix(keeper.WORDS).strip()[:1000]
            continue
        if len(heard.waited) < _MOST_KEPT and (watchdog := _WATCHDOG.search(line)):
            heard.waited.setdefault(int(watchdog["rank"]), watchdog["op"].lower())
        tracing = _TRACE_OF_CPP.match(line) is not None or (tracing and line == "\n")
        if not (heard.stopped or tracing or _CHATTER.match(line)):
            told = _tell(line, told)
            if on_line is not None:
                on_line(line)


def waited_for(heard: Heard, world_size: int | None) -> str | None:
    """Say who died or stalls where NCCL's watchdog aborted who waited: a survivor is not to blame. None where that is not so.

    Whoever waited said so; of `world_size` ranks those that did not are the ones that were waited for.
    """
    if not heard.waited or "SIGABRT" not in heard.ending:
        return None
    operation = next(iter(heard.waited.values()))
    silent = [rank for rank in range(world_size or 0) if rank not in heard.waited]
    if silent:
        return f"{named(silent)} died or stalls in NCCL's {operation}, for which {named(sorted(heard.waited))} waited"
    return f"the ranks lost each other in NCCL's {operation}, for which {named(sorted(heard.waited))} waited"


def _tell(line: str, target: IO[str] | None) -> IO[str] | None:
    """Write a line; return where the next one goes: nowhere once the reader has gone, for the ranks must not wait for it."""
    if target is None:
        return None
    try:
        clear_line(target)
        target.write(line)
        target.flush()
    except OSError:
        return None
    return target
