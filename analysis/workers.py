"""The same work on many items, one process a core, within a deadline; no process is left behind."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import TypeVar

from commbench.errors import RunFailed

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
    results: list[T] | None = None
    try:
        results = list(pool.map(work, items, timeout=deadline_s))
        return results
    except BrokenProcessPool:
        raise RunFailed(f"a process {doing} was ended from outside, perhaps for want of memory; name fewer") from None
    except TimeoutError:
        raise RunFailed(f"{doing} was not done after {deadline_s:.0f} s") from None
    finally:
        for child in active_children():
            if results is None and child not in others:
                child.terminate()  # it is still busy, and nobody waits for it any more
        pool.shutdown(cancel_futures=True)  # the pool's own thread waits for them: two waiting threads would race
