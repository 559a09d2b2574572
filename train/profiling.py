"""One Kineto trace per rank, of the run's last steps, for ui.perfetto.dev."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from train.schedule import first_profiled_step


@contextmanager
def trace_last_steps(
    folder: Path, rank: int, steps: range, trace_steps: int, device: torch.device
) -> Iterator[Callable[[], None]]:
    """Yield a function to call after every step of `steps`; write `rankNNNNN.trace.json.gz` into `folder` at the end.

    A run that goes on in the midst of its traced steps traces the rest of them, if one is left after the profiler has started.
    """
    traced = min(trace_steps, len(steps) - 1)
    if traced < 1:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]

    def write(profiler: profile) -> None:
        folder.mkdir(exist_ok=True)
        final = folder / f"rank{rank:05d}.trace.json.gz"
        partial = folder / f".rank{rank:05d}.partial.json.gz"
        profiler.export_chrome_trace(str(partial))
        partial.replace(final)

    wait = first_profiled_step(len(steps), traced)
    plan = schedule(wait=wait, warmup=1, active=traced, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write, record_shapes=True) as profiler:
        yield profiler.step
