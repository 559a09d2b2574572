"""What would make N ranks faster? Each change is played through the same model as the prediction itself, on the same draws.

A change is worth naming when even the low end of its interval saves time: 90 % of the draws, paired, so that what all of them
share falls out. Seconds are per batch of the size that a step has now, so that changes of batch compare with the others.
"""

from collections.abc import Iterator

from analysis.estimate import Setting, estimate, interval
from analysis.results import Change
from analysis.scaling import work_s
from analysis.situation import Situation

_WORTH_TRYING = 0.01  # of a step; less than that drowns in a run's own spread
_ACCUMULATION = 4
_BUCKET_CAPS_MB = (1, 4, 10, 50, 100)


def changes(situation: Situation, single_s: float) -> list[Change]:
    """Return what is predicted to save time, the best first. `single_s` is one rank's step."""
    work = work_s(single_s, situation.world_size, situation.workload.scaling)
    now = estimate(situation)
    found = []
    for what, setting, changed in _candidates(situation):
        then = estimate(situation, changed)
        saved = now.per_batch_s - then.per_batch_s
        span = interval(saved)
        if span.low > 0 and saved[0] > _WORTH_TRYING * now.per_batch_s[0]:
            found.append(
                Change(
                    what=what,
                    setting=setting,
                    world_size=situation.world_size,
                    seconds_saved=float(saved[0]),
                    interval_s=span,
                    speedup=work / float(then.per_batch_s[0]),
                )
            )
    return sorted(found, key=lambda change: -change.seconds_saved)


def _candidates(situation: Situation) -> Iterator[tuple[str, str, Setting]]:
    work = situation.workload
    batch = work.samples_per_rank
    settings = f"training.accumulation={_ACCUMULATION * work.accumulation} training.batch_size={_ACCUMULATION * batch}"
    yield f"accumulate gradients over {_ACCUMULATION} batches", settings, Setting(accumulation=_ACCUMULATION)
    yield "double the batch per rank", f"training.batch_size={2 * batch}", Setting(batch=2.0)
    if situation.sent_share == 1:
        yield "send gradients in two bytes", "distributed.communication_hook=bf16", Setting(sent_share=0.5)
    if not work.gradient_as_bucket_view:
        view = "distributed.gradient_as_bucket_view=true"
        yield "let gradients be views of the buckets", view, Setting(bucket_view=True)
    for cap_mb in () if work.whole_buckets else _BUCKET_CAPS_MB:
        capped = Setting(caps_bytes=(cap_mb * 2**20, cap_mb * 2**20))
        yield f"close buckets at {cap_mb} MiB", f"distributed.bucket_cap_mb={cap_mb}", capped
