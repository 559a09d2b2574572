"""At what pace does the machine compute, whatever is trained? A fixed piece of work, timed before, between and after the steps.

    work       60 products of 256 x 256 in float32 on the host, 400 of 1024 x 1024 on a GPU: about 50 ms
    when       before the first step, after steps 8, 16, 32, 64 and so on of the run, and after the last

Never inside a step, nor where torch.profiler watches. It draws no random numbers, and on a GPU it is only queued: its times are
read when the next probe is taken. A long run spends little on it, 8 probes in its first 500 steps.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.records.training import PaceProbe, pace_file
from commprof.commbench.timing import Clock

_SIZES_AND_PRODUCTS = {"cpu": (256, 12), "cuda": (1024, 80)}
_SAMPLES = 5
_FIRST = 8


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
        if self._device.type not in _SIZES_AND_PRODUCTS or step == self._last:
            return
        self._last = step
        self.read()
        size, products = _SIZES_AND_PRODUCTS[self._device.type]
        left, right, out = (torch.ones(size, size, device=self._device, dtype=torch.float32) for _ in range(3))
        with torch.no_grad():
            torch.mm(left, right, out=out)  # what a first call costs is no pace
            marks = [self._clock.mark()]
            for _ in range(_SAMPLES):
                for _ in range(products):
                    torch.mm(left, right, out=out)
                marks.append(self._clock.mark())
        self._pending = step, marks
        if not self._clock.runs_behind:
            self.read()

    def read(self) -> None:
        """Write down the probe that was queued, if there is one, waiting for the device."""
        if self._pending is None:
            return
        (step, marks), self._pending = self._pending, None
        size, products = _SIZES_AND_PRODUCTS[self._device.type]
        times = tuple(self._clock.seconds(start, end) for start, end in pairwise(marks))
        self._clock.release(marks)
        if min(times) <= 0:  # a clock that does not run tells no pace
            return
        with RecordWriter(self._path) as writer:
            writer.append(PaceProbe(step=step, work=f"{products} products of {size} x {size}", samples_s=times))
