"""At what pace does the machine compute, whatever is trained? A fixed piece of work, timed before, between and after the steps.

    work       on the host, five times: 8 products of 256 x 256, which stay in a core's caches, and a copy of 32 MiB, which does
               not, each about half the time: a neighbour may slow either; on a GPU 80 products of 1024 x 1024
    when       before the first step, after steps 8, 16, 32, 64 and so on of the run, and after the last

Never inside a step, nor where torch.profiler watches. It draws no random numbers, and on a GPU it is only queued: its times are
read when the next probe is taken. A long run spends little on it, 8 probes in its first 500 steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.records.training import PaceProbe, pace_file
from commprof.commbench.timing import Clock
from commprof.commbench.units import format_bytes

_SAMPLES = 5
_FIRST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What a sample takes: products of square matrices, and a copy of so many bytes."""

    size: int
    products: int
    copied_bytes: int = 0

    @property
    def told(self) -> str:
        copied = f" and a copy of {format_bytes(self.copied_bytes)}" if self.copied_bytes else ""
        return f"{self.products} products of {self.size} x {self.size}{copied}"

    def on(self, device: torch.device) -> Callable[[], None]:
        """Return the work of a sample, its memory in place."""
        left, right, out = (torch.ones(self.size, self.size, device=device, dtype=torch.float32) for _ in range(3))
        source, target = (torch.zeros(self.copied_bytes, device=device, dtype=torch.uint8) for _ in range(2))

        def sample() -> None:
            for _ in range(self.products):
                torch.mm(left, right, out=out)
            target.copy_(source)

        return sample


_WORK = {"cpu": _Work(size=256, products=8, copied_bytes=32 * 2**20), "cuda": _Work(size=1024, products=80)}


class PaceRecorder:
    """Takes probes of one rank on the device that it trains on, into the run's folder; on other devices it does nothing."""

    def __init__(self, folder: Path, rank: int, device: torch.device, clock: Clock) -> None:
        self._path, self._device, self._clock = folder / pace_file(rank), device, clock
        self._pending: tuple[int, list[Any]] | None = None
        self._last: int | None = None

    def due(self, num_steps: int) -> bool:
        """Say whether a probe is due after so many steps of the run."""
        return num_steps >= _FIRST and num_steps & (num_steps - 1) == 0

    def take(self, step: int) -> None:
        """Do the work now, before this step of the training; once a step."""
        work = _WORK.get(self._device.type)
        if work is None or step == self._last:
            return
        self._last = step
        self.read()
        with torch.no_grad():
            sample = work.on(self._device)
            sample()  # what a first call costs is no pace
            marks = [self._clock.mark()]
            for _ in range(_SAMPLES):
                sample()
                marks.append(self._clock.mark())
        self._pending = step, marks
        if not self._clock.runs_behind:
            self.read()

    def read(self) -> None:
        """Write down the probe that was queued, if there is one, waiting for the device."""
        if self._pending is None:
            return
        (step, marks), self._pending = self._pending, None
        times = tuple(self._clock.seconds(start, end) for start, end in pairwise(marks))
        self._clock.release(marks)
        if min(times) <= 0:  # a clock that does not run tells no pace
            return
        with RecordWriter(self._path) as writer:
            writer.append(PaceProbe(step=step, work=_WORK[self._device.type].told, samples_s=times))
