"""Is this run slower than that one, or is it noise?

Per size, the ratio of medians of the slowest rank's times; over a series, the median of its sizes' ratios. Three kinds of
noise widen their intervals:

within a size    circular block bootstrap, blocks of the cube root of the samples: neighbours in time are alike
between sizes    a size is measured within milliseconds, and a disturbance may hold for all of them. Its scale is that of
                 the differences between neighbouring sizes' log ratios (median absolute, less the bootstrap's share):
                 a real change bends the curve at a few sizes, disturbances roughen it all over. Tails of Student's t
                 with four degrees of freedom, for disturbances are rare and large
many questions   at 95 % each, one in twenty of the sizes would be called different by chance. All of them share one
                 critical value c: the 95 % quantile, over the draws, of the largest deviation in standard errors
                 (studentised maximum, Westfall and Young 1993); all intervals together hold the truth with about 95 %

    log ratio +- c * standard error;   slower = the whole interval lies above 1 + tolerance

What two runs cannot show is what differs for a whole run: clocks, placement, neighbours. The tolerance stands for that;
choose it from runs of the same thing. With few sizes the second kind of noise is not known either.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.health.evidence import MIN_SAMPLES, Evidence, Series, series_of, some, unchecked
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.interval import Interval
from commprof.commbench.errors import BadInput
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo
from commprof.commbench.units import format_bytes

Floats = NDArray[np.float64]

_RESAMPLES = 2000
_LEVEL = 0.95
_DEGREES = 4
_MIN_STEPS = 5
_NORMAL_MEDIAN = 0.6745  # median of |x| for a standard normal x
_MAX_DRAWN = 4_000_000  # samples held at once, 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """This run's time over the baseline's, 1 being no difference; `message_bytes` is None for a series' median ratio."""

    message_bytes: int | None
    value: float
    interval: Interval

    def slower(self, tolerance: float) -> bool:
        return self.interval.low > 1 + tolerance

    def __str__(self) -> str:
        return f"{self.value:.3g}x [{self.interval.low:.3g}, {self.interval.high:.3g}]"


def compare(evidence: Evidence, baseline: Evidence, tolerance: float) -> list[Verdict]:
    """Return what changed around the runs, and per series two verdicts: on its sizes together and on single sizes.

    Raises BadInput where the runs have nothing that may be compared.
    """
    _check_comparable(evidence, baseline)
    pairs = _pairs(evidence, baseline)
    changes = _changes(evidence.run.info, baseline.run.info)
    measured = {series: [pair for pair in matched if _enough(pair)] for series, matched in pairs.items()}
    ratios = compare_times(
        [[(m.slowest_rank_s, b.slowest_rank_s) for m, b in matched] for matched in measured.values() if matched],
        [[m.message_bytes for m, _ in matched] for matched in measured.values() if matched],
    )
    by_series = dict(zip((series for series, matched in measured.items() if matched), ratios, strict=True))
    verdicts = [_changed(baseline, changes)]
    for series, matched in pairs.items():
        if series not in by_series:
            why = f"a noise band takes {MIN_SAMPLES} samples at a size in both runs; raise -n"
            verdicts.append(unchecked(f"baseline {series.label}", why))
            continue
        typical, *sizes = by_series[series]
        left_out = len(matched) - len(sizes)
        verdicts.append(_typical_verdict(series, typical, len(sizes), left_out, tolerance, changes))
        verdicts.append(_sizes_verdict(series, sizes, tolerance, changes))
    return verdicts


def compare_times(
    pairs: Sequence[Sequence[tuple[Sequence[float], Sequence[float]]]], sizes: Sequence[Sequence[int]]
) -> list[list[Ratio]]:
    """Return per series the median of its sizes' ratios, then those ratios, all with simultaneous 95 % intervals."""
    if not pairs:
        return []
    rng = np.random.default_rng(0)
    values = [np.array([_log_median(run) - _log_median(base) for run, base in series]) for series in pairs]
    drawn = [np.column_stack([_log_medians(run, rng) - _log_medians(base, rng) for run, base in series]) for series in pairs]
    rough = _roughness(values, drawn)
    drawn = [draws + rough * rng.standard_t(_DEGREES, size=draws.shape) for draws in drawn]
    observed = [np.concatenate([[np.median(ratios)], ratios]) for ratios in values]
    draws = [np.column_stack([np.median(of_sizes, axis=1), of_sizes]) for of_sizes in drawn]
    low, high = _simultaneous(np.concatenate(observed), np.column_stack(draws))
    ends = np.cumsum([len(values) for values in observed])[:-1]
    return [
        [
            Ratio(message_bytes=size, value=float(value), interval=Interval(low=float(below), high=float(above)))
            for size, value, below, above in zip([None, *of], np.exp(values), np.exp(lows), np.exp(highs), strict=True)
        ]
        for of, values, lows, highs in zip(sizes, observed, np.split(low, ends), np.split(high, ends), strict=True)
    ]


def _roughness(values: Sequence[Floats], draws: Sequence[Floats]) -> float:
    """Return the scale of what disturbs single sizes, in log ratios; 0 where too few sizes are there to show it."""
    steps = np.concatenate([np.diff(ratios) for ratios in values])
    if steps.size < _MIN_STEPS:
        return 0.0
    scale = float(np.median(np.abs(steps))) / _NORMAL_MEDIAN
    explained = float(np.median(np.concatenate([of_sizes.var(axis=0) for of_sizes in draws])))
    return float(np.sqrt(max(0.0, scale**2 / 2 - explained)))


def _simultaneous(observed: Floats, draws: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the intervals of all columns of draws[resample, column], which hold together with 95 %."""
    errors = draws.std(axis=0)
    deviations = np.abs(draws - observed)
    standard = np.divide(deviations, errors, out=np.zeros_like(deviations), where=errors > 0)
    critical = float(np.quantile(standard.max(axis=1), _LEVEL))
    return observed - critical * errors, observed + critical * errors


def _log_medians(samples: Sequence[float], rng: np.random.Generator) -> Floats:
    """Return the log medians of circular block bootstrap draws."""
    count = len(samples)
    block = round(count ** (1 / 3))
    values, medians = np.asarray(samples), np.empty(_RESAMPLES)
    at_once = max(1, _MAX_DRAWN // count)
    for first in range(0, _RESAMPLES, at_once):
        draws = medians[first : first + at_once]
        starts = rng.integers(count, size=(len(draws), -(-count // block), 1))
        drawn = ((starts + np.arange(block)) % count).reshape(len(draws), -1)[:, :count]
        draws[:] = np.median(values[drawn], axis=1)
    return np.log(medians, out=medians)


def _log_median(samples: Sequence[float]) -> float:
    return float(np.log(np.median(samples)))


def _check_comparable(evidence: Evidence, baseline: Evidence) -> None:
    ours, theirs = evidence.run.info, baseline.run.info
    for what in ("backend", "world_size", "num_nodes"):
        if getattr(ours, what) != getattr(theirs, what):
            raise BadInput(
                f"{evidence.run.path} has {what} {getattr(ours, what)}, the baseline {baseline.run.path} "
                f"{getattr(theirs, what)}; they cannot be compared, choose a baseline with the same {what}"
            )


def _pairs(evidence: Evidence, baseline: Evidence) -> dict[Series, list[tuple[CollectiveMeasurement, CollectiveMeasurement]]]:
    ours, theirs = series_of(evidence.run.collectives), series_of(baseline.run.collectives)
    pairs = {}
    for series in (series for series in ours if series in theirs):
        before = {m.message_bytes: m for m in theirs[series]}
        pairs[series] = [(m, before[m.message_bytes]) for m in ours[series] if m.message_bytes in before]
    pairs = {series: matched for series, matched in pairs.items() if matched}
    if not pairs:
        raise BadInput(
            f"{evidence.run.path} and the baseline {baseline.run.path} share no size measured in the same way: "
            f"{_contents(ours)} here, {_contents(theirs)} there"
        )
    return pairs


def _contents(grouped: dict[Series, list[CollectiveMeasurement]]) -> str:
    words = [
        f"{series.label} ({format_bytes(found[0].message_bytes)} to {format_bytes(found[-1].message_bytes)})"
        for series, found in grouped.items()
    ]
    return some(words, 4) or "nothing"


def _enough(pair: tuple[CollectiveMeasurement, CollectiveMeasurement]) -> bool:
    return all(len(m.slowest_rank_s) >= MIN_SAMPLES for m in pair)


def _typical_verdict(
    series: Series, typical: Ratio, num_sizes: int, left_out: int, tolerance: float, changes: Sequence[str]
) -> Verdict:
    message = f"{_difference(typical)} over {num_sizes} sizes (median of the time ratios {typical}, tolerance {tolerance:.0%})"
    message += f"; {left_out} sizes left out, under {MIN_SAMPLES} samples" if left_out else ""
    fails = typical.slower(tolerance)
    open_ended = not fails and typical.interval.high > 1 + tolerance
    message += f"; up to {typical.interval.high:.2f}x is not excluded, so raise -n or measure in quiet" if open_ended else ""
    return Verdict(
        name=f"baseline {series.label}",
        ok=not fails,
        note=open_ended or (not fails and typical.slower(0)),
        measured=typical.value,
        limit=1 + tolerance,
        unit="1",
        message=message + (_because(changes) if fails else ""),
    )


def _sizes_verdict(series: Series, sizes: Sequence[Ratio], tolerance: float, changes: Sequence[str]) -> Verdict:
    slower = sorted((r for r in sizes if r.slower(tolerance)), key=lambda r: -r.value)
    faster = sorted((r for r in sizes if r.interval.high < 1), key=lambda r: r.value)
    within = [r for r in sizes if r.slower(0) and not r.slower(tolerance)]
    parts = [f"{len(slower)} slower beyond {tolerance:.0%} ({_named(slower)})"] if slower else []
    parts += [f"{len(within)} slower, not surely beyond {tolerance:.0%} ({_named(within)})"] if within else []
    parts += [f"{len(faster)} faster ({_named(faster)})"] if faster else []
    same = len(sizes) - len(slower) - len(within) - len(faster)
    parts += [f"{same} without a difference that noise would not explain"] if same else []
    worst = max(sizes, key=lambda r: r.value)
    return Verdict(
        name=f"baseline sizes {series.label}",
        ok=not slower,
        note=not slower and bool(within),
        measured=worst.value,
        limit=1 + tolerance,
        unit="1",
        message=f"of {len(sizes)} sizes, " + "; ".join(parts) + (_because(changes) if slower else ""),
    )


def _difference(ratio: Ratio) -> str:
    if ratio.interval.low > 1:
        return f"{ratio.value - 1:.1%} slower"
    if ratio.interval.high < 1:
        return f"{1 - ratio.value:.1%} less time"
    return "no difference"


def _named(ratios: Sequence[Ratio]) -> str:
    return some([f"{format_bytes(r.message_bytes or 0)} {r}" for r in ratios])


def _because(changes: Sequence[str]) -> str:
    return f". Changed since: {', '.join(changes)}" if changes else ". Nothing recorded about the software changed"


def _changed(baseline: Evidence, changes: Sequence[str]) -> Verdict:
    what = f"compared with {baseline.name}: "
    return Verdict(
        name="changes",
        ok=True,
        note=bool(changes),
        message=what + (", ".join(changes) or "same versions, devices, hosts and recorded variables"),
    )


def _changes(ours: RunInfo, theirs: RunInfo) -> list[str]:
    """List what differs around two runs, from the baseline to this one; a version that one of them lacks says nothing."""
    return [*_versions(ours, theirs), *_surroundings(ours, theirs)]


def _versions(ours: RunInfo, theirs: RunInfo) -> Iterator[str]:
    names = {"torch": "torch", "cuda": "CUDA", "nccl": "NCCL", "driver": "driver", "python": "Python"}
    for field, name in names.items():
        before, after = getattr(theirs.software, field), getattr(ours.software, field)
        if before is not None and after is not None and before != after:
            yield f"{name} {before} -> {after}"


def _surroundings(ours: RunInfo, theirs: RunInfo) -> Iterator[str]:
    before, after = ({rank.device_name for rank in info.ranks} for info in (theirs, ours))
    if before != after:
        yield f"devices {', '.join(sorted(before))} -> {', '.join(sorted(after))}"
    before, after = ({rank.hostname for rank in info.ranks} for info in (theirs, ours))
    if before != after:
        yield f"hosts {some(sorted(before))} -> {some(sorted(after))}"
    if theirs.threads_per_rank != ours.threads_per_rank:
        yield f"threads per rank {theirs.threads_per_rank} -> {ours.threads_per_rank}"
    for name in sorted(theirs.environ.keys() | ours.environ.keys()):
        old, new = theirs.environ.get(name, "unset"), ours.environ.get(name, "unset")
        if old != new and name != "SLURM_JOB_ID":
            yield f"{name} {old} -> {new}"
