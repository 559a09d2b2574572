"""May these times be believed? Spread, drift, outliers and agreement within one run.

Only order statistics: times of collectives have long tails. Samples of one size follow each other closely, so neighbours
are alike; a test that takes them as independent sees drift too easily, which is why every limit below is on a size of
effect as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median

from commprof.analysis.health.evidence import MIN_SAMPLES, Evidence, judged_series, median_bounds_s, some, unchecked
from commprof.analysis.health.rank_sums import chance_of_difference, false_discovery_levels
from commprof.analysis.health.results import Verdict
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo
from commprof.commbench.spread import quantile, relative_half_width
from commprof.commbench.units import format_bytes, format_seconds

# A median known to 5 % is what it takes to see a regression of the default tolerance, which is 5 % too.
_MAX_HALF_WIDTH = 0.05
_DRIFT_RATIO = 1.1
_DRIFT_LEVEL = 0.05  # expected share of false alarms among the sizes called drifting (Benjamini and Hochberg 1995)
_DRIFT_SAMPLES = 10  # halves of five: the least that can be significant among dozens of sizes
_MAX_DRIFTING = 0.1  # of the sizes
# One sample in twenty; a mean over the 20 default iterations, which other tools report, then holds one.
_MAX_OUTLIERS = 0.05
_COPIED = ("all_reduce", "reduce", "broadcast")
_MAX_DISAGREEMENT = 1.5  # both placements do the same work but for a copy; every published table that was read stays below


def stability(evidence: Evidence) -> list[Verdict]:
    """Return the verdicts on spread, drift, outliers and the agreement of both placements."""
    sweep = list(chain.from_iterable(judged_series(evidence).values()))
    if not sweep:
        return []
    return [_spread(sweep), _drift(sweep), _outliers(sweep, evidence.run.info), *_placements(evidence)]


def _spread(sweep: Sequence[CollectiveMeasurement]) -> Verdict:
    known = [m for m in sweep if len(m.slowest_rank_s) >= MIN_SAMPLES]
    if not known:
        return unchecked("spread", f"no size has {MIN_SAMPLES} samples, so no median has a 95 % interval; raise -n")
    widths = [relative_half_width(m.slowest_rank_s) for m in known]
    typical, (worst, at) = median(widths), max(zip(widths, known, strict=True), key=lambda pair: pair[0])
    few = f"; {len(sweep) - len(known)} measurements have too few samples for one" if len(known) < len(sweep) else ""
    ok = typical <= _MAX_HALF_WIDTH
    mend = "" if ok else ". Keep other work off these hosts or raise -n"
    return Verdict(
        name="spread",
        ok=ok,
        note=ok and (worst > _MAX_HALF_WIDTH or bool(few)),
        measured=typical,
        limit=_MAX_HALF_WIDTH,
        unit="1",
        message=f"medians are known to +-{typical:.1%} typically (95 %), at worst to +-{worst:.0%} at "
        f"{format_bytes(at.message_bytes)}; the limit is {_MAX_HALF_WIDTH:.0%}{few}{mend}",
    )


def _drift(sweep: Sequence[CollectiveMeasurement]) -> Verdict:
    known = [m for m in sweep if len(m.slowest_rank_s) >= _DRIFT_SAMPLES]
    if not known:
        return unchecked("drift", f"no size has {_DRIFT_SAMPLES} samples to split in halves; raise -n")
    halves = [_halves(m.slowest_rank_s) for m in known]
    chances = false_discovery_levels([chance_of_difference(first, second) for first, second in halves])
    ratios = [median(second) / median(first) for first, second in halves]
    drifting = [
        (ratio, m.message_bytes)
        for ratio, chance, m in zip(ratios, chances, known, strict=True)
        if chance < _DRIFT_LEVEL and max(ratio, 1 / ratio) > _DRIFT_RATIO
    ]
    share = len(drifting) / len(known)
    ok = share <= _MAX_DRIFTING
    message = (
        f"second halves differ from first halves by over {_DRIFT_RATIO - 1:.0%} at {len(drifting)} of {len(known)} medians"
    )
    if drifting:
        named = some([f"{ratio:.2f}x at {format_bytes(size)}" for ratio, size in sorted(drifting, reverse=True)])
        message += f" ({named}). {_ways(drifting)}"
    return Verdict(
        name="drift", ok=ok, note=ok and bool(drifting), measured=share, limit=_MAX_DRIFTING, unit="1", message=message
    )


def _ways(drifting: Sequence[tuple[float, int]]) -> str:
    slower, faster = (any(own > 1 for own, _ in drifting), any(own < 1 for own, _ in drifting))
    if slower and faster:
        return "Both ways: other work came and went; keep it off these hosts"
    return "They slow down: clocks fall or other work began" if slower else "They speed up: warm up longer (-w)"


def _halves(samples: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    middle = len(samples) // 2
    return samples[:middle], samples[middle:]


def _outliers(sweep: Sequence[CollectiveMeasurement], info: RunInfo) -> Verdict:
    """Count Tukey's far-out samples (three interquartile ranges above the third quartile) that cost 1.5 medians or more."""
    total = sum(len(m.slowest_rank_s) for m in sweep if len(m.slowest_rank_s) >= MIN_SAMPLES)
    if not total:
        return unchecked("outliers", f"no size has {MIN_SAMPLES} samples to stand out from; raise -n")
    far = [(sample, m) for m in sweep if len(m.slowest_rank_s) >= MIN_SAMPLES for sample in _far_out(m.slowest_rank_s)]
    share = len(far) / total
    ok = share <= _MAX_OUTLIERS
    message = f"{len(far)} of {total} samples lie far out ({share:.1%}, limit {_MAX_OUTLIERS:.0%})"
    if far:
        sample, m = max(far, key=lambda pair: pair[0] / pair[1].median_s)
        message += f", the worst {format_seconds(sample)} at {format_bytes(m.message_bytes)}, "
        message += f"where the median is {format_seconds(m.median_s)}"
    if not ok:
        message += ". Keep other work off these hosts"
        message += ", or keep the scheduler out: chrt -r 5 commprof bench ... (root)" if info.on_cpu else ""
    return Verdict(name="outliers", ok=ok, measured=share, limit=_MAX_OUTLIERS, unit="1", message=message)


def _far_out(samples: Sequence[float]) -> list[float]:
    low, middle, high = (quantile(samples, q) for q in (0.25, 0.5, 0.75))
    return [sample for sample in samples if sample > max(high + 3 * (high - low), 1.5 * middle)]


def _placements(evidence: Evidence) -> Iterator[Verdict]:
    """Compare in place with out of place, size by size: the second measurement of a size shows what was cold in the first."""
    pairs = list(_pairs(evidence))
    if not pairs:
        if any(m.in_place and not OPERATIONS[m.op].in_place for m in evidence.run.collectives):
            yield unchecked("placements", "in place this collective is another operation, so out of place alone is judged")
        return
    ratio, slow, fast = max(((_sure_ratio(a, b), a, b) for a, b in pairs), key=lambda found: found[0])
    ok = ratio <= _MAX_DISAGREEMENT
    far = [format_bytes(slower.message_bytes) for slower, faster in pairs if _sure_ratio(slower, faster) > _MAX_DISAGREEMENT]
    message = f"both placements agree to {ratio:.2f}x or better (limit {_MAX_DISAGREEMENT}x, noise allowed for)"
    if not ok:
        message = (
            f"{format_seconds(slow.median_s)} {_place(slow)} but {format_seconds(fast.median_s)} {_place(fast)} at "
            f"{format_bytes(slow.message_bytes)}, over {_MAX_DISAGREEMENT}x apart at {some(far)}: the slower one was cold or "
            "disturbed; measure again with a longer warm-up (-w)"
        )
    yield Verdict(name="placements", ok=ok, measured=ratio, limit=_MAX_DISAGREEMENT, unit="1", message=message)


def _pairs(evidence: Evidence) -> Iterator[tuple[CollectiveMeasurement, CollectiveMeasurement]]:
    """Yield both placements of each size, the slower one first.

    Left out: on hosts without GPUs, where torch has only the in-place form, a slower call out of place. It holds a copy,
    which there takes as long as a message of its size.
    """
    copied = _COPIED if evidence.run.info.on_cpu else ()
    grouped = judged_series(evidence)
    for series, out_of_place in grouped.items():
        if series.in_place:
            continue
        in_place = {m.message_bytes: m for m in grouped.get(replace(series, in_place=True), [])}
        for measurement in out_of_place:
            if (other := in_place.get(measurement.message_bytes)) is not None:
                faster, slower = sorted((measurement, other), key=lambda m: m.median_s)
                if slower.in_place or slower.op not in copied:
                    yield slower, faster


def _sure_ratio(slower: CollectiveMeasurement, faster: CollectiveMeasurement) -> float:
    """Return the ratio of the medians that even their intervals leave standing; at least 1."""
    return max(1.0, median_bounds_s(slower)[0] / median_bounds_s(faster)[1])


def _place(measurement: CollectiveMeasurement) -> str:
    return "in place" if measurement.in_place else "out of place"
