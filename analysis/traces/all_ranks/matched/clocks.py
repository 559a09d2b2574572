"""What does one rank's clock show when another's shows noon? Found from the ends of collectives that nobody leaves early.

An all-reduce ends on all ranks within microseconds, however far apart they arrived. The difference of ends is the difference of
the clocks, plus that spread: its median is the offset, the median slope of ends half the trace apart (Theil 1950) the drift,
and the median distance that remains is the residual. Ranks on one host have one clock, and nothing is corrected there: what
their ends differ by is how far the measurement can be trusted. Where a trace does not name its host, its clock is corrected
only if it must be: if, as they stand, collectives ended on one rank before they began on the other.

    reference = own - offset - drift * (own - origin)     all in nanoseconds, drift without a unit
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from commprof.analysis.traces.all_ranks.matched.arrivals import Arrivals, Int64s, groups
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective

Time = TypeVar("Time", int, Int64s)

_SYNCHRONISING = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")
_MIN_FOR_DRIFT = 20
_MAX_IMPOSSIBLE = 0.02
_NOBODY = 2**62
_MAX_DRIFT = 1e-3  # no quartz is a part in a thousand off; more is noise over a short time


@dataclass(frozen=True, slots=True, kw_only=True)
class RankClock:
    """How one rank's clock lies to the reference rank's. `num_ends` collectives told; none: the clock is taken as it is."""

    rank: int
    offset_ns: int = 0
    drift: float = 0.0
    origin_ns: int = 0
    residual_ns: int = 0
    num_ends: int = 0
    corrected: bool = False

    def to_reference(self, own_ns: Time) -> Time:
        return own_ns - self._difference_ns(own_ns)

    def from_reference(self, reference_ns: Time) -> Time:
        """Return what this clock shows then; off by less than a nanosecond for as long as a trace is."""
        return reference_ns + self._difference_ns(reference_ns + self._difference_ns(reference_ns))

    def _difference_ns(self, own_ns: Time) -> Time:
        if isinstance(own_ns, int):
            return self.offset_ns + round(self.drift * (own_ns - self.origin_ns))
        drifted: Int64s = np.rint(self.drift * (own_ns - self.origin_ns)).astype(np.int64)
        return self.offset_ns + drifted


def align_clocks(hosts: Mapping[int, str | None], matched: Iterable[MatchedCollective]) -> dict[int, RankClock]:
    """Return every rank's clock against that of the lowest rank, by way of other ranks where the two share no collective."""
    ranks = sorted(hosts)
    arrivals = Arrivals.of([one for one in matched if one.first.op in _SYNCHRONISING])
    rows = dict(groups(arrivals.rank))
    clocks = {ranks[0]: RankClock(rank=ranks[0])}
    while partners := _lowest_partners(arrivals, clocks):
        clocks |= {
            rank: _through(clocks[known], rank, hosts[rank], hosts[known], _shared(arrivals, rows[known], rows[rank]))
            for rank, known in partners.items()
        }
    return clocks | {rank: RankClock(rank=rank) for rank in ranks if rank not in clocks}


def reference_starts_ns(arrivals: Arrivals, clocks: Mapping[int, RankClock]) -> Int64s:
    """Return by row when the rank came, on the reference rank's clock."""
    times_ns = np.empty_like(arrivals.start_ns)
    for rank, rows in groups(arrivals.rank):
        times_ns[rows] = clocks[rank].to_reference(arrivals.start_ns[rows])
    return times_ns


def ready_ns(arrivals: Arrivals, clocks: Mapping[int, RankClock]) -> Int64s:
    """Return by row when, on that rank's own clock, the last rank had come."""
    times_ns = arrivals.last_ns(reference_starts_ns(arrivals, clocks))
    for rank, rows in groups(arrivals.rank):
        times_ns[rows] = clocks[rank].from_reference(times_ns[rows])
    return times_ns


def _lowest_partners(arrivals: Arrivals, clocks: Mapping[int, RankClock]) -> dict[int, int]:
    """Return for each rank whose clock is not known the lowest rank whose clock is and with which it shares a collective."""
    known = np.isin(arrivals.rank, list(clocks))
    if not len(known):
        return {}
    lowest = np.minimum.reduceat(np.where(known, arrivals.rank, _NOBODY), arrivals.first_rows())[arrivals.collective]
    open_rows = np.flatnonzero(~known & (lowest < _NOBODY))
    return {rank: int(lowest[open_rows[own]].min()) for rank, own in groups(arrivals.rank[open_rows])}


def _shared(arrivals: Arrivals, first: Int64s, second: Int64s) -> tuple[Arrivals, Arrivals]:
    """Return two ranks' rows of the collectives that both are in."""
    _, mine, other = np.intersect1d(
        arrivals.collective[first], arrivals.collective[second], assume_unique=True, return_indices=True
    )
    return arrivals.of_rows(first[mine]), arrivals.of_rows(second[other])


def _through(
    known: RankClock, rank: int, host: str | None, known_host: str | None, shared: tuple[Arrivals, Arrivals]
) -> RankClock:
    """Measure a rank's clock against a known one by the collectives that both ranks are in."""
    theirs, own = shared
    other = np.stack([known.to_reference(theirs.start_ns), known.to_reference(theirs.end_ns)], axis=1)
    mine = np.stack([own.start_ns, own.end_ns], axis=1)
    named = host is not None and known_host is not None
    same = host == known_host if named else not _contradict(mine, other)
    return _measured(rank, own.end_ns, other[:, 1], shared=same and not known.corrected)


def _contradict(own: Int64s, other: Int64s) -> bool:
    """Say whether more collectives than chance allows ended on one rank before they began on the other."""
    impossible = (own[:, 1] < other[:, 0]) | (other[:, 1] < own[:, 0])
    return bool(impossible.mean() > _MAX_IMPOSSIBLE)


def _measured(rank: int, own: Int64s, reference: Int64s, *, shared: bool) -> RankClock:
    """Compare the ends of collectives on this rank's clock and on the reference's."""
    difference = own - reference
    if shared:
        return RankClock(rank=rank, residual_ns=int(np.median(np.abs(difference))), num_ends=len(own))
    origin = int(own[0])
    drift = _drift(own, difference)
    level = difference - np.rint(drift * (own - origin)).astype(np.int64)
    offset = int(np.median(level))
    residual = int(np.median(np.abs(level - offset)))
    return RankClock(
        rank=rank,
        offset_ns=offset,
        drift=drift,
        origin_ns=origin,
        residual_ns=residual,
        num_ends=len(own),
        corrected=True,
    )


def _drift(own: Int64s, difference: Int64s) -> float:
    """Return the median slope between points half the trace apart; 0 where too few collectives tell."""
    half = len(own) // 2
    if len(own) < _MIN_FOR_DRIFT:
        return 0.0
    apart = own[half : 2 * half] - own[:half]
    if (apart <= 0).any():
        return 0.0
    slope = float(np.median((difference[half : 2 * half] - difference[:half]) / apart))
    return slope if abs(slope) < _MAX_DRIFT else 0.0
