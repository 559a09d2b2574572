"""One protocol for three clocks: the host's monotonic clock, CUDA events, and a fake for exact tests.

A mark is a point in time on the device's own timeline. Marking never waits; asking for the seconds between two marks does.
On a GPU the host runs ahead of the device, so a host clock would time the launch and not the work.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol


class Clock(Protocol):
    name: str

    def mark(self) -> Any:  # noqa: ANN401  a clock's own token, opaque to its users
        """Return the present point of the device's timeline without waiting for it."""

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        """Return the seconds from one mark to another, waiting until both have happened."""

    def synchronize(self) -> None:
        """Wait until the device has done all it was asked to do."""


class MonotonicClock:
    """Host work: CLOCK_MONOTONIC through time.perf_counter_ns, resolution about 50 ns."""

    name = "perf_counter"

    def mark(self) -> int:
        return time.perf_counter_ns()

    def seconds(self, start: int, end: int) -> float:
        return (end - start) / 1e9  # correctly rounded: 1.2e-05 s, not 1.2000000000000002e-05 s

    def synchronize(self) -> None:
        """Host calls have done their work when they return."""


class CudaClock:
    """GPU work: events on the current stream, resolution about 0.5 us."""

    name = "cuda_event"

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda

    def mark(self) -> Any:  # noqa: ANN401
        event = self._cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def synchronize(self) -> None:
        self._cuda.synchronize()


@dataclass(slots=True)
class FakeClock:
    """Time that passes only when a test says so."""

    name: str = "fake"
    now_s: float = field(default=0.0)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def mark(self) -> float:
        return self.now_s

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        """Nothing runs behind a fake clock's back."""


def device_clock(device_type: str) -> Clock:
    """Return the clock that times work on a device: CUDA events on GPUs, the monotonic clock elsewhere."""
    return CudaClock() if device_type == "cuda" else MonotonicClock()
