"""Who arrives last, in how many steps, and what does it cost the others?

In each matched collective the rank that arrives last makes the others wait. What a rank cost in a step is the time another rank
waited for it and neither computed nor transferred: its part of `waiting_exposed`, the median over the other ranks. The step's
straggler is who cost most. A cost counts above 1 % of the median step and three times what the clocks may be wrong by. In most
steps none: no straggler. The same rank in two thirds of at least three such steps: a constant one. Else it changes, and the
cause is not a rank.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from analysis.budget import StepBudget
from analysis.clocks import RankClock
from analysis.collectives import MatchedCollective
from analysis.intervals import Intervals, length_ns, union, without
from commbench.units import format_seconds

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
    by_step: dict[int, list[MatchedCollective]] = defaultdict(list)
    for one in matched:
        if one.complete:
            by_step[one.first.step].append(one)
    if not by_step or not budgets:
        return _verdict("unknown", (), "who arrives last cannot be told: no collective is known from all ranks of its group")
    residual_ns = max((own.residual_ns for own in clocks.values() if own.corrected), default=0)
    limit_ns = max(_MIN_SHARE * median(own.wall_ns for own in budgets), _RESIDUALS * residual_ns)
    steps = []
    for step, collectives in sorted(by_step.items()):
        costs = step_costs_ns(collectives, clocks, busy)
        rank = max(costs, key=lambda own: (costs[own], -own))
        steps.append(StepStraggler(step=step, rank=rank, cost_s=costs[rank] / 1e9, counts=costs[rank] > limit_ns))
    return _judged(tuple(steps), budgets)


def step_costs_ns(
    collectives: Iterable[MatchedCollective], clocks: Mapping[int, RankClock], busy: Mapping[int, Intervals]
) -> dict[int, int]:
    """Return what each late rank cost the others: how long, in the median, one of them waited for it and did nothing else."""
    waits: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for one in collectives:
        arrivals = {rank: clocks[rank].to_reference(part.start_ns) for rank, part in one.parts.items()}
        last = max(arrivals, key=lambda rank: (arrivals[rank], -rank))
        for rank, part in one.parts.items():
            if rank != last:
                ready_ns = clocks[rank].from_reference(arrivals[last])
                waits[last][rank].append((part.start_ns, min(ready_ns, part.end_ns)))
    return {last: int(median(_idle_ns(spans, busy[rank]) for rank, spans in others.items())) for last, others in waits.items()}


def _idle_ns(spans: Sequence[tuple[int, int]], busy: Intervals) -> int:
    return length_ns(without(union([start for start, _ in spans], [end for _, end in spans]), busy))


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
