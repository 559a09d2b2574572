"""How long will the rest of a sweep over sizes take? Told from the sizes that are done.

A sweep with a budget gives each size a share of it, twice as much at 50 MB as at nothing, and sizes that settle early leave
theirs unused: what remains costs as much of its share as what is done did, and the budget at most. With a fixed number of
calls, or once the budget is used up, a size's time is that of its calls, t ~ S^k with the k of the last two sizes. While calls
cost the same at every size (k < 1/2), nothing is known of the large ones, and nothing is said.
"""

from collections.abc import Hashable, Sequence
from math import log

_HEAVY_BYTES = 50e6  # a size of so many bytes gets twice the time of a small one: few calls, but long ones
_ON_THE_WIRE = 0.5

Taken = tuple[int, float]
"""A size in bytes and the seconds that it took."""


def share(message_bytes: int) -> float:
    """Return what a size weighs when the time of a sweep is shared out."""
    return 1 + message_bytes / _HEAVY_BYTES


class SweepPace:
    """What the cells of a sweep, each a size and a way to time it, have taken in the order in which they come.

    `budget_s` is None where each size has a fixed number of calls.
    """

    def __init__(self, cells: Sequence[tuple[int, Hashable]], budget_s: float | None) -> None:
        self._cells, self._budget_s = cells, budget_s
        self._taken: dict[Hashable, list[Taken]] = {kind: [] for _, kind in cells}
        self._num_done, self._noted_s = 0, 0.0

    def note(self, passed_s: float) -> None:
        """Take notice that the next cell is done, so many seconds after the sweep began."""
        size, kind = self._cells[self._num_done]
        self._taken[kind].append((size, passed_s - self._noted_s))
        self._num_done, self._noted_s = self._num_done + 1, passed_s

    def left_s(self, done: float, passed_s: float) -> float | None:
        """Return the seconds that the other cells will take; None while that cannot be told."""
        to_come = self._cells[int(done) :]
        parts = [growing_left_s(taken, [size for size, kind in to_come if kind == own]) for own, taken in self._taken.items()]
        grown_s = None if None in parts else sum(part for part in parts if part is not None)
        if self._budget_s is None or passed_s >= self._budget_s:
            return grown_s
        pace = self._noted_s / sum(share(size) for size, _ in self._cells[: int(done)])
        paced_s = pace * sum(share(size) for size, _ in to_come)
        return max(min(paced_s, self._budget_s - passed_s), grown_s or 0.0)


class RoundPace:
    """A sweep that is gone through again and again, as for each pair of ranks: told from its whole rounds."""

    def __init__(self, total: int, per_round: int) -> None:
        self._total, self._per_round = total, per_round
        self._whole, self._whole_s = 0, 0.0

    def note(self, done: int, passed_s: float) -> None:
        """Take notice that so many cells are done, so many seconds after the first round began."""
        if done % self._per_round == 0:
            self._whole, self._whole_s = done, passed_s

    def left_s(self, done: float, passed_s: float) -> float | None:
        """Return the seconds that the other cells will take; None before the end of the first round."""
        return max(0.0, self._whole_s / self._whole * self._total - passed_s) if self._whole else None


def growing_left_s(taken: Sequence[Taken], to_come: Sequence[int]) -> float | None:
    """Return the seconds that larger sizes will take at as many calls each; None while calls cost the same at every size."""
    if not to_come:
        return 0.0
    if len(taken) < 2:
        return None
    (before_bytes, before_s), (last_bytes, last_s) = taken[-2:]
    if not before_bytes < last_bytes or not 0 < before_s < last_s:
        return None
    power = min(1.0, log(last_s / before_s) / log(last_bytes / before_bytes))
    return None if power < _ON_THE_WIRE else sum(last_s * (size / last_bytes) ** power for size in to_come)
