"""How long does a collective of S bytes take on p ranks?

At one p it is roughly a line, t = latency + S/bandwidth (line.py), which people read. Real libraries switch protocols, and one
line is off by 30 to 70 % where DDP's buckets live, so predictions use a line of their own between every two neighbouring sizes,
through their medians:

    t(S) = t_i + (t_j - t_i) (S - S_i) / (S_j - S_i),  S_i <= S <= S_j

It is exact on any wire that is a line, bends where the wire does and never falls where the medians rise. Below the sweep the
fitted line goes on, scaled to meet the first median; beyond the sweep its slope goes on. Neither is measured: `is_measured`
tells. Disturbed sizes (curve_shape.py) stay in the record and out of the curve. Times in seconds, sizes in bytes.

Ring all-reduce: t = 2(p-1) alpha + 2(p-1)/p S/B (Patarasuk and Yuan 2009): 2(p-1) messages, each link carrying 2(p-1)/p of
the payload.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from commprof.analysis.wire.curve_shape import MATTERS_BYTES, Curve, disturbed, doubt, leave_one_out, scatter, switches
from commprof.analysis.wire.line import NOISY_ERROR, RESAMPLES, Floats, fit_samples, resample
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement

BUCKET_RANGE = (2**20, 256 * 2**20)  # bytes: where DDP's buckets lie
_MOST_CURVE_ERROR = 0.1  # of a sound curve: neighbours lead to a size that was left out, in the mean


def fit_cost(
    measurements: Sequence[CollectiveMeasurement], run_ids: Sequence[str] = (), num_nodes: int | None = None
) -> CostModel:
    """Fit the cost of one collective at one world size: its in-place measurements, out of place where it knows no other.

    The times are those of `transfer_s`. Raises UnusableData with one rank, fewer than two sizes, wrong results, or times that
    do not grow with size.
    """
    return _fit_cost(tuple(measurements), tuple(run_ids), num_nodes)


@lru_cache(maxsize=64)  # a report asks for the same fit a dozen times
def _fit_cost(measurements: tuple[CollectiveMeasurement, ...], run_ids: tuple[str, ...], num_nodes: int | None) -> CostModel:
    used = curve_measurements(measurements)
    world_size = _one_world_size(used)
    wrong = [m.message_bytes for m in used if m.num_wrong]
    if wrong:
        raise UnusableData(
            f"the {used[0].op.replace('_', '-')} of {wrong[0]} bytes gave wrong values; mend the installation before timing it"
        )
    ratio = end_ratio(used, num_nodes)
    sizes, samples = _group_by_size(used, ratio)
    if min(float(values.min()) for values in samples) <= 0:
        raise UnusableData(f"a {used[0].op.replace('_', '-')} of the bench took no time at all; its clock cannot be right")
    measured = _curve(measurements, sizes, samples, ratio)
    set_aside = disturbed(measured)
    out = {size.message_bytes for size in set_aside}
    curve = measured.without(out)
    curve_error = _curve_error(curve)
    line = fit_samples(curve.message_bytes, [values for size, values in zip(sizes, samples, strict=True) if size not in out])
    return CostModel(
        op=used[0].op,
        dtype=used[0].dtype,
        world_size=world_size,
        num_nodes=num_nodes,
        latency_s=line.latency_s,
        latency_interval_s=line.latency_interval_s,
        bandwidth_bytes_per_s=line.bandwidth_bytes_per_s,
        bandwidth_interval=line.bandwidth_interval,
        message_bytes=tuple(int(size) for size in sizes),
        median_s=tuple(measured.median_s.tolist()),
        num_samples=sum(len(values) for values in samples),
        line_error=line.error,
        curve_error=curve_error,
        scatter=scatter(curve),
        set_aside=set_aside,
        switches=switches(curve),
        comm_cores=_comm_cores(used),
        verdict=_verdict(doubt(measured, set_aside), curve_error, line.error),
        run_ids=run_ids,
    )


def cost_s(cost: CostModel, message_bytes: float) -> float:
    """Return the seconds of one collective: on the measured curve inside the swept sizes, along the fitted line outside."""
    sizes, times = _knots(cost)
    if message_bytes <= sizes[0]:
        return times[0] * _line_s(cost, message_bytes) / _line_s(cost, sizes[0])
    if message_bytes >= sizes[-1]:
        return times[-1] + (message_bytes - sizes[-1]) / cost.bandwidth_bytes_per_s
    right = bisect_left(sizes, message_bytes)
    share = (message_bytes - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
    return times[right - 1] + share * (times[right] - times[right - 1])


def curve_points(cost: CostModel) -> list[tuple[int, float]]:
    """Return the sizes in bytes and medians in seconds that the curve goes through, smallest first."""
    return list(zip(*_knots(cost), strict=True))


def is_measured(cost: CostModel, message_bytes: float) -> bool:
    """Whether the curve holds at this size; outside the sweep `cost_s` only continues it."""
    sizes, _ = _knots(cost)
    return sizes[0] <= message_bytes <= sizes[-1] and not cost.carried_from


def resampled_medians(
    measurements: Sequence[CollectiveMeasurement], rng: np.random.Generator, count: int, num_nodes: int | None = None
) -> Floats:
    """Return `count` bootstrapped curves [count, sizes]: medians that other runs of the same sweep might have given."""
    used = curve_measurements(measurements)
    _, samples = _group_by_size(used, end_ratio(used, num_nodes))
    return resample(samples, rng, count)


def end_ratio(measurements: Sequence[CollectiveMeasurement], num_nodes: int | None) -> float:
    """Return how many times the fastest rank's time a collective of one op and world size takes until its last rank has ended.

    On one node ranks end together, and begin apart, by the time that the barrier lets them go one after the other: the fastest
    rank began last, and its time is the collective's. Over nodes ranks end apart however they began, behind a slow hop by a
    fifth to a half of the whole at every size; what they begin apart is nothing beside the largest messages. So the median
    ratio of the slowest rank's time to the fastest's at the largest half of the sizes from `MATTERS_BYTES` up.
    """
    if num_nodes is None or num_nodes < 2:
        return 1.0
    by_size: dict[int, list[float]] = {}
    for m in measurements:
        if m.message_bytes >= MATTERS_BYTES:
            by_size.setdefault(m.message_bytes, []).extend(np.divide(m.slowest_rank_s, m.fastest_rank_s))
    largest = sorted(by_size)[len(by_size) // 2 :]
    return float(np.median([np.median(by_size[size]) for size in largest])) if largest else 1.0


def transfer_s(measurement: CollectiveMeasurement, ratio: float) -> Sequence[float]:
    """Return the samples that tell what a collective costs: until its last rank has ended, from when the last one began."""
    return measurement.fastest_rank_s if ratio == 1.0 else [ratio * seconds for seconds in measurement.fastest_rank_s]


def in_place_by_size(measurements: Sequence[CollectiveMeasurement]) -> list[CollectiveMeasurement]:
    """Return the in-place measurements, smallest message first."""
    return sorted((m for m in measurements if m.in_place), key=lambda m: m.message_bytes)


def curve_measurements(measurements: Sequence[CollectiveMeasurement]) -> list[CollectiveMeasurement]:
    """Return the measurements that the fit uses, smallest message first: out of place only where there is no in place."""
    if all(OPERATIONS[m.op].in_place for m in measurements):
        return in_place_by_size(measurements)
    return sorted((m for m in measurements if not m.in_place), key=lambda m: m.message_bytes)


def _knots(cost: CostModel) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if not cost.set_aside:
        return cost.message_bytes, cost.median_s
    out = {size.message_bytes for size in cost.set_aside}
    kept = [(s, t) for s, t in zip(cost.message_bytes, cost.median_s, strict=True) if s not in out]
    return tuple(s for s, _ in kept), tuple(t for _, t in kept)


def _line_s(cost: CostModel, message_bytes: float) -> float:
    return cost.latency_s + message_bytes / cost.bandwidth_bytes_per_s


def _curve(measurements: Sequence[CollectiveMeasurement], sizes: Floats, samples: Sequence[Floats], ratio: float) -> Curve:
    """Put beside each median what else is known of that size."""
    repeated = any(len(values) > 1 for values in samples)
    resampled = np.log(resample(samples, np.random.default_rng(0), RESAMPLES))
    others: dict[int, list[float]] = {}
    for m in measurements:
        if not m.in_place and OPERATIONS[m.op].in_place:
            others.setdefault(m.message_bytes, []).extend(transfer_s(m, ratio))
    return Curve(
        message_bytes=sizes,
        median_s=np.array([np.median(values) for values in samples]),
        other_s=np.array([np.median(others[int(size)]) if int(size) in others else np.nan for size in sizes]),
        relative_error=resampled.std(axis=0),
        repeated=repeated,
    )


def _curve_error(curve: Curve) -> float | None:
    errors = leave_one_out(curve.message_bytes, curve.median_s)
    low, high = BUCKET_RANGE
    inside = [size for size in errors if low <= size <= high] or [size for size in errors if size >= MATTERS_BYTES]
    return float(np.mean([abs(errors[size]) for size in inside])) if inside else None


def _one_world_size(measurements: Sequence[CollectiveMeasurement]) -> int:
    world_sizes = {m.world_size for m in measurements}
    if not world_sizes:
        raise UnusableData("no in-place collective was measured; run commprof bench first")
    assert len(world_sizes) == 1, "the caller fits one world size at a time"
    (world_size,) = world_sizes
    if world_size == 1:
        raise UnusableData("one rank talks to nobody, so its times hold no wire; run commprof bench on two or more ranks")
    return world_size


def _group_by_size(measurements: Sequence[CollectiveMeasurement], ratio: float) -> tuple[Floats, list[Floats]]:
    by_size: dict[int, list[float]] = {}
    for measurement in measurements:
        by_size.setdefault(measurement.message_bytes, []).extend(transfer_s(measurement, ratio))
    return np.array(list(by_size), dtype=float), [np.array(values) for values in by_size.values()]


def _comm_cores(measurements: Sequence[CollectiveMeasurement]) -> float:
    """Return the cores one rank keeps busy per transfer, from the largest message that recorded CPU time."""
    timed = [m for m in measurements if m.cpu_s is not None]
    return timed[-1].cpu_s / float(np.mean(timed[-1].slowest_rank_s)) if timed and timed[-1].cpu_s else 0.0


def _verdict(doubt: str | None, curve_error: float | None, line_error: float) -> str:
    """Judge the curve; the line may be poor where the curve is sound."""
    bent = f"; the line is off by {line_error:.0%} in the median, the measured curve is used instead"
    if doubt is not None:
        judged = f"noisy: {doubt}"
    elif curve_error is not None and curve_error > _MOST_CURVE_ERROR:
        judged = f"not sound: a size left out is met within {curve_error:.0%} only, in the mean"
    else:
        judged = "sound"
    return judged + bent * (line_error > NOISY_ERROR)
