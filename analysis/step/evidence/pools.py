"""A run's steps -> the pool from which a prediction draws computation."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.load import Run
from commprof.analysis.step.computation import ComputePool, slowest_step_s
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training import StepMeasurement

Floats = NDArray[np.float64]

_MAX_STEPS = 64  # of each rank, the last ones: bounds the work of a draw


def pool_of(run: Run, *, slowdown: float = 1.0) -> ComputePool:
    """Collect a run's steps that count. One rank alone stands for ranks that will have `slowdown` times its step."""
    kept = [[step for step in steps if step.counts][-_MAX_STEPS:] for steps in run.steps.values()]
    shortest = min(len(rank) for rank in kept)
    if not shortest:
        raise UnusableData(f"a rank of {run.path} has no step beyond warm-up and profiling; run it longer")

    def table(value: Callable[[StepMeasurement], float]) -> Floats:
        return slowdown * np.array([[value(step) for step in rank[-shortest:]] for rank in kept])

    update, backward = table(lambda step: step.optimizer_s), table(lambda step: step.exchange_s)
    together = run.info.workload is not None and run.info.workload.starts_together and run.world_size > 1
    turns = slowdown > 1 or (run.info.oversubscribed and run.world_size > 1)
    return ComputePool(
        before_s=table(lambda step: step.step_s) - backward - update,
        backward_s=backward,
        update_s=update,
        kind="together" if together else "turns" if turns else "independent",
        measured_at_n=run.world_size > 1,
        slowdown=slowdown,
    )


def compute_only_s(run: Run) -> float:
    """Return T_compute(N): the median step of a compute-only run's slowest rank, had its ranks begun each step together."""
    return slowest_step_s(pool_of(run), run.world_size)
