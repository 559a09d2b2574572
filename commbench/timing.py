"""One protocol for three clocks: the host's monotonic clock, CUDA events, and a fake for exact tests.

A mark is a point in time on the device's own timeline. Marking never waits; asking for the seconds between two marks does.
On a GPU the host runs ahead of the device, so a host clock would time the launch and not the work. A clock belongs to one
device: a thread's current device is another than the model's wherever a script never chose one.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from commprof.commbench.errors import BadInput

if TYPE_CHECKING:
    import torch


class HostWait:
    """Since when this process waits for its device, if it does; `time.monotonic()`, read by the thread that watches over it.

    Under NCCL a lost rank shows nowhere else: no call fails, the host waits for a kernel that never ends. It waits in calls
    that are known to wait, which are blocks of this; or, once the device's queue is full (1,024 launches), in whatever it
    launches next. Then the newest mark is old, and the device has not come to it. A host that computes, loads or compiles has
    an old mark as well, but one that is reached.
    """

    def __init__(self) -> None:
        self.since_s: float | None = None
        self._depth = 0
        self._newest: tuple[float, Callable[[], bool]] | None = None
        self._reached: object = None  # the newest mark that the device was seen to have come to

    def __enter__(self) -> None:
        if self._depth == 0:
            self.since_s = time.monotonic()
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.since_s = None

    def asked(self, happened: Callable[[], bool]) -> None:
        """Note that the device is asked for a mark now; `happened` tells whether it has come to it."""
        self._newest = time.monotonic(), happened

    def lasts_longer_than(self, limit_s: float) -> bool:
        """Say whether the host waits, in a call that waits or in a launch, for longer than the limit.

        The device is asked only where the newest mark is that old, and not again once it has come to that: torch holds the
        interpreter's lock while it asks (torch/csrc/cuda/Event.cpp, THCPEvent_query), and a graph that is being captured in
        another thread may break of it.
        """
        now_s, since_s, newest = time.monotonic(), self.since_s, self._newest
        if since_s is not None:
            return now_s - since_s > limit_s
        if newest is None or newest is self._reached or now_s - newest[0] <= limit_s:
            return False
        try:
            reached = newest[1]()
        except RuntimeError:  # the device itself has failed, which the thread that uses it is told
            return False
        if reached:
            self._reached = newest
        return not reached


host_wait = HostWait()


class Clock(Protocol):
    """`runs_behind`: the device works after the host has asked, so that reading a mark at once would hold the host up."""

    name: str
    runs_behind: bool

    def mark(self) -> Any:  # noqa: ANN401  a clock's own token, opaque to its users
        """Return the present point of the device's timeline without waiting for it."""

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        """Return the seconds from one mark to another, waiting until both have happened."""

    def synchronize(self) -> None:
        """Wait until the device has done all it was asked to do."""

    def happened(self, mark: Any) -> bool:  # noqa: ANN401
        """Say whether the device has come to a mark, without waiting."""

    def prepare(self, count: int) -> None:
        """Have so many marks ready, so that making them takes no time in between."""

    def release(self, marks: Iterable[Any]) -> None:
        """Take back marks that nobody will ask for again."""


class _HostMarks:
    """What clocks have in common whose marks are numbers."""

    runs_behind = False

    def synchronize(self) -> None:
        """Host calls have done their work when they return."""

    def happened(self, mark: float) -> bool:
        return True

    def prepare(self, count: int) -> None:
        """A number needs no making."""

    def release(self, marks: Iterable[Any]) -> None:
        """A number holds nothing."""


class MonotonicClock(_HostMarks):
    """Host work: CLOCK_MONOTONIC through time.perf_counter_ns, resolution about 50 ns."""

    name = "perf_counter"

    def mark(self) -> int:
        return time.perf_counter_ns()

    def seconds(self, start: int, end: int) -> float:
        return (end - start) / 1e9  # correctly rounded: 1.2e-05 s, not 1.2000000000000002e-05 s


class CudaClock:
    """GPU work: events on the current stream of one device, whichever device a thread has chosen; resolution about 0.5 us.

    Without a device, the one that is current now.
    """

    name = "cuda_event"
    runs_behind = True

    def __init__(self, device: "torch.device | None" = None) -> None:
        import torch

        self._cuda: Any = torch.cuda
        chosen = None if device is None else device.index
        self._device: int = self._cuda.current_device() if chosen is None else chosen
        self._spare: list[Any] = []

    def mark(self) -> Any:  # noqa: ANN401
        try:
            event = self._spare.pop()
        except IndexError:
            event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        host_wait.asked(event.query)
        return event

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        with host_wait:
            end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def synchronize(self) -> None:
        with host_wait:
            self._cuda.synchronize(self._device)

    def happened(self, mark: Any) -> bool:  # noqa: ANN401
        return bool(mark.query())

    def prepare(self, count: int) -> None:
        """Make events: torch creates one on the device when it is first recorded, which would fall into what is timed."""
        wanted = range(count - len(self._spare))
        self.release([self._new() for _ in wanted])

    def release(self, marks: Iterable[Any]) -> None:
        self._spare.extend(marks)

    def _new(self) -> Any:  # noqa: ANN401
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event


@dataclass(slots=True)
class FakeClock(_HostMarks):
    """Time that passes only when a test says so."""

    name: str = "fake"
    now_s: float = field(default=0.0)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def mark(self) -> float:
        return self.now_s

    def seconds(self, start: float, end: float) -> float:
        return end - start


def device_clock(device: "torch.device") -> Clock:
    """Return the clock that times work on a device: CUDA events on a GPU, the monotonic clock on the host.

    Raises BadInput for other devices: the host's clock would time their launches.
    """
    if device.type == "cuda":
        return CudaClock(device)
    if device.type == "cpu":
        return MonotonicClock()
    raise BadInput(f"{device.type} runs behind the host and has no clock here; commprof times cpu and cuda devices")
