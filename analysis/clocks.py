"""What does one rank's clock show when another's shows noon? Found from the ends of collectives that nobody leaves early.

An all-reduce ends on all ranks within microseconds, however far apart they arrived. The difference of ends is the difference of
the clocks, plus that spread: its median is the offset, the median slope between far pairs (Theil-Sen) the drift, and the median
distance that remains is the residual. Ranks on one host have one clock, and nothing is corrected there: what their ends differ
by is how far the measurement can be trusted. Where a trace does not name its host, its clock is corrected only if it must be:
if, as they stand, collectives ended on one rank before they began on the other.

    reference = own - offset - drift * (own - origin)     all in nanoseconds, drift without a unit
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.collectives import MatchedCollective

_SYNCHRONISING = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")
_MIN_FOR_DRIFT = 20
_MAX_IMPOSSIBLE = 0.02
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

    def to_reference(self, own_ns: int) -> int:
        return own_ns - self._difference_ns(own_ns)

    def from_reference(self, reference_ns: int) -> int:
        """Return what this clock shows then; off by less than a nanosecond for as long as a trace is."""
        return reference_ns + self._difference_ns(reference_ns + self._difference_ns(reference_ns))

    def _difference_ns(self, own_ns: int) -> int:
        return self.offset_ns + round(self.drift * (own_ns - self.origin_ns))


def align_clocks(hosts: Mapping[int, str | None], matched: Iterable[MatchedCollective]) -> dict[int, RankClock]:
    """Return every rank's clock against that of the lowest rank, by way of other ranks where the two share no collective."""
    ranks = sorted(hosts)
    synchronising = [one for one in matched if one.first.op in _SYNCHRONISING]
    clocks = {ranks[0]: RankClock(rank=ranks[0])}
    while missing := [rank for rank in ranks if rank not in clocks]:
        found = {rank: clock for rank in missing if (clock := _through(rank, clocks, hosts, synchronising)) is not None}
        if not found:
            return clocks | {rank: RankClock(rank=rank) for rank in missing}
        clocks |= found
    return clocks


def _through(
    rank: int, clocks: Mapping[int, RankClock], hosts: Mapping[int, str | None], matched: Sequence[MatchedCollective]
) -> RankClock | None:
    """Measure a rank's clock against the lowest known rank with which it shares collectives."""
    for known in sorted(clocks):
        both = [(one.parts[rank], one.parts[known]) for one in matched if rank in one.parts and known in one.parts]
        if not both:
            continue
        to_reference = clocks[known].to_reference
        own = np.array([(part.start_ns, part.end_ns) for part, _ in both], dtype=np.int64)
        other = np.array([(to_reference(part.start_ns), to_reference(part.end_ns)) for _, part in both], dtype=np.int64)
        named = hosts[rank] is not None and hosts[known] is not None
        same = hosts[rank] == hosts[known] if named else not _contradict(own, other)
        return _measured(rank, own[:, 1], other[:, 1], shared=same and not clocks[known].corrected)
    return None


def _contradict(own: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Say whether more collectives than chance allows ended on one rank before they began on the other."""
    impossible = (own[:, 1] < other[:, 0]) | (other[:, 1] < own[:, 0])
    return bool(impossible.mean() > _MAX_IMPOSSIBLE)


def _measured(rank: int, own: NDArray[np.int64], reference: NDArray[np.int64], *, shared: bool) -> RankClock:
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


def _drift(own: NDArray[np.int64], difference: NDArray[np.int64]) -> float:
    """Return the median slope between points half the trace apart; 0 where too few collectives tell."""
    half = len(own) // 2
    if len(own) < _MIN_FOR_DRIFT:
        return 0.0
    apart = own[half : 2 * half] - own[:half]
    if (apart <= 0).any():
        return 0.0
    slope = float(np.median((difference[half : 2 * half] - difference[:half]) / apart))
    return slope if abs(slope) < _MAX_DRIFT else 0.0
