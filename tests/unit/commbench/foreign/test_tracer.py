"""Tracing some steps of a training that may have a profiler of its own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import profile, schedule

from commprof.commbench.foreign.tracer import WindowTracer


@pytest.mark.parametrize("has_own", [False, True])
def test_a_scripts_own_profiler_is_left_alone(tmp_path: Path, *, has_own: bool) -> None:
    """One that waits for its turn would find its place taken."""
    own = profile(schedule=schedule(wait=99, warmup=1, active=1)) if has_own else None
    context = SimpleNamespace(world_size=1, rank=0)
    run: Any = SimpleNamespace(folder=tmp_path, context=context, device=torch.device("cpu"))
    tracer = WindowTracer(run, 1)
    for next_step in range(2, 20):
        tracer.step_ended(next_step)
    assert (tmp_path / "traces").exists() == (own is None)
    assert bool(tracer.unseen) == has_own
