"""Who came when to which collective? All matched collectives at once, one row a collective and rank, in numpy.

A thousand ranks with a thousand collectives each are a million rows: seconds here, minutes one by one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Rows in the order of collectives: `collective` is a position among the matched; times are each rank's own clock's."""

    collective: Int64s
    rank: Int64s
    start_ns: Int64s
    end_ns: Int64s

    @classmethod
    def of(cls, matched: Sequence[MatchedCollective]) -> "Arrivals":
        parts = [part for one in matched for part in one.parts.values()]
        return cls(
            collective=np.repeat(np.arange(len(matched)), [len(one.parts) for one in matched]),
            rank=_column(chain.from_iterable(one.parts for one in matched), len(parts)),
            start_ns=_column((part.start_ns for part in parts), len(parts)),
            end_ns=_column((part.end_ns for part in parts), len(parts)),
        )

    def of_rows(self, rows: Int64s) -> "Arrivals":
        """Return these rows alone."""
        return Arrivals(
            collective=self.collective[rows], rank=self.rank[rows], start_ns=self.start_ns[rows], end_ns=self.end_ns[rows]
        )

    def first_rows(self) -> Int64s:
        """Return the row with which each collective begins."""
        return np.flatnonzero(np.diff(self.collective, prepend=-1))

    def last_ns(self, times_ns: Int64s) -> Int64s:
        """Return by row the latest of the times of its collective's rows."""
        return np.maximum.reduceat(times_ns, self.first_rows())[self.collective] if len(times_ns) else times_ns

    def last_ranks(self, times_ns: Int64s) -> Int64s:
        """Return by row which rank of its collective has the latest time; of several at once the lowest."""
        order = np.lexsort((-self.rank, times_ns, self.collective))
        ends = np.append(self.first_rows()[1:], len(order)) - 1
        return self.rank[order[ends]][self.collective] if len(order) else self.rank


def _column(numbers: Iterable[int], count: int) -> Int64s:
    return np.fromiter(numbers, np.int64, count)


def groups(keys: Int64s) -> Iterator[tuple[int, Int64s]]:
    """Yield each key, in order, and the positions that have it."""
    order = np.argsort(keys, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if len(positions):
            yield int(keys[positions[0]]), positions
