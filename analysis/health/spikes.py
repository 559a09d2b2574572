"""Which sizes stand out from their curve, and is that a disturbance or the library's own course?

A size stands out where its median takes over 1.5 times what the line through its neighbours suggests, in log-log, even by the
medians' intervals. Both placements of a size do the same work, so the other one is the witness:

    slow in one placement alone    cold or disturbed
    slow in both, and the time falls again behind it    a slow range
    slow in both, and the time goes on growing          a switch of protocol, algorithm or path

With one placement measured nothing tells these apart, nor where other processes took cores meanwhile. What is steady fails a
run, except on one host without GPUs, where large messages leave the caches: there it is worth a note.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log

from commprof.analysis.health.evidence import Evidence, Series, judged_series, median_bounds_s, some
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.disturbance import most_disturbed
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_seconds

SPIKE = 1.5  # times its neighbours' interpolation; a change of protocol between two sizes stays below the step's root
_WITNESSED = 1.25  # what the other placement has to show, and how far the two may be apart
_RISE = 1.3  # from one size to the next, beyond the bytes' own growth
_FALL = 1.1  # from one size to the next larger one, in time
_CAUSES = {
    "nccl": "usually the protocol, algorithm or path that NCCL takes there: compare NCCL_PROTO, NCCL_ALGO and NCCL_P2P_LEVEL",
    "gloo": "usually messages that outgrow a cache, or the sockets' buffers between hosts (net.ipv4.tcp_wmem, tcp_rmem)",
}

Sizes = Sequence[CollectiveMeasurement]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spike:
    """A size that takes `ratio` times what its neighbours suggest; `other` is that of the other placement, if measured."""

    series: Series
    sizes: Sizes
    index: int
    ratio: float
    other: float | None

    @property
    def here(self) -> CollectiveMeasurement:
        return self.sizes[self.index]

    @property
    def steady(self) -> bool:
        """Whether the other placement is slow there too, and about as slow."""
        if self.other is None or self.other < _WITNESSED:
            return False
        return max(self.other / self.ratio, self.ratio / self.other) < _WITNESSED


def spikes(evidence: Evidence) -> Iterator[Verdict]:
    """Yield whether sizes stand out from the curve through their neighbours, those disturbed and those steady apart."""
    ratios = _ratios(judged_series(evidence))
    if not ratios:
        return
    others = most_disturbed(evidence.run, evidence.hosts, evidence.telemetry) is not None
    found = sorted((own for own in ratios if own.ratio > SPIKE), key=lambda own: -own.ratio)
    steady = [] if others else [own for own in found if own.steady]
    worst = max((own.ratio for own in ratios if own not in steady), default=1.0)
    yield _disturbed([own for own in found if own not in steady], worst, others=others)
    yield from _steady(evidence, steady)


def _disturbed(found: Sequence[_Spike], worst: float, *, others: bool) -> Verdict:
    message = f"no size takes over {SPIKE}x what its neighbours suggest in one placement (most {worst:.2f}x, noise allowed for)"
    if found:
        named = [
            f"{format_bytes(own.here.message_bytes)} takes {format_seconds(own.here.median_s)}, {own.ratio:.1f}x "
            f"({own.series.label})"
            for own in found
        ]
        alone = all(own.other is None for own in found)
        why = (
            "other processes took cores meanwhile, measure again"
            if others
            else "cold, disturbed or slow, which the other placement would tell; measure both, again"
            if alone
            else "the other placement is not as slow there: cold or disturbed, measure again"
        )
        message = f"out of line with their neighbours: {some(named)}; {why}"
    return Verdict(name="spikes", ok=not found, measured=worst, limit=SPIKE, unit="1", message=message)


def _steady(evidence: Evidence, found: Sequence[_Spike]) -> Iterator[Verdict]:
    """Yield the slow ranges and the switches, each once, however many placements and sizes show it."""
    courses: dict[tuple[str, int, int | None], tuple[float, str]] = {}
    for own in found:
        start, end = _stretch(own.sizes, own.index)
        words = _switch_words(own, start) if end is None else _range_words(own, start, end)
        courses.setdefault((_where(own.series), start, end), (own.ratio, words))
    info = evidence.run.info
    noted = info.on_cpu and evidence.run.num_nodes == 1
    cause = _CAUSES.get(info.backend, "usually another protocol or algorithm of the library")
    for name, switched in (("slow range", False), ("switch", True)):
        named = [own for (_, _, end), own in sorted(courses.items(), key=_by_start) if (end is None) == switched]
        if named:
            message = f"{some([words for _, words in named])}; steady in both placements, so no disturbance: {cause}"
            worst = max(ratio for ratio, _ in named)
            yield Verdict(name=name, ok=noted, note=noted, measured=worst, limit=SPIKE, unit="1", message=message)


def _by_start(item: tuple[tuple[str, int, int | None], object]) -> tuple[str, int]:
    (where, start, _), _ = item
    return where, start


def _range_words(own: _Spike, start: int, end: int) -> str:
    first, last, after = own.sizes[start], own.sizes[end], own.sizes[end + 1]
    span = format_bytes(last.message_bytes)
    span = span if start == end else f"{format_bytes(first.message_bytes)} to {span}"
    return f"{span}, {format_seconds(last.median_s)} where {_timed(after)} ({_where(own.series)})"


def _switch_words(own: _Spike, at: int) -> str:
    before, here = own.sizes[max(0, at - 1)], own.sizes[at]
    return (
        f"at {format_bytes(here.message_bytes)}, {here.median_s / before.median_s:.1f} times the time of "
        f"{format_bytes(before.message_bytes)} for {here.message_bytes / before.message_bytes:.3g} times the bytes "
        f"({_where(own.series)})"
    )


def _timed(measurement: CollectiveMeasurement) -> str:
    return f"{format_bytes(measurement.message_bytes)} takes {format_seconds(measurement.median_s)}"


def _where(series: Series) -> str:
    """Name a series without its placement."""
    return series.label.replace(", in place", "").replace(", out of place", "")


def _stretch(sizes: Sizes, index: int) -> tuple[int, int | None]:
    """Return where the slow sizes around one begin and end; no end where the time never falls again."""
    entry = _entry(sizes, index)
    for end in range(index, len(sizes) - 1):
        if entry and end > index and _rate(sizes[end]) >= _rate(sizes[entry - 1]):
            break  # as fast as before it, and no faster all at once: a step, not a range
        if sizes[end].median_s > _FALL * sizes[end + 1].median_s:
            return (_above(sizes, end) if entry is None else entry), end
    return (index if entry is None else entry), None


def _entry(sizes: Sizes, index: int) -> int | None:
    """Return where time last rose faster than the bytes, at a size or before it; None where it fell since."""
    for here in range(index, 0, -1):
        before, after = sizes[here - 1], sizes[here]
        if after.median_s / before.median_s > _RISE * after.message_bytes / before.message_bytes:
            return here
        if before.median_s > _FALL * after.median_s:
            return None
    return None


def _above(sizes: Sizes, end: int) -> int:
    """Return the first of the sizes up to `end` that take longer than the next larger one."""
    start = end
    while start > 0 and sizes[start - 1].median_s > sizes[end + 1].median_s:
        start -= 1
    return start


def _rate(measurement: CollectiveMeasurement) -> float:
    return measurement.message_bytes / measurement.median_s


def _ratios(grouped: dict[Series, list[CollectiveMeasurement]]) -> list[_Spike]:
    by_size = {
        series: {sizes[index].message_bytes: ratio for ratio, index in _above_neighbours(sizes)}
        for series, sizes in grouped.items()
    }
    return [
        _Spike(
            series=series,
            sizes=sizes,
            index=index,
            ratio=ratio,
            other=by_size.get(replace(series, in_place=not series.in_place), {}).get(sizes[index].message_bytes),
        )
        for series, sizes in grouped.items()
        for ratio, index in _above_neighbours(sizes)
    ]


def _above_neighbours(sizes: Sizes) -> Iterator[tuple[float, int]]:
    """Yield each size's time over its neighbours' interpolation in log-log; the smallest compares with the second.

    The largest has nobody beyond it, and a time that grows there may be the curve's.
    """
    if len(sizes) > 2:
        first, second = sizes[:2]
        yield median_bounds_s(first)[0] / median_bounds_s(second)[1], 0
    for index in range(1, len(sizes) - 1):
        before, here, after = sizes[index - 1 : index + 2]
        if before.message_bytes < here.message_bytes < after.message_bytes:
            yield median_bounds_s(here)[0] / _between(before, here, after), index


def _between(before: CollectiveMeasurement, here: CollectiveMeasurement, after: CollectiveMeasurement) -> float:
    """Return the seconds at `here` on the line through the upper ends of its neighbours' medians, in log-log."""
    share = log(here.message_bytes / before.message_bytes) / log(after.message_bytes / before.message_bytes)
    return exp((1 - share) * log(median_bounds_s(before)[1]) + share * log(median_bounds_s(after)[1]))
