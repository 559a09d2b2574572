"""How much memory had torch given out, and when was it most? Of each step, from the allocator's own events (profile_memory).

Such an event says what the allocator of a device had given out in all after it gave or took: on a GPU all there is, on a CPU
what was given since the profiler began to look, so that what a model and its optimizer hold may be no part of it. What a step
took beyond its begin is told of both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from commprof.analysis.traces.one_rank.columns import MemoryLevels, distinct
from commprof.analysis.traces.one_rank.steps import StepWindow

_DEVICES = {0: "cpu", 1: "cuda"}  # torch's numbers of kinds of devices


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPeak:
    """A device's memory in one step: given out as it began and at most, and how long after its begin the most was reached."""

    step: int
    device: str
    begin_bytes: int
    peak_bytes: int
    after_ns: int

    @property
    def taken_bytes(self) -> int:
        return self.peak_bytes - self.begin_bytes


def memory_peaks(levels: MemoryLevels, windows: Sequence[StepWindow]) -> tuple[MemoryPeak, ...]:
    """Return each device's memory in each step in which it changed; `windows` are the host's, whose time the events have."""
    return tuple(peak for kind in distinct(levels.device) for peak in _of_device(levels, kind, windows))


def _of_device(levels: MemoryLevels, kind: int, windows: Sequence[StepWindow]) -> Iterator[MemoryPeak]:
    own = np.flatnonzero(levels.device == kind)
    own = own[np.argsort(levels.time_ns[own], kind="stable")]
    times_ns, held = levels.time_ns[own], levels.num_bytes[own]
    for window in windows:
        first, last = np.searchsorted(times_ns, (window.start_ns, window.end_ns))
        if first == last:
            continue
        most = first + int(np.argmax(held[first:last]))
        begin = int(held[first - 1]) if first else 0
        peak = max(begin, int(held[most]))
        after_ns = int(times_ns[most]) - window.start_ns if held[most] > begin else 0
        name = _DEVICES.get(kind, f"device of kind {kind}")
        yield MemoryPeak(step=window.number, device=name, begin_bytes=begin, peak_bytes=peak, after_ns=after_ns)
