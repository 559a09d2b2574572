"""Has a rank waited for its device longer than a peer may take? NCCL's calls never fail for want of a peer: the host waits.

A thread looks how long this process has waited (timing.host_wait), also in a launch that finds the device's queue full. Beyond
the limit it calls the roll, says who is missing, has the run marked and ends the process: the thread that waits cannot be
woken. torch's own watchdog (ProcessGroupNCCL.cpp) would come later, sleep a minute, and abort a survivor without a name; it
stays behind this one, for waits that are not seen here, and its words are understood by the launcher. One such wait is a
launch in which torch holds the interpreter's lock, as older ones do while an event is recorded: no thread of Python runs then.
"""

import os
import sys
import threading
from collections.abc import Callable

from commprof.commbench.ranks.rollcall import RollCall, explain
from commprof.commbench.timing import HostWait, host_wait
from commprof.commbench.units import printable

_LOOKS = 20  # within the limit


class Deadline:
    """Watches over one rank's waits while the block runs. `before_end` is told in words what ends the run.

    `end` leaves the process: nothing less ends a thread that waits inside CUDA.
    """

    def __init__(
        self, roll: RollCall, limit_s: float, *, wait: HostWait = host_wait, end: Callable[[int], object] = os._exit
    ) -> None:
        self.before_end: list[Callable[[str], None]] = []
        self._roll, self._limit_s, self._wait, self._end = roll, limit_s, wait, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="commprof-deadline", daemon=True)

    def __enter__(self) -> "Deadline":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._limit_s / _LOOKS):
            if self._wait.lasts_longer_than(self._limit_s):
                self._give_up()
                return

    def _give_up(self) -> None:
        text = explain(self._roll.doing, self._roll.call(), f"no answer within {self._limit_s:g} s")
        for mark in self.before_end:
            mark(text)
        sys.stderr.write(f"commprof: error: {printable(text)}\n")
        sys.stderr.flush()
        self._end(1)
