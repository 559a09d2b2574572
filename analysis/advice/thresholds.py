"""From which batch, model and bandwidth on do N ranks pay?

N ranks pay where one rank takes longer for the same samples, W > T_N, both with the same change. Of one rank's step, the
optimizer does not grow with the batch and the rest does; all of it grows with the model, as parameters and gradients do:

    T_1(b, m) = m (b (T_1 - update) + update)        W = N T_1 at a fixed batch per rank, T_1 at a fixed batch in all

Sizes are tried in steps of two from small to 64 times, and bisected between the last that does not pay and the first from
which all do. The bottleneck moves from the wire to computation where all buckets take as long on the wire as backward takes to
compute their gradients: beyond that bandwidth all but the last bucket can be hidden.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from commprof.analysis.advice.results import Bottleneck, Threshold
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.estimate import Setting, comm_s, estimate, interval
from commprof.analysis.step.inputs import SingleRank, StepInputs

_LARGEST = 64.0  # times what there is now
_SMALLEST_MODEL = 1 / 64
_PRECISION = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    """W - T_N in seconds: as predicted, and the ends of its interval."""

    low_s: float
    predicted_s: float
    high_s: float


def smallest_batch(inputs: StepInputs, single: SingleRank) -> Threshold:
    """Return from how many samples on N ranks pay: per rank, or in all where the ranks share one batch."""
    work = inputs.workload

    def gain(batch: float) -> _Gain:
        return _gain(inputs, single.changed_s(batch=batch), Setting(batch=batch))

    sharing = inputs.world_size if work.scaling == "strong" else 1
    least = min(1.0, sharing * work.accumulation / work.samples_per_rank)
    return _threshold(gain, least, lambda batch: math.ceil(batch * work.samples_per_rank - 1e-6))


def smallest_model(inputs: StepInputs, single: SingleRank) -> Threshold:
    """Return from how many parameters on N ranks pay, computation growing with parameters."""

    def gain(model: float) -> _Gain:
        return _gain(inputs, single.changed_s(model=model), Setting(model=model))

    return _threshold(gain, _SMALLEST_MODEL, lambda model: round(model * inputs.workload.num_parameters))


def bottleneck(inputs: StepInputs) -> Bottleneck:
    """Return the bandwidth above which backward computes longer than its buckets travel."""
    own = inputs.computation
    backward_s = float(own.backward_s[0] - own.copy_s[0])
    busbw = inputs.cost.busbw_bytes_per_s
    all_s, latency_s = comm_s(inputs), comm_s(inputs, Setting(bandwidth=math.inf))
    hidden_s = backward_s - latency_s
    return Bottleneck(
        backward_s=backward_s,
        comm_s=all_s,
        busbw_bytes_per_s=busbw,
        busbw_needed_bytes_per_s=busbw * (all_s - latency_s) / hidden_s if hidden_s > 0 else None,
    )


def _gain(inputs: StepInputs, single_s: float, changed: Setting) -> _Gain:
    work = work_s(single_s, inputs.world_size, inputs.workload.scaling)
    gained_s = work - estimate(inputs, changed).step_s
    span = interval(gained_s)
    return _Gain(low_s=span.low, predicted_s=float(gained_s[0]), high_s=span.high)


def _threshold(gain: Callable[[float], _Gain], least: float, size: Callable[[float], int]) -> Threshold:
    """Return the threshold of a gain over a factor from `least` to 64, in what `size` makes of a factor."""
    known = cache(gain)

    def first(pays: Callable[[_Gain], bool]) -> int | None:
        factor = _first(lambda tried: pays(known(tried)), least)
        return None if factor is None else size(factor)

    return Threshold(
        now=size(1.0),
        smallest_tried=size(least),
        largest_tried=size(_LARGEST),
        smallest=first(lambda found: found.predicted_s > 0),
        possibly=first(lambda found: found.high_s > 0),
        surely=first(lambda found: found.low_s > 0),
    )


def _first(pays: Callable[[float], bool], least: float) -> float | None:
    """Return the factor from which on all larger ones tried pay, up to 64; None where 64 does not."""
    octaves = math.ceil(math.log2(_LARGEST / least))
    tried = [_LARGEST, *(_LARGEST / 2**k for k in range(1, octaves)), least]
    if not pays(tried[0]):
        return None
    for high, low in pairwise(tried):
        if not pays(low):
            return _bisect(pays, low, high)
    return least


def _bisect(pays: Callable[[float], bool], low: float, high: float) -> float:
    while high > _PRECISION * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high
