"""What would make N ranks faster on the hardware at hand? Each change is one setting, played through the same model as the
prediction itself, on the same draws.

A change is worth naming when even the low end of 90 % of the draws saves time, paired, so that what all share falls out.
The interval told is of what two runs would show, one before the change and one after: each has a pace of its own. Where it
changes too much for the step to have an interval, a saving has none either. Seconds are per batch of the size that a step has
now, so that changes of batch compare with the others; a speedup is over one rank with the same change, so that what helps one
rank as much is not taken for the merit of N.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from commprof.analysis.step.estimate import Estimate, Setting, estimate, interval, saved, speedup
from commprof.analysis.step.inputs import SingleRank, StepInputs
from commprof.analysis.step.language import (
    accumulation_setting,
    batch_setting,
    bucket_cap_setting,
    bucket_view_setting,
    two_byte_setting,
)
from commprof.analysis.step.predict import too_disturbed
from commprof.analysis.step.results import Change

_WORTH_TRYING = 0.01  # of a step; less than that drowns in a run's own spread
_BATCHES = (2, 4)
_ACCUMULATIONS = (2, 4, 8)
_BUCKET_CAPS_MB = (1, 2, 4, 10, 25, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A change before it is judged; `setting` is the configuration's line, `changed` what the model makes of it."""

    what: str
    setting: str
    changed: Setting
    side_effect: str | None = None
    alters_learning: bool = False


def changes(inputs: StepInputs, single: SingleRank) -> list[Change]:
    """Return what is predicted to save time: what two runs would show first, of it what leaves the updates as they are, and the
    best first of each kind. `single` is one rank's step.
    """
    now = estimate(inputs)
    judged = partial(_judged, inputs, now, single, untold=too_disturbed(inputs, now) is not None)
    return _best_first([*judged(_candidates(inputs)), *_best_first(judged(_caps(inputs)))[:1]])


def _best_first(found: Iterable[Change]) -> list[Change]:
    return sorted(found, key=lambda own: (own.doubt != "", own.alters_learning, -own.seconds_saved))


def _judged(
    inputs: StepInputs, now: Estimate, single: SingleRank, candidates: Iterable[_Candidate], *, untold: bool
) -> Iterator[Change]:
    """Yield the candidates that save time."""
    for candidate in candidates:
        then = estimate(inputs, candidate.changed)
        saved_s = now.per_batch_s - then.per_batch_s
        if interval(saved_s).low > 0 and saved_s[0] > _WORTH_TRYING * now.per_batch_s[0]:
            yield Change(
                what=candidate.what,
                setting=candidate.setting,
                world_size=inputs.world_size,
                seconds_saved=float(saved_s[0]),
                interval_s=None if untold else interval(saved(now.per_batch_s, then.per_batch_s, inputs.drift, inputs.between)),
                speedup=speedup(inputs, single, candidate.changed, then),
                side_effect=candidate.side_effect,
                alters_learning=candidate.alters_learning,
                too_disturbed=untold,
            )


def _candidates(inputs: StepInputs) -> Iterator[_Candidate]:
    work, configured = inputs.workload, inputs.configured
    for times in _BATCHES:
        yield _Candidate(
            what=f"take {times} times the batch" if work.scaling == "strong" else f"take {times} times the batch per rank",
            setting=batch_setting(times * work.samples_per_rank, configured=configured),
            changed=Setting(batch=float(times)),
            side_effect=f"1/{times} of the updates per epoch, memory for the larger batch",
            alters_learning=True,
        )
    for times in _ACCUMULATIONS if not work.static_graph else ():  # DDP allows only one of the two
        parts, batch = times * work.accumulation, times * work.samples_per_rank
        yield _Candidate(
            what=f"accumulate gradients over {parts} batches",
            setting=accumulation_setting(parts, batch, configured=configured),
            changed=Setting(accumulation=times),
            side_effect=f"1/{times} of the updates per epoch",
            alters_learning=True,
        )
    if work.communication_hook == "none":
        hook, rounding = two_byte_setting(inputs.backend, configured=configured)
        yield _Candidate(
            what="send gradients in two bytes", setting=hook, changed=Setting(sent_share=0.5), side_effect=rounding
        )
    if not work.gradient_as_bucket_view:
        yield _Candidate(
            what="let gradients be views of the buckets",
            setting=bucket_view_setting(configured=configured),
            changed=Setting(bucket_view=True),
        )


def _caps(inputs: StepInputs) -> Iterator[_Candidate]:
    work = inputs.workload
    for cap_mb in () if work.whole_buckets else _BUCKET_CAPS_MB:
        cap_bytes = cap_mb * 2**20
        if (cap_bytes, cap_bytes) != (work.first_bucket_bytes, work.bucket_cap_bytes):
            yield _Candidate(
                what=f"close buckets at {cap_mb} MiB",
                setting=bucket_cap_setting(cap_mb, configured=inputs.configured),
                changed=Setting(caps_bytes=(cap_bytes, cap_bytes)),
            )
