"""Which line, t = latency + S/bandwidth, fits the times of messages of S bytes, and how surely?

Fitted on relative error, because the largest time is 1e5 times the smallest; intervals are a bootstrap's over each size's
samples. Times in seconds, sizes in bytes.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from commprof.analysis.runs.interval import Interval
from commprof.commbench.errors import UnusableData

Floats = NDArray[np.float64]

RESAMPLES = 200
NOISY_ERROR = 0.25  # median relative error of the line: the best public curves give 0.06 to 0.30, mistuned ones more


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFit:
    """t = latency + S/bandwidth with 95 % intervals; `error` is its median relative error over the sizes."""

    latency_s: float
    latency_interval_s: Interval
    bandwidth_bytes_per_s: float
    bandwidth_interval: Interval
    error: float
    verdict: str


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
        verdict=_line_verdict(times, error),
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


def resample(samples: Sequence[Floats], rng: np.random.Generator, count: int) -> Floats:
    """Return `count` bootstrapped medians of each size's samples [count, sizes]."""
    columns = [np.median(values[rng.integers(len(values), size=(count, len(values)))], axis=1) for values in samples]
    return np.column_stack(columns)


def _bootstrap_line(sizes: Floats, samples: Sequence[Floats]) -> tuple[list[float], list[float]]:
    fits = [fit_line(sizes, np.array([np.median(values) for values in samples]))]
    for times in resample(samples, np.random.default_rng(0), RESAMPLES):
        with suppress(UnusableData):  # a draw of few samples may not grow with size although the data do
            fits.append(fit_line(sizes, times))
    return [latency for latency, _ in fits], [bandwidth for _, bandwidth in fits]


def _interval(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(low=float(low), high=float(high))


def _line_verdict(times: Floats, error: float) -> str:
    falls = int((np.diff(times) < -0.2 * times[:-1]).sum())
    if falls:
        return f"noisy: time falls by over 20 % at {falls} of {len(times) - 1} steps to a larger size"
    if error > NOISY_ERROR:
        return f"noisy: the line is off by {error:.0%} in the median"
    return "sound"
