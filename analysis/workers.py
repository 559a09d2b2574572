"""The same work on many items, one process a core, within a deadline; no process is left behind."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import TypeVar

from commbench.errors import RunFailed

_GRACE_S = 1.0

S = TypeVar("S")
T = TypeVar("T")


def num_workers(num_items: int) -> int:
    """Return how many processes so many items are worth: one a core that we may use."""
    return min(len(os.sched_getaffinity(0)), num_items)


def side_by_side(work: Callable[[S], T], items: Sequence[S], *, deadline_s: float, doing: str) -> list[T]:
    """Do the work on every item and return the results in their order, here where one process is enough.

    `work` and the items travel to fresh interpreters. Raises what `work` raises, RunFailed for a lost process and after the
    deadline; `doing` names the work in these: "reading 3 traces".
    """
    workers = num_workers(len(items))
    if workers <= 1:
        return [work(item) for item in items]
    context = get_context("spawn")  # a fork would copy whatever threads numpy has
    others = active_children()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL))
    try:
        return list(pool.map(work, items, timeout=deadline_s))
    except BrokenProcessPool:
        raise RunFailed(f"a process {doing} was ended from outside, perhaps for want of memory; name fewer") from None
    except TimeoutError:
        raise RunFailed(f"{doing} was not done after {deadline_s:.0f} s") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _end([child for child in active_children() if child not in others])


def _end(children: Sequence[BaseProcess]) -> None:
    """Leave no process behind: one that is still busy when nobody waits for it any more is told to end."""
    for child in children:
        child.join(timeout=_GRACE_S)
        for stop in (child.terminate, child.kill):
            if child.is_alive():
                stop()
                child.join(timeout=_GRACE_S)
