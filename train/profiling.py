"""StepTracer: Kineto traces of the steps that the configuration names, one file a rank and window, for ui.perfetto.dev.

    traces/rank00000.trace.json.gz                  the run's first window
    traces/rank00000-step00000046.trace.json.gz     another one, or the rest of one that was cut; its first traced step is 46

torch keeps all events of a window in memory, 4 to 14 MB a step of the shipped models, and writes them when it ends. With shapes
a CPU's heap grows by up to 90 MB a step, but only with shapes do gloo's collectives tell their sizes. A run that ends inside a
window, however it ends, writes what was traced until then. Each trace says whose it is: `distributedInfo` as torch writes
it, and `commprof` with run_id, rank, world_size, first_step and last_step.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
import torch.distributed as dist
from isal import igzip
from torch.profiler import ProfilerActivity, profile, record_function

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import barrier
from commprof.commbench.ranks.stopping import answering_later
from commprof.commbench.records.rundir import replacing
from commprof.commbench.units import printable
from commprof.train.config.schedule import TraceWindow, trace_windows
from commprof.train.config.types import ProfilingConfig

_KINETO_QUIET = "6"  # above the levels of its messages; by default it prints a line when a profiler starts and stops


class StepTracer:
    """Takes one rank's steps under the profiler where a window covers them. Leaving ends a window that is open."""

    def __init__(self, run: Path, context: RankContext, steps: range, profiling: ProfilingConfig, device: torch.device) -> None:
        self._run, self._context, self._profiling, self._device = run, context, profiling, device
        self._windows = trace_windows(steps.stop, profiling, steps.start)
        self._whole = trace_windows(steps.stop, profiling)
        self._wanted = profiling.trace_ranks is None or context.rank in profiling.trace_ranks
        self._profiler: profile | None = None
        self._traced: range | None = None

    def __enter__(self) -> Self:
        os.environ.setdefault("KINETO_LOG_LEVEL", _KINETO_QUIET)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._end_window()
        except RunFailed as failure:
            if error is None:
                raise
            sys.stderr.write(f"commprof: {printable(str(failure))}\n")  # what ended the run is the news

    def touches(self, step: int) -> bool:
        """Tell whether the profiler of any rank is on during a step: a rank that it slows makes the others wait."""
        return self._window_of(step) is not None

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Take a step; raise RunFailed where the trace that ends with it cannot be written."""
        window = self._window_of(step)
        if window is None:
            yield
            return
        if self._wanted:
            self._advance(window, step)
        with record_function(f"ProfilerStep#{step}"):
            yield
        if step + 1 == window.touched.stop:
            self._end_window()
            barrier()  # else the next step, which counts, would hold the wait for the rank that writes longest

    def _window_of(self, step: int) -> TraceWindow | None:
        return next((window for window in self._windows if step in window.touched), None)

    def _advance(self, window: TraceWindow, step: int) -> None:
        """Start the profiler at a window's first step, and its recording at the first one to be traced."""
        if step == window.touched.start:
            self._profiler = self._make_profiler()
            self._profiler.prepare_trace()
        if step == window.first_traced:
            assert self._profiler is not None
            self._profiler.start_trace()
        if step >= window.first_traced:
            self._traced = range(window.first_traced, step + 1)

    def _make_profiler(self) -> profile:
        profiler = profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])],
            record_shapes=self._profiling.trace_shapes,
            with_stack=self._profiling.trace_stacks,
            profile_memory=self._profiling.trace_memory,
        )
        if not dist.is_initialized():  # torch tells a rank's place only where it has peers; readers look for it here
            profiler.preset_metadata_json("distributedInfo", json.dumps({"rank": 0, "world_size": 1}))
        return profiler

    def _end_window(self) -> None:
        """Write what was traced, if a window is open. A signal is answered afterwards: events lost cannot be had again."""
        profiler, traced = self._profiler, self._traced
        self._profiler = self._traced = None
        if profiler is None:
            return
        with answering_later():
            if traced is None:
                profiler.start_trace()  # Kineto has no other way out of its warm-up
                profiler.stop_trace()
                return
            self._describe(profiler, traced)
            profiler.stop_trace()
            self._write(profiler, traced)

    def _describe(self, profiler: profile, traced: range) -> None:
        place = {"run_id": self._run.name, "rank": self._context.rank, "world_size": self._context.world_size}
        profiler.add_metadata_json("commprof", json.dumps({**place, "first_step": traced[0], "last_step": traced[-1]}))

    def _write(self, profiler: profile, traced: range) -> None:
        first = traced.start == self._whole[0].first_traced
        name = f"rank{self._context.rank:05d}{'' if first else f'-step{traced.start:08d}'}.trace.json.gz"
        final = self._run / "traces" / name
        try:
            with tempfile.TemporaryDirectory() as folder:
                plain = Path(folder) / name.removesuffix(".gz")
                profiler.export_chrome_trace(str(plain))
                _check_whole(plain, final)
                with (
                    plain.open("rb") as source,
                    replacing(final) as file,
                    igzip.IGzipFile(fileobj=file, mode="wb") as packed,  # type: ignore[no-untyped-call]
                ):
                    shutil.copyfileobj(source, packed, 2**20)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
            mend = "make room, or trace fewer steps or ranks (profiling.trace_steps, trace_ranks)"
            raise RunFailed(f"cannot write {final}: {reason}; {mend}") from None


def _check_whole(path: Path, final: Path) -> None:
    """Raise RunFailed for a trace that is missing or ends too early: Kineto says nothing when the disk takes no more."""
    end = b""
    if path.exists():
        with path.open("rb") as file:
            file.seek(-min(64, path.stat().st_size), os.SEEK_END)
            end = file.read().rstrip()
    if not end.endswith(b"}"):
        folder = path.parent.parent
        raise RunFailed(f"cannot write {final}: {folder} has no room for it before it is packed; set TMPDIR to another folder")
