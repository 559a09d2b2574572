"""Times calls of one collective on this rank, then exchanges the samples so that every rank knows all of them.

Isolated: every call starts at a barrier and each rank times its own. Pipelined: calls are launched back to back and waited
for once; a sample is their time over their number. The exchange is outside the timed region.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from commprof.commbench.bench.collectives import Collective
from commprof.commbench.ranks.runtime import barrier, gather_values
from commprof.commbench.timing import Clock, host_wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some samples: the slowest and the fastest rank of each, seconds per call.

    `cpu_s` is CPU time per call, mean over ranks. `elapsed_s` is what rank 0's stopwatch showed at the end of the chunk,
    so that all ranks reckon with the same time; `stop` is the signal that asked a rank to stop, 0 if none did.
    """

    slowest_s: tuple[float, ...]
    fastest_s: tuple[float, ...]
    cpu_s: float
    elapsed_s: float
    stop: int


class CallTimer:
    """Times one collective's calls. `elapsed` reads this rank's stopwatch, `stop` the signal that asked it to stop, or 0."""

    def __init__(
        self,
        collective: Collective,
        device: torch.device,
        clock: Clock,
        elapsed: Callable[[], float],
        stop: Callable[[], int],
    ) -> None:
        self._collective, self._device, self._clock = collective, device, clock
        self._elapsed, self._stop = elapsed, stop
        self._next_call = 0

    def isolated(self, count: int) -> Chunk:
        """Time `count` calls one by one."""

        def call() -> None:
            self._collective.run(self._count_call())

        return self._time(count, call, calls=1)

    def pipelined(self, count: int, calls: int) -> Chunk:
        """Time `count` batches of `calls` calls launched back to back."""

        def batch() -> None:
            works = [work for _ in range(calls) for work in self._collective.issue(self._count_call())]
            for work in works:
                work.wait()

        return self._time(count, batch, calls=calls)

    def replayed(self, count: int, calls: int) -> Chunk:
        """Time `count` replays of a CUDA graph that holds `calls` calls: what they cost without the host's launches."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                self._collective.run(self._count_call())
        return self._time(count, graph.replay, calls=calls)

    def _count_call(self) -> int:
        self._next_call += 1
        return self._next_call

    def _time(self, count: int, call: Callable[[], None], *, calls: int) -> Chunk:
        marks = []
        cpu_s = 0.0
        self._clock.prepare(2 * count)
        for _ in range(count):
            barrier()
            self._clock.synchronize()
            with host_wait:  # launches wait as well, once the device's queue is full
                cpu_start_s = time.process_time()
                start = self._clock.mark()
                call()
                marks.append((start, self._clock.mark()))
                cpu_s += time.process_time() - cpu_start_s
        own_s = [self._clock.seconds(start, end) / calls for start, end in marks]
        self._clock.release(mark for pair in marks for mark in pair)
        return self._exchange(own_s, cpu_s / (count * calls))

    def _exchange(self, own_s: list[float], own_cpu_s: float) -> Chunk:
        rows = gather_values([self._elapsed(), float(self._stop()), own_cpu_s, *own_s], self._device)
        samples = list(zip(*(row[3:] for row in rows), strict=True))
        return Chunk(
            slowest_s=tuple(max(sample) for sample in samples),
            fastest_s=tuple(min(sample) for sample in samples),
            cpu_s=sum(row[2] for row in rows) / len(rows),
            elapsed_s=rows[0][0],
            stop=int(max(row[1] for row in rows)),
        )
