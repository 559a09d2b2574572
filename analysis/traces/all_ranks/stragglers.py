"""Who arrives last, in how many steps, and what does it cost the others?

In each matched collective the rank that arrives last makes the others wait. What a rank cost in a step is the time another rank
waited for it and neither computed nor transferred: its part of `waiting_exposed`, the median over the other ranks. The step's
straggler is who cost most. A cost counts above 1 % of the median step and three times what the clocks may be wrong by. In most
steps none: no straggler. The same rank in two thirds of at least three such steps: a constant one. Else it changes, and the
cause is not a rank.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from commprof.analysis.traces.all_ranks.arrivals import Arrivals, Int64s, groups
from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.all_ranks.clocks import RankClock, ready_ns, reference_starts_ns
from commprof.analysis.traces.all_ranks.matching import MatchedCollective
from commprof.analysis.traces.one_rank.spans import Intervals, union
from commprof.commbench.units import format_seconds

_NOBODY = -1
_MIN_SHARE = 0.01
_RESIDUALS = 3
_MIN_STEPS = 3
_CONSTANT = 2 / 3
_EXPLAINS = 0.25
_EXPLANATIONS = {"computation": "compute", "time outside operators and kernels": "other", "launch idle": "launch_idle"}

StragglerClass = Literal["constant", "changing", "none", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStraggler:
    """Who cost the others most in one step, and how much of their time."""

    step: int
    rank: int
    cost_s: float
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """The verdict and its evidence. `rank` and `cost_s` (the median of its steps) belong to who is named most often."""

    kind: StragglerClass
    rank: int | None
    num_steps: int
    cost_s: float
    steps: tuple[StepStraggler, ...]
    message: str


def find_stragglers(
    matched: Iterable[MatchedCollective],
    clocks: Mapping[int, RankClock],
    busy: Mapping[int, Intervals],
    budgets: Sequence[StepBudget],
) -> Stragglers:
    """Judge who is late, from all matched collectives whose whole group is there.

    `busy` is when each rank computed or transferred, on its own clock.
    """
    whole = [one for one in matched if one.complete]
    if not whole or not budgets:
        return _verdict("unknown", (), "who arrives last cannot be told: no collective is known from all ranks of its group")
    residual_ns = max((own.residual_ns for own in clocks.values() if own.corrected), default=0)
    limit_ns = max(_MIN_SHARE * median(own.wall_ns for own in budgets), _RESIDUALS * residual_ns)
    steps = []
    for step, costs in costs_ns(whole, clocks, busy).items():
        rank = max(costs, key=lambda own: (costs[own], -own))
        steps.append(StepStraggler(step=step, rank=rank, cost_s=costs[rank] / 1e9, counts=costs[rank] > limit_ns))
    return _judged(tuple(steps), budgets)


def costs_ns(
    matched: Sequence[MatchedCollective], clocks: Mapping[int, RankClock], busy: Mapping[int, Intervals]
) -> dict[int, dict[int, int]]:
    """Return by step what each late rank cost the others: how long, in the median, one waited for it and did nothing else."""
    arrivals = Arrivals.of(matched)
    last = arrivals.last_ranks(reference_starts_ns(arrivals, clocks))
    until_ns = np.minimum(ready_ns(arrivals, clocks), arrivals.end_ns)
    steps, step = np.unique(np.array([one.first.step for one in matched])[arrivals.collective], return_inverse=True)
    lasts, late = np.unique(last, return_inverse=True)
    blame = step * len(lasts) + late
    waited: dict[int, list[int]] = defaultdict(list)
    for rank, rows in groups(np.where(arrivals.rank == last, _NOBODY, arrivals.rank)):
        if rank != _NOBODY:
            for own, idle_ns in _idle_ns(blame[rows], arrivals.start_ns[rows], until_ns[rows], busy[rank]):
                waited[own].append(idle_ns)
    costs: dict[int, dict[int, int]] = defaultdict(dict)
    for own, idles_ns in sorted(waited.items()):
        costs[int(steps[own // len(lasts)])][int(lasts[own % len(lasts)])] = int(median(idles_ns))
    return costs


def _idle_ns(blame: Int64s, start_ns: Int64s, end_ns: Int64s, busy: Intervals) -> Iterator[tuple[int, int]]:
    """Yield how long a rank waited and did nothing else, apart for everything that is to blame; waits may overlap."""
    end_ns = np.maximum(start_ns, end_ns)
    times, order = np.unique(np.concatenate([start_ns, end_ns]), return_inverse=True)
    number, numbers = np.unique(blame, return_inverse=True)
    shift = numbers * len(times)  # so that what one is to blame for does not touch what another is
    waits = union(order[: len(start_ns)] + shift, order[len(start_ns) :] + shift)
    who, at = np.divmod(waits, len(times))
    free_ns = times[at] - _busy_before_ns(times[at], busy)
    idle_ns = np.bincount(who[:, 0], weights=free_ns[:, 1] - free_ns[:, 0], minlength=len(number))
    yield from zip(number.tolist(), np.rint(idle_ns).astype(np.int64).tolist(), strict=True)


def _busy_before_ns(times_ns: Int64s, busy: Intervals) -> Int64s:
    """Return how much of the time before each instant a set of intervals covers."""
    if not len(busy):
        return np.zeros_like(times_ns)
    covered_ns = np.concatenate([[0], np.cumsum(busy[:, 1] - busy[:, 0])])
    index = np.searchsorted(busy[:, 0], times_ns, side="right")
    beyond_ns = np.where(index > 0, np.maximum(busy[index - 1, 1] - times_ns, 0), 0)
    return covered_ns[index] - beyond_ns


def _judged(steps: tuple[StepStraggler, ...], budgets: Sequence[StepBudget]) -> Stragglers:
    late = [own for own in steps if own.counts]
    of_all = f"{len(late)} of {len(steps)} steps"
    if len(late) * 2 < len(steps) or not late:
        return _verdict("none", steps, f"no straggler: in {of_all} a rank made the others wait for more than 1 % of the step")
    (rank, times), *_ = Counter(own.rank for own in late).most_common(1)
    cost_s = median(own.cost_s for own in late if own.rank == rank)
    cost = f"it cost the others {format_seconds(cost_s)} a step"
    if len(late) < _MIN_STEPS:
        text = f"rank {rank} arrived last in {times} of {len(steps)} steps, {cost}; too few steps to call it a straggler"
        return _verdict("unknown", steps, text, rank, cost_s)
    if times < _CONSTANT * len(late):
        text = (
            f"the straggler changes: some rank is late in {of_all}, none in two thirds of these; rank {rank} in {times}, {cost}"
        )
        return _verdict("changing", steps, text, rank, cost_s)
    text = (
        f"rank {rank} is late: it arrived last in {times} of {len(steps)} steps, {cost}{_reason(rank, cost_s, late, budgets)}"
    )
    return _verdict("constant", steps, text, rank, cost_s)


def _reason(rank: int, cost_s: float, late: Sequence[StepStraggler], budgets: Sequence[StepBudget]) -> str:
    """Say what the late rank's steps hold more of than the others', where that is a good part of the cost."""
    steps = {own.step for own in late if own.rank == rank}
    excess_s = {
        words: _median_s(field, [own for own in budgets if own.step in steps and own.rank == rank])
        - _median_s(field, [own for own in budgets if own.step in steps and own.rank != rank])
        for words, field in _EXPLANATIONS.items()
    }
    words = max(excess_s, key=lambda own: excess_s[own])
    if excess_s[words] < _EXPLAINS * cost_s:
        return ""
    return f"; its steps hold {format_seconds(excess_s[words])} more {words}"


def _median_s(field: str, budgets: Sequence[StepBudget]) -> float:
    parts = [own.parts_ns() for own in budgets]
    hidden = ("transfer_hidden", "waiting_hidden") if field == "compute" else ()
    return median(sum(own[name] for name in (field, *hidden)) for own in parts) / 1e9 if parts else 0.0


def _verdict(
    kind: StragglerClass, steps: tuple[StepStraggler, ...], message: str, rank: int | None = None, cost_s: float = 0.0
) -> Stragglers:
    num_steps = sum(own.counts and own.rank == rank for own in steps)
    return Stragglers(kind=kind, rank=rank, num_steps=num_steps, cost_s=cost_s, steps=steps, message=message)
