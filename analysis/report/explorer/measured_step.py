"""The step that a run of N ranks took, for a page to draw above the predicted one.

Times are seconds after the step began. What follows the last backward pass, the optimizer, stands before it, as in the
prediction: a step that repeats has no first part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.runs.load import Run, select


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBucket:
    """One bucket: bytes, and when it was ready, sent and landed."""

    num_bytes: float
    ready_s: float
    start_s: float
    done_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """The median step; `compute_end_s` is when the last gradient was there."""

    step_s: float
    backward_start_s: float
    compute_end_s: float
    buckets: tuple[MeasuredBucket, ...]


def measured_steps(runs: Sequence[Run]) -> dict[int, MeasuredStep]:
    """Return the latest synchronised run's step by world size, of those that recorded their gradients' buckets."""
    return {run.world_size: step for run in select(runs, kind="train", synchronised=True) if (step := _step(run)) is not None}


def _step(run: Run) -> MeasuredStep | None:
    timeline = run.gradients
    if run.world_size == 1 or timeline is None or not timeline.buckets or not run.counted_steps():
        return None
    step_s = run.median_step_s()
    start_s = max(0.0, step_s - timeline.backward_s)
    return MeasuredStep(
        step_s=step_s,
        backward_start_s=start_s,
        compute_end_s=min(step_s, start_s + max(parameter.ready_s for parameter in timeline.parameters)),
        buckets=tuple(
            MeasuredBucket(
                num_bytes=bucket.num_bytes,
                ready_s=start_s + bucket.ready_s,
                start_s=start_s + bucket.launched_s,
                done_s=start_s + bucket.done_s,
            )
            for bucket in timeline.buckets
        ),
    )
