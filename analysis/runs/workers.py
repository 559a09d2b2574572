"""The same work on many items, one process a core, within a deadline; no process is left behind.

Whoever waits is told how many items are done, and how many units the work says to be done within them, such as bytes read.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, current_process, get_context
from threading import Lock
from types import ModuleType
from typing import Any, TypeVar

from commprof.commbench.errors import RunFailed

_LOOK_EVERY_S = 0.2

S = TypeVar("S")
T = TypeVar("T")

Watch = Callable[[int, int], None]
"""What is told how many items are done, and how many units."""

_without_main = Lock()
_advanced: Callable[[int], None] | None = None  # of this process; set for as long as somebody waits for it


def advance(units: int) -> None:
    """Say that so many units more are done of the work that this process does for `side_by_side`; else do nothing."""
    if _advanced is not None:
        _advanced(units)


def num_workers(num_items: int) -> int:
    """Return how many processes so many items are worth: one a core that we may use."""
    return min(len(os.sched_getaffinity(0)), num_items)


def side_by_side(
    work: Callable[[S], T],
    items: Sequence[S],
    *,
    deadline_s: float,
    doing: str,
    watch: Watch | None = None,
    small: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[T]:
    """Do the work on every item and return the results in their order, here where one process is enough or all we may have.

    One is enough for what is `small`: done before another could start. `work` and the items travel to fresh interpreters.
    `meanwhile` is done by this one while they are at it, or before; `watch` is told again and again how far all are.
    Raises what `work` raises, RunFailed for a lost process and after the deadline; `doing` names the work in these:
    "reading 3 traces".
    """
    workers = num_workers(len(items))
    if small or workers <= 1 or current_process().daemon:
        meanwhile()
        return _one_by_one(work, items, watch)
    context = get_context("spawn")  # a fork would copy whatever threads numpy has
    units = context.Value("q", 0)
    others = active_children()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(units,))
    results: list[T] | None = None
    try:
        with _main_hidden():
            futures = [pool.submit(work, item) for item in items]
        meanwhile()
        _await(futures, time.monotonic() + deadline_s, lambda done: watch(done, units.value) if watch is not None else None)
        results = [future.result() for future in futures]
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


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep the processes started within from importing the script that runs, as multiprocessing has them do.

    They need nothing of it, and one without `if __name__ == "__main__"` would run again in each of them.
    """
    with _without_main:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _one_by_one(work: Callable[[S], T], items: Sequence[S], watch: Watch | None) -> list[T]:
    global _advanced  # noqa: PLW0603  the work calls `advance` from wherever it is
    before, results, done = _advanced, list[T](), 0

    def count(units: int) -> None:
        nonlocal done
        done += units
        if watch is not None:
            watch(len(results), done)

    _advanced = count
    try:
        for item in items:
            results.append(work(item))
            count(0)
        return results
    finally:
        _advanced = before


def _begin(units: Any) -> None:  # noqa: ANN401  multiprocessing's own types name no value that can be shared
    """Start a worker process: Ctrl-C ends it at once, and what it advances counts for all."""
    global _advanced  # noqa: PLW0603  a process does the work of one pool
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def count(more: int) -> None:
        with units.get_lock():
            units.value += more

    _advanced = count


def _await(futures: Sequence[Future[T]], end_s: float, look: Callable[[int], None]) -> None:
    """Wait for all, or for the first that fails; raise what it raised, TimeoutError at the end."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_LOOK_EVERY_S, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        look(len(futures) - len(pending))
        if pending and time.monotonic() > end_s:
            raise TimeoutError
