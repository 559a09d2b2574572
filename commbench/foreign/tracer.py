"""A few recorded steps under torch.profiler, where they are asked for: traces/rankNNNNN.trace.json.gz, as train's.

A process has one trace at a time: a script with a profiler of its own keeps it to itself.
"""

import gc
import json
import os
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from commprof.commbench.foreign.cards import RankRun

_AFTER, _STEPS = 10, 8  # recorded steps before, and those traced
_TAKEN = "the script has a torch.profiler of its own, which --trace would have disturbed: no steps were traced"


class WindowTracer:
    """Starts at a step's end, and writes at another's; `first_step` is the first recorded one, None for no trace."""

    def __init__(self, run: RankRun, first_step: int | None) -> None:
        self._run = run
        self._window = range(0) if first_step is None else range(first_step + _AFTER, first_step + _AFTER + _STEPS)
        self._profiler: profile | None = None
        self._range: Any = None
        self.unseen: tuple[str, ...] = ()

    def step_ended(self, next_step: int) -> None:
        """Take notice that a step has ended and `next_step` is about to begin."""
        if self._range is not None:
            self._range.__exit__(None, None, None)
            self._range = None
        if next_step == self._window.start and self._window:
            if _has_profiler():
                self.unseen, self._window = (_TAKEN,), range(0)
            else:
                self._start()
        if next_step in self._window:
            self._range = record_function(f"ProfilerStep#{next_step}")
            self._range.__enter__()
        elif self._profiler is not None:
            self._write()

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")
        context = self._run.context
        cuda = [ProfilerActivity.CUDA] if self._run.device.type == "cuda" else []
        self._profiler = profile(activities=[ProfilerActivity.CPU, *cuda], record_shapes=True)
        if context.world_size == 1:  # torch tells a rank's place only where it has peers; readers look for it here
            self._profiler.preset_metadata_json("distributedInfo", json.dumps({"rank": 0, "world_size": 1}))
        self._profiler.start()
        place = {"run_id": self._run.folder.name, "rank": context.rank, "world_size": context.world_size}
        traced = {"first_step": self._window[0], "last_step": self._window[-1]}
        self._profiler.add_metadata_json("commprof", json.dumps({**place, **traced}))

    def _write(self) -> None:
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        profiler.stop()
        path = self._run.folder / "traces" / f"rank{self._run.context.rank:05d}.trace.json.gz"
        path.parent.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(path))


def _has_profiler() -> bool:
    """Say whether the process has a profiler, traces now or will: one that waits for its turn is as easily disturbed."""
    kinds = (profile, torch.autograd.profiler.profile)
    return any(issubclass(type(value), kinds) for value in gc.get_objects())
