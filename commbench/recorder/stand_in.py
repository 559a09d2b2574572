"""What does a compute-only rank do in the exchange's stead? It meets the others and waits as long as sending would take.

A rank that has waited computes slower afterwards, its caches and its core having served others meanwhile: on two hosts of the
testbed that wait 0.4 s a step, forward takes 20 % and the optimizer 40 % longer than without. So ranks exchange in their first
passes, which do not count, and then wait what the last gradient's exchange took, the least of all ranks, which no straggler is
in.

The wait is no computing time: the recorder's clock stands still meanwhile. Where a collective blocks, what a rank waits for the
last to come is: it would wait in front of the collective as well, and a bench of ranks that start together does not hold it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.records.training import EXCHANGED_PASSES
from commprof.commbench.timing import MonotonicClock

_CONNECTING_PASSES: Final = 1  # the first one connects the ranks, and its time says nothing


@dataclass(slots=True)
class _Waited:
    """Nanoseconds for which this process has stood in, over all its models."""

    total_ns: int = 0


_waited = _Waited()


class ComputingClock(MonotonicClock):
    """The host's clock, which stands still while a rank waits in the exchange's stead."""

    def mark(self) -> int:
        return super().mark() - _waited.total_ns


@dataclass(slots=True)
class Exchanged:
    """When a pass sent its last bucket and had all of them back, and what the ranks then agreed to wait.

    What is called as a bucket lands holds this alone: were it to hold the group, whose thread calls it, that thread might be
    the last to let the group go, and a group that ends in its own thread aborts the process.
    """

    launched_ns: int = 0
    landed_ns: int = 0
    agreed_s: float | None = None

    def lands(self) -> None:
        self.landed_ns = time.perf_counter_ns()


class StandIn:
    """Stands in for the exchange of one model's gradients, on ranks of `group` that compute on the host."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.exchanged = Exchanged()
        self._num_passes = 0
        self._exchanges_s: list[float] = []

    @property
    def exchanges(self) -> bool:
        """Whether this pass still sends its gradients, to tell how long that takes."""
        return self._num_passes <= EXCHANGED_PASSES

    @property
    def wait_s(self) -> float | None:
        """What ranks wait in each pass; None before they have agreed on it."""
        return self.exchanged.agreed_s

    def launches_last(self) -> None:
        """Note that this pass sends its last bucket."""
        self.exchanged.launched_ns = time.perf_counter_ns()

    def begins_pass(self) -> None:
        """Note that a pass sends its first bucket; DDP has all buckets of the one before back."""
        if self.exchanged.launched_ns and self.exchanges:
            self._exchanges_s.append(max(0, self.exchanged.landed_ns - self.exchanged.launched_ns) / 1e9)
        self._num_passes += 1

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Time an exchange that blocks."""
        self.launches_last()
        yield
        self.exchanged.lands()

    def wait(self, meanwhile: Callable[[], object] | None = None) -> None:
        """Meet the others and wait here, as a collective that blocks would. What is done `meanwhile` is in no computing time.

        They meet twice: the first time takes until the last has come and a message's time, the second the message's alone.
        """
        begun_ns = time.perf_counter_ns()
        least_s, met = self._met()
        met.wait()
        met_ns = time.perf_counter_ns()
        self._met()[1].wait()
        again_ns = time.perf_counter_ns()
        late_ns = max(0, 2 * met_ns - begun_ns - again_ns)
        self.exchanged.agreed_s = float(least_s)
        if meanwhile is not None:
            meanwhile()
        time.sleep(max(0.0, self.exchanged.agreed_s - (time.perf_counter_ns() - again_ns) / 1e9))
        _waited.total_ns += time.perf_counter_ns() - begun_ns - late_ns

    def meet(self, last: torch.futures.Future[Tensor]) -> torch.futures.Future[Tensor]:
        """Return the pass's last bucket, which nothing sends, once every rank has come and has waited."""
        begun_ns, exchanged = time.perf_counter_ns(), self.exchanged
        least_s, future = self._met()

        def waited(met: torch.futures.Future[Tensor]) -> Tensor:
            met.value()  # raises where a rank was lost
            exchanged.agreed_s = float(least_s)
            time.sleep(exchanged.agreed_s)
            _waited.total_ns += time.perf_counter_ns() - begun_ns
            return last.wait()

        return future.then(waited)

    def _met(self) -> tuple[Tensor, torch.futures.Future[Tensor]]:
        """Return what the exchange took, the least of all ranks once the future is done: all have come then."""
        least_s = torch.tensor([median(self._exchanges_s[_CONNECTING_PASSES:])], dtype=torch.float64)
        options = dist.AllreduceOptions()
        options.reduceOp = dist.ReduceOp(dist.ReduceOp.MIN)
        return least_s, self.group.allreduce([least_s], options).get_future()
