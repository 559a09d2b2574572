"""What would make N ranks pay? Each change is played through the same simulator as the prediction itself.

Accumulation over A micro-batches synchronises once in A steps: T = ((A-1) T_compute + T_N) / A per micro-batch. A doubled
batch is taken to double the computation of each step, at one communication. Other bucket caps regroup the same gradients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from analysis.load import Run
from analysis.results import Change
from analysis.scaling import work_s
from analysis.situation import Situation, bucket_schedule, simulate

_ACCUMULATION = 4
_BUCKET_CAPS_MB = (1, 4, 100)
_WORTH_TRYING = 0.01  # of the step; less than that drowns in a run's own spread


def changes(situation: Situation, profile: Run, single_s: float) -> list[Change]:
    """Return what is predicted to shorten the time per batch by more than 1 %, the best first."""
    assert profile.info.workload is not None
    work = work_s(single_s, situation.world_size, profile.info.workload.scaling)
    step_s = _median_step_s(situation)
    found = [
        Change(
            what=what,
            setting=setting,
            world_size=situation.world_size,
            seconds_saved=step_s - changed_s,
            speedup=work / changed_s,
        )
        for what, setting, changed_s in _candidates(situation, profile, step_s)
        if step_s - changed_s > _WORTH_TRYING * step_s
    ]
    return sorted(found, key=lambda change: -change.seconds_saved)


def _candidates(situation: Situation, profile: Run, step_s: float) -> Iterable[tuple[str, str, float]]:
    work = profile.info.workload
    assert profile.gradients is not None and work is not None
    compute_s = situation.pool.median_step_s
    accumulated_s = ((_ACCUMULATION - 1) * compute_s + step_s) / _ACCUMULATION
    batch = work.samples_per_rank
    settings = f"training.accumulation={_ACCUMULATION * work.accumulation} training.batch_size={_ACCUMULATION * batch}"
    yield f"accumulate gradients over {_ACCUMULATION} batches", settings, accumulated_s
    doubled = replace(
        situation,
        pool=replace(
            situation.pool,
            outside_s=tuple(2 * samples for samples in situation.pool.outside_s),
            backward_s=tuple(2 * samples for samples in situation.pool.backward_s),
        ),
    )
    yield "double the batch per rank", f"training.batch_size={2 * batch}", _median_step_s(doubled) / 2
    for cap_mb in _BUCKET_CAPS_MB:
        cap_bytes = cap_mb * 2**20
        capped = replace(work, first_bucket_bytes=cap_bytes, bucket_cap_bytes=cap_bytes)
        regrouped = replace(situation, buckets=tuple(bucket_schedule(profile.gradients, capped)))
        if _sizes(regrouped) != _sizes(situation):
            yield f"close buckets at {cap_mb} MiB", f"distributed.bucket_cap_mb={cap_mb}", _median_step_s(regrouped)


def _median_step_s(situation: Situation) -> float:
    """Use the same draws for every candidate, so that differences come from the change alone."""
    return float(np.median(simulate(situation, np.random.default_rng(0)).step_s))


def _sizes(situation: Situation) -> Sequence[int]:
    return [bucket.num_bytes for bucket in situation.buckets]
