"""How long does an all-reduce of S bytes take on p ranks?

Ring all-reduce: t = 2(p-1) alpha + 2(p-1)/p S/B (Patarasuk and Yuan 2009): 2(p-1) messages, each link carrying
2(p-1)/p of the payload. At one p it is a line, t = latency + S/bandwidth, fitted on relative error because the largest
time is 1e5 times the smallest. People read the line. Predictions use the measured medians, interpolated in log-log
(shape-preserving): real libraries switch protocols, and one line is off by 30 to 70 % where DDP's buckets live.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import nnls

from analysis.results import CostModel, Interval
from commbench.errors import UnusableData
from commbench.records import CollectiveMeasurement

Floats = NDArray[np.float64]

_RESAMPLES = 200
_INSTEAD = "; the measured curve is used instead"
_NOISY_ERROR = 0.25  # median relative error of the line: the best public curves give 0.06 to 0.30, mistuned ones more


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFit:
    """t = latency + S/bandwidth with 95 % intervals; `error` is its median relative error over the sizes."""

    latency_s: float
    latency_interval_s: Interval
    bandwidth_bytes_per_s: float
    bandwidth_interval: Interval
    error: float
    verdict: str


def fit_cost(measurements: Sequence[CollectiveMeasurement], run_ids: Sequence[str] = ()) -> CostModel:
    """Fit the cost of one collective at one world size from its in-place measurements.

    The time is the fastest rank's, which waited for nobody. Raises UnusableData with one rank, fewer than two sizes,
    wrong results, or times that do not grow with size.
    """
    used = in_place_by_size(measurements)
    world_size = _one_world_size(used)
    wrong = [m.message_bytes for m in used if m.num_wrong]
    if wrong:
        raise UnusableData(f"the all-reduce of {wrong[0]} bytes gave wrong sums; mend the installation before timing it")
    sizes, samples = _group_by_size(used)
    line = fit_samples(sizes, samples)
    return CostModel(
        op=used[0].op,
        world_size=world_size,
        latency_s=line.latency_s,
        latency_interval_s=line.latency_interval_s,
        bandwidth_bytes_per_s=line.bandwidth_bytes_per_s,
        bandwidth_interval=line.bandwidth_interval,
        message_bytes=tuple(int(size) for size in sizes),
        median_s=tuple(float(np.median(values)) for values in samples),
        num_samples=sum(len(values) for values in samples),
        line_error=line.error,
        comm_cores=_comm_cores(used),
        verdict=line.verdict + _INSTEAD * (line.error > _NOISY_ERROR),
        run_ids=tuple(run_ids),
    )


def fit_samples(sizes: Floats, samples: Sequence[Floats]) -> LineFit:
    """Fit the line through the medians of each size's samples; its intervals are a bootstrap's. Raises as `fit_line` does."""
    times = np.array([np.median(values) for values in samples])
    latency, bandwidth = fit_line(sizes, times)
    latencies, bandwidths = _bootstrap_line(sizes, samples)
    error = float(np.median(np.abs((latency + sizes / bandwidth) / times - 1)))
    return LineFit(
        latency_s=latency,
        latency_interval_s=_interval(latencies),
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_interval=_interval(bandwidths),
        error=error,
        verdict=_verdict(times, error),
    )


def fit_line(sizes: Floats, times: Floats) -> tuple[float, float]:
    """Return latency (s) and bandwidth (B/s) of t = latency + S/bandwidth, both at least zero, on relative error.

    Raises UnusableData with fewer than two sizes, or when time does not grow with size.
    """
    if np.unique(sizes).size < 2:
        raise UnusableData(
            f"{sizes.size} measurements at one message size cannot separate latency from bandwidth; sweep two or more sizes"
        )
    terms = np.column_stack([np.ones_like(sizes), sizes]) / times[:, None]
    (latency, seconds_per_byte), _ = nnls(terms, np.ones_like(times))
    if seconds_per_byte * sizes.max() < 1e-6 * times.max():
        raise UnusableData("time does not grow with size, so the wire was never the limit; sweep to larger messages")
    return float(latency), float(1 / seconds_per_byte)


def cost_s(cost: CostModel, message_bytes: float) -> float:
    """Return the seconds of one collective: the measured curve inside the swept sizes, the line's slope beyond them."""
    smallest, largest = cost.message_bytes[0], cost.message_bytes[-1]
    if message_bytes <= smallest:
        return cost.median_s[0]
    if message_bytes >= largest:
        return cost.median_s[-1] + (message_bytes - largest) / cost.bandwidth_bytes_per_s
    curve = _log_curve(cost.message_bytes, cost.median_s)
    return float(np.exp(curve(np.log(message_bytes))))


def ring_s(cost: CostModel, message_bytes: float, world_size: int) -> float:
    """Return the ring's time at another world size, with the message latency and link bandwidth of the fitted one."""
    alpha_s = cost.latency_s / (2 * (cost.world_size - 1))
    wire_bytes = 2 * (world_size - 1) / world_size * message_bytes
    return 2 * (world_size - 1) * alpha_s + wire_bytes / cost.busbw_bytes_per_s


def broadcast_s(cost: CostModel, message_bytes: float, *, in_rounds: bool) -> float:
    """Return the time of a broadcast over the wire of this all-reduce, estimated from its message latency and link bandwidth.

    gloo passes the message on in ceil(log2 p) rounds (binomial tree); NCCL's ring does it in pieces, one message behind
    the other: (p-1) alpha + S/B.
    """
    alpha_s, rate = cost.latency_s / (2 * (cost.world_size - 1)), cost.busbw_bytes_per_s
    if in_rounds:
        return ceil(log2(cost.world_size)) * (alpha_s + message_bytes / rate)
    return (cost.world_size - 1) * alpha_s + message_bytes / rate


def resampled_medians(measurements: Sequence[CollectiveMeasurement], rng: np.random.Generator, count: int) -> Floats:
    """Return `count` bootstrapped curves [count, sizes]: medians that other runs of the same sweep might have given."""
    _, samples = _group_by_size(in_place_by_size(measurements))
    return _resample(samples, rng, count)


def in_place_by_size(measurements: Sequence[CollectiveMeasurement]) -> list[CollectiveMeasurement]:
    """Return the measurements that the fit uses, smallest message first."""
    return sorted((m for m in measurements if m.in_place), key=lambda m: m.message_bytes)


@lru_cache(maxsize=1024)
def _log_curve(sizes: tuple[int, ...], times: tuple[float, ...]) -> PchipInterpolator:
    return PchipInterpolator(np.log(sizes), np.log(times))


def _one_world_size(measurements: Sequence[CollectiveMeasurement]) -> int:
    world_sizes = {m.world_size for m in measurements}
    if not world_sizes:
        raise UnusableData("no in-place all-reduce was measured; run commprof bench first")
    assert len(world_sizes) == 1, "the caller fits one world size at a time"
    (world_size,) = world_sizes
    if world_size == 1:
        raise UnusableData("one rank talks to nobody, so its times hold no wire; run commprof bench on two or more ranks")
    return world_size


def _group_by_size(measurements: Sequence[CollectiveMeasurement]) -> tuple[Floats, list[Floats]]:
    by_size: dict[int, list[float]] = {}
    for measurement in measurements:
        by_size.setdefault(measurement.message_bytes, []).extend(measurement.fastest_rank_s)
    return np.array(list(by_size), dtype=float), [np.array(values) for values in by_size.values()]


def _resample(samples: Sequence[Floats], rng: np.random.Generator, count: int) -> Floats:
    columns = [np.median(values[rng.integers(len(values), size=(count, len(values)))], axis=1) for values in samples]
    return np.column_stack(columns)


def _bootstrap_line(sizes: Floats, samples: Sequence[Floats]) -> tuple[list[float], list[float]]:
    fits = [fit_line(sizes, np.array([np.median(values) for values in samples]))]
    for times in _resample(samples, np.random.default_rng(0), _RESAMPLES):
        with suppress(UnusableData):  # a draw of few samples may not grow with size although the data do
            fits.append(fit_line(sizes, times))
    return [latency for latency, _ in fits], [bandwidth for _, bandwidth in fits]


def _interval(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(low=float(low), high=float(high))


def _comm_cores(measurements: Sequence[CollectiveMeasurement]) -> float:
    """Return the cores one rank keeps busy per transfer, from the largest message that recorded CPU time."""
    timed = [m for m in measurements if m.cpu_s is not None]
    return timed[-1].cpu_s / float(np.mean(timed[-1].slowest_rank_s)) if timed and timed[-1].cpu_s else 0.0


def _verdict(times: Floats, error: float) -> str:
    falls = int((np.diff(times) < -0.2 * times[:-1]).sum())
    if falls:
        return f"noisy: time falls by over 20 % at {falls} of {len(times) - 1} steps to a larger size"
    if error > _NOISY_ERROR:
        return f"noisy: the line is off by {error:.0%} in the median"
    return "sound"
