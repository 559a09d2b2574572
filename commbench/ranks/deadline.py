"""Has a rank waited for its device longer than a peer may take? NCCL's calls never fail for want of a peer: the host waits.

A thread looks how long this process has waited (timing.host_wait), also in a launch that finds the device's queue full. Beyond
the limit it calls the roll, says who is missing, has the run marked and ends the process: the thread that waits cannot be
woken. torch's own watchdog (ProcessGroupNCCL.cpp) would come later, sleep a minute, and abort a survivor without a name; it
stays behind this one, for waits that are not seen here, and its words are understood by the launcher. One such wait is a
launch in which torch holds the interpreter's lock, as older ones do while an event is recorded: no thread of Python runs then.

The clock goes on while a process is stopped, by its scheduler, a terminal or a debugger. A look that comes late tells of that,
and a wait that it finds has the whole limit once more.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable

from commprof.commbench.ranks.rollcall import RollCall, explain
from commprof.commbench.timing import HostWait, host_wait
from commprof.commbench.units import printable

_LOOKS = 20  # within the limit
_LATE_S = 1.0  # a look, beyond what a busy machine holds a thread up


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
        every_s = self._limit_s / _LOOKS
        looked_s, went_on_s = time.monotonic(), -math.inf
        while not self._over.wait(every_s):
            before_s, looked_s = looked_s, time.monotonic()
            if looked_s - before_s > every_s + _LATE_S:
                went_on_s = looked_s
            if looked_s - went_on_s > self._limit_s and self._wait.lasts_longer_than(self._limit_s):
                self._give_up()
                return

    def _give_up(self) -> None:
        text = explain(self._roll.doing, self._roll.call(), f"no answer within {self._limit_s:g} s")
        for mark in self.before_end:
            mark(text)
        sys.stderr.write(f"commprof: error: {printable(text)}\n")
        sys.stderr.flush()
        self._end(1)
