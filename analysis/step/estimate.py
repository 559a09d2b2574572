"""One step of N ranks as it is predicted, and as it would be with something changed: the model behind every prediction.

    T = computation of the slowest rank + communication that nothing hides + copies of what landed last

from the schedule in ddp.py. A `Setting` says what differs from what was measured. The same draws serve every setting, so that
differences come from the change alone, and a difference has an interval too.

Two errors are added to the draws as factors, log-normal and independent. A run computes at another pace than the run before it:
by `PACE_ERROR` on a quiet machine, by sqrt(2) of the drift that the runs at hand show, and by what repeated runs differ by. And
this model's exposed communication is off by `EXPOSED_ERROR`. These two are standard deviations of what was seen on a testbed
whose cells were predicted and then run (docs/method.md). Where the wire at N was carried over from another size, each bucket's
transfer is off as well, by what `CARRIED_ERRORS` says of its size, all buckets of a draw to the same side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.computation import last_ready_s
from commprof.analysis.step.ddp import Bucket, Timelines, simulate
from commprof.analysis.step.inputs import SingleRank, StepInputs, buckets_of
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.forms import broadcast_s
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData

Floats = NDArray[np.float64]

PACE_ERROR = 0.025
EXPOSED_ERROR = 0.07
CARRIED_ERRORS = (
    (64 * 2**10, 0.5),
    (2**20, 0.25),
    (8 * 2**20, 0.07),
)  # bytes and error of a transfer, gloo's ring, N = 2 to 4, 8
UNTRIED_CARRIED_ERROR = 0.25  # on other backends, where no carried wire was held against a measured one
CONVERSION_PASSES = 2.0  # a two-byte hook reads and writes what copying out does twice over: 16 bytes a gradient for 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is changed. Factors multiply what was measured; None leaves it.

    `batch`: samples per rank in each micro-batch. `accumulation`: micro-batches per step, each as large as now.
    `caps_bytes`: of the first bucket and of the others. `sent_share`: bytes sent per byte of gradient. `bandwidth`,
    `latency`: the wire's. `compute`: the speed of computation. `bucket_view`: gradients are views of buckets, copied once.
    `cost`: another wire. `model`: its parameters, and all computation with them.
    """

    batch: float = 1.0
    accumulation: int = 1
    caps_bytes: tuple[int, int] | None = None
    sent_share: float | None = None
    bandwidth: float = 1.0
    latency: float = 1.0
    compute: float = 1.0
    bucket_view: bool = False
    cost: CostModel | None = None
    model: float = 1.0


AS_MEASURED = Setting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Predicted steps, arrays over draws whose entry 0 is the prediction itself. `samples`: times the samples of a step now."""

    step_s: Floats
    compute_s: Floats
    samples: float
    buckets: tuple[Bucket, ...]
    timelines: Timelines
    ready_s: Floats
    backward_start_s: float

    @property
    def exposed_s(self) -> Floats:
        exposed_s: Floats = np.maximum(0.0, self.step_s - self.compute_s)  # rounding may lead below zero
        return exposed_s

    @property
    def per_batch_s(self) -> Floats:
        """Seconds for the samples that a step has now."""
        return self.step_s / self.samples


def estimate(inputs: StepInputs, setting: Setting = AS_MEASURED) -> Estimate:
    """Return the step of the inputs with the setting's changes; raise UnusableData for other caps of a trace's buckets."""
    own, parts = inputs.computation, setting.accumulation
    model = setting.model / setting.compute
    grown = model * setting.batch
    gradient_s = grown * (own.backward_s - own.copy_s)  # of the pass that sends, up to the last gradient
    once_s = grown * (own.before_s + own.backward_s - own.copy_s)  # of one micro-batch, without copies
    sync_s = buffers_s(inputs, setting)
    before_s = parts * once_s - gradient_s + model * own.update_s + sync_s
    buckets = _buckets(inputs, setting)
    normal = standard_normal(len(inputs.cost_ratios))
    transfer_s = _transfer_s(inputs, setting, buckets) * _carried_factors(inputs, setting, buckets, normal[2])
    copy_s, converting_s = _copies(inputs, setting, buckets)
    ready = np.array([bucket.ready_s for bucket in buckets]) / last_ready_s(inputs.gradients)
    compute_end_s = before_s + gradient_s + converting_s
    ready_s = before_s[:, None] + np.minimum(1.0, ready) * (gradient_s + converting_s)[:, None]
    if inputs.delayed:
        ready_s = np.broadcast_to(compute_end_s[:, None], ready_s.shape)
    timelines = simulate(
        ready_s, compute_end_s, transfer_s, workers=inputs.workers, contention=inputs.contention, copy_s=copy_s
    )
    compute_s = compute_end_s + copy_s.sum(axis=1) - sync_s
    pace, exposed = model_error(normal, inputs.drift, hypot(inputs.between, inputs.beside), EXPOSED_ERROR)
    return Estimate(
        step_s=pace * compute_s + exposed * (timelines.end_s - compute_s),
        compute_s=pace * compute_s,
        samples=setting.batch * setting.accumulation,
        buckets=tuple(buckets),
        timelines=timelines,
        ready_s=ready_s,
        backward_start_s=float(before_s[0]),
    )


def single_step_s(single: SingleRank, setting: Setting) -> float:
    """Return one rank's step with the setting's changes; what is sent and how changes nothing on it."""
    return single.changed_s(batch=setting.batch * setting.accumulation, model=setting.model / setting.compute)


def speedup(inputs: StepInputs, single: SingleRank, setting: Setting, changed: Estimate) -> float:
    """Return the samples per second over those of one rank with the same changes, so that what helps both is no speedup."""
    work = work_s(single_step_s(single, setting), inputs.world_size, inputs.workload.scaling)
    return work / float(changed.step_s[0])


def interval(draws: Floats, level: float = 0.9) -> Interval:
    """Return the middle `level` of the draws, the prediction itself (entry 0) left out."""
    low, high = np.quantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=min(float(low), float(draws[0])), high=max(float(high), float(draws[0])))


def comm_s(inputs: StepInputs, setting: Setting = AS_MEASURED) -> float:
    """Return the seconds of all buckets sent one by one, nothing else going on."""
    return float(_transfer_s(inputs, setting, _buckets(inputs, setting))[0].sum())


def converting_s(inputs: StepInputs, setting: Setting) -> float:
    """Return the seconds of a step that turn gradients into fewer bytes and back, in which nothing else is computed."""
    return float(_copies(inputs, setting, _buckets(inputs, setting))[1][0])


def _buckets(inputs: StepInputs, setting: Setting) -> Sequence[Bucket]:
    work = inputs.workload
    if setting.caps_bytes is not None and work.whole_buckets:
        raise UnusableData("the profile comes from a trace, whose buckets cannot be laid out anew; record a one-rank run")
    first, others = setting.caps_bytes or (work.first_bucket_bytes, work.bucket_cap_bytes)
    if setting.model == 1:
        return buckets_of(inputs.gradients.parameters, first, others)
    scaled = (max(1, round(cap / setting.model)) for cap in (first, others))  # parameters grow in the caps' stead
    buckets = buckets_of(inputs.gradients.parameters, *scaled)
    return [replace(bucket, num_bytes=max(1, round(setting.model * bucket.num_bytes))) for bucket in buckets]


def _transfer_s(inputs: StepInputs, setting: Setting, buckets: Sequence[Bucket]) -> Floats:
    """Return each bucket's time alone on the wire [draws, buckets]."""
    share = inputs.sent_share if setting.sent_share is None else setting.sent_share
    cost = setting.cost or inputs.cost
    sizes = [share * bucket.num_bytes for bucket in buckets]
    alone_s = np.array([cost_s(cost, size) for size in sizes])
    latency_s = np.minimum(alone_s, cost.latency_s)
    changed_s = setting.latency * latency_s + (alone_s - latency_s) / setting.bandwidth
    if setting.cost is not None:
        return np.tile(changed_s, (len(inputs.cost_ratios), 1))
    places = np.log(inputs.cost.message_bytes)
    ratios = [np.interp(np.log(sizes), places, row) for row in inputs.cost_ratios]
    transfer_s: Floats = changed_s * np.array(ratios)
    return transfer_s


def buffers_s(inputs: StepInputs, setting: Setting) -> float:
    """Return the time of the broadcast of buffers before the forward pass, during which nothing is computed."""
    work = inputs.workload
    if not work.buffer_bytes:
        return 0.0
    cost = setting.cost or inputs.cost
    in_rounds = inputs.workers > 1  # gloo
    whole_s, latency_s = (broadcast_s(cost, size, in_rounds=in_rounds) for size in (work.buffer_bytes, 0))
    return setting.latency * latency_s + (whole_s - latency_s) / setting.bandwidth


def _copies(inputs: StepInputs, setting: Setting, buckets: Sequence[Bucket]) -> tuple[Floats, Floats]:
    """Return the copies out of buckets [draws, buckets], and what converting gradients adds to backward [draws]."""
    share = np.array([bucket.num_bytes for bucket in buckets], dtype=float)
    copy_s = setting.model * inputs.computation.copy_s / setting.compute
    converts = setting.sent_share is not None and setting.sent_share < inputs.sent_share
    converting_s = copy_s * (CONVERSION_PASSES if converts else 0.0)
    kept = 0.0 if setting.bucket_view and not inputs.workload.gradient_as_bucket_view else 1.0
    return kept * copy_s[:, None] * share / share.sum(), converting_s


def carried_error(message_bytes: float, backend: str) -> float:
    """Return how far off a transfer is whose wire was carried over, relative: on a line in log bytes between those tried."""
    if backend != "gloo":
        return UNTRIED_CARRIED_ERROR
    sizes, errors = zip(*CARRIED_ERRORS, strict=True)
    return float(np.interp(np.log(message_bytes), np.log(sizes), errors))


def _carried_factors(inputs: StepInputs, setting: Setting, buckets: Sequence[Bucket], normal: Floats) -> Floats:
    """Return the factors on transfers [draws, buckets]: all 1 where the wire was measured, or is given."""
    if not inputs.extrapolated or setting.cost is not None:
        return np.ones((len(normal), len(buckets)))
    share = inputs.sent_share if setting.sent_share is None else setting.sent_share
    errors = [carried_error(share * bucket.num_bytes, inputs.backend) for bucket in buckets]
    factors: Floats = np.exp(np.outer(normal, errors))
    return factors


def saved(now_s: Floats, then_s: Floats, drift: float, between: float) -> Floats:
    """Return what a change saves [draws], as two runs would show it: each has a pace of its own, besides what draws share.

    `now_s` and `then_s` [draws] are paired, entry 0 the prediction. `drift` is of the pace within runs, `between` what runs of
    one thing differ by: relative.
    """
    now, then = own_paces(len(now_s), drift, between)
    difference_s: Floats = now_s * now - then_s * then
    return difference_s


def own_paces(count: int, drift: float, between: float) -> Floats:
    """Return the factors [2, count] by which two runs are slower for their own pace, entry 0 being 1."""
    own = hypot(PACE_ERROR, drift, between) * np.random.default_rng(1).standard_normal((2, count))
    own[:, 0] = 0.0
    paces: Floats = np.exp(own)
    return paces


def standard_normal(count: int) -> Floats:
    """Return three rows of draws, the same for every setting, entry 0 being 0: of the pace, of what is exposed, of the wire."""
    normal = np.random.default_rng(0).standard_normal((3, count))
    normal[:, 0] = 0.0
    return normal


def model_error(normal: Floats, drift: float, between: float, exposed_error: float) -> tuple[Floats, Floats]:
    """Return the factors on computation and on exposed communication [draws], entry 0 being 1; the same for every setting.

    `normal` is of `standard_normal`; `drift` of the pace within runs, what runs differ by `between` them, and what exposed
    communication is off by: relative.
    """
    return np.exp(hypot(PACE_ERROR, sqrt(2) * drift, between) * normal[0]), np.exp(exposed_error * normal[1])
