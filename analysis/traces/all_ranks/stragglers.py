"""Who arrives last, in how many steps, and what does it cost the others?

In each matched collective the rank that arrives last makes the others wait. What a rank cost in a step is the time another rank
waited for it and neither computed nor transferred: its part of `waiting_exposed`, the median over the other ranks. The step's
straggler is who cost most. A cost counts above 1 % of the median step and three times what the clocks may be wrong by.

Only undisturbed steps judge: those at most 20 % longer than a step without the profiler, or, where no such step is known, than
the median traced one. In most of them nobody's cost counts: no straggler. The same rank in three quarters of those where one
does, more often than chance allows (see chance.py): it is late. In fewer: the straggler changes, and the cause is not a rank.
Else it cannot be told. Sends and receives judge nobody, nor do collectives over several stages of a pipeline: stages wait for
each other by construction, and only replicas of one stage are compared.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.all_ranks.chance import ENOUGH_STEPS, LEVEL, MIN_STEPS, chance, fewest_steps
from commprof.analysis.traces.all_ranks.matched.arrivals import Arrivals, Int64s, groups
from commprof.analysis.traces.all_ranks.matched.clocks import RankClock, ready_ns, reference_starts_ns
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective
from commprof.analysis.traces.one_rank.spans import Intervals, covered_before_ns, union
from commprof.commbench.units import format_seconds

POINT_TO_POINT = "send_recv"  # waits for one other rank, and of a pipeline by construction
_NO_GROUP = "who arrives last cannot be told: no collective is known from all ranks of its group"
_NO_REPLICAS = (
    "who is late cannot be told: the ranks are stages of a pipeline, which wait for each other's sends by construction, and no "
    "collective is known from all replicas of one stage"
)
_NOBODY = -1
_MIN_SHARE = 0.01
_RESIDUALS = 3
_CONSTANT = 3 / 4
STRETCHED = 1.2
_EXPLAINS = 0.25
_EXPLANATIONS = {"computation": "compute", "time outside operators and kernels": "other", "launch idle": "launch_idle"}

StragglerClass = Literal["constant", "changing", "none", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStraggler:
    """Who cost the others most in one step, and how much of their time. A disturbed step judges nobody."""

    step: int
    rank: int
    cost_s: float
    counts: bool
    disturbed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """The verdict and its evidence. `rank` and `cost_s` (the median of its steps) belong to who is named most often.

    `num_steps` of the `num_judged` undisturbed steps name that rank; some rank would be in so many by chance alone with a
    probability of `chance` at most, None where nobody is named.
    """

    kind: StragglerClass
    rank: int | None
    num_steps: int
    num_judged: int
    chance: float | None
    cost_s: float
    steps: tuple[StepStraggler, ...]
    message: str


def find_stragglers(
    matched: Iterable[MatchedCollective],
    clocks: Mapping[int, RankClock],
    busy: Mapping[int, Intervals],
    budgets: Sequence[StepBudget],
    untraced_s: float | None = None,
    stage_of: Mapping[int, int] | None = None,
) -> Stragglers:
    """Judge who is late, from all matched collectives whose whole group is there.

    `busy` is when each rank computed or transferred, on its own clock; `untraced_s` how long a step is without the profiler.
    `stage_of` says which stage of a pipeline each rank is, where there is one: ranks of several stages are not compared.
    """
    stages = stage_of or {}
    together = [one for one in matched if one.complete and one.first.op != POINT_TO_POINT]
    whole = [one for one in together if len({stages.get(rank) for rank in one.parts}) == 1]
    if not whole or not budgets:
        return _unknown((), _NO_REPLICAS if stages else _NO_GROUP)
    costs_by_step = costs_ns(whole, clocks, busy)
    walls_s = _walls_s(budgets)
    usual_s = untraced_s or median(walls_s.get(step, 0.0) for step in costs_by_step or walls_s)
    residual_s = max((own.residual_ns for own in clocks.values() if own.corrected), default=0) / 1e9
    limit_s = max(_MIN_SHARE * median(walls_s.values()), _RESIDUALS * residual_s)
    steps = []
    for step, costs in costs_by_step.items():
        rank = max(costs, key=lambda own: (costs[own], -own))
        cost_s, disturbed = costs[rank] / 1e9, walls_s.get(step, 0.0) > STRETCHED * usual_s
        steps.append(StepStraggler(step=step, rank=rank, cost_s=cost_s, counts=cost_s > limit_s, disturbed=disturbed))
    num_ranks = len({rank for one in whole for rank in one.parts})
    left = sum(not own.disturbed for own in steps)
    if left < fewest_steps(num_ranks) <= len(steps) or not left:
        return _unknown(steps, _too_disturbed(steps, walls_s, usual_s, num_ranks))
    return judge_steps(steps, num_ranks=num_ranks, budgets=budgets)


def _walls_s(budgets: Sequence[StepBudget]) -> dict[int, float]:
    """Return by step how long it was, the median over ranks."""
    walls_ns: dict[int, list[int]] = defaultdict(list)
    for own in budgets:
        walls_ns[own.step].append(own.wall_ns)
    return {step: median(own) / 1e9 for step, own in walls_ns.items()}


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
    free_ns = times[at] - covered_before_ns(times[at], busy)
    idle_ns = np.bincount(who[:, 0], weights=free_ns[:, 1] - free_ns[:, 0], minlength=len(number))
    yield from zip(number.tolist(), np.rint(idle_ns).astype(np.int64).tolist(), strict=True)


def judge_steps(steps: Sequence[StepStraggler], *, num_ranks: int, budgets: Sequence[StepBudget] = ()) -> Stragglers:
    """Judge from each step's straggler whether one of the ranks is late; `budgets` tell why."""
    judged = [own for own in steps if not own.disturbed]
    late = [own for own in judged if own.counts]
    of_all = f"{len(late)} of {len(judged)} steps"
    if len(late) * 2 < len(judged) or not late:
        text = f"no straggler: in {of_all} a rank made the others wait for more than 1 % of the step"
        return _verdict("none", steps, text + _left_out(steps))
    (rank, times), *_ = Counter(own.rank for own in late).most_common(1)
    found = _Named(rank=rank, times=times, late=late, chance=chance(times, len(late), num_ranks))
    seen = (
        f"rank {rank} arrived last in {times} of {len(judged)} steps, it cost the others {format_seconds(found.cost_s)} a step"
    )
    by_chance = f"by chance alone some rank of {num_ranks} is named so often in {_percent(found.chance)} of traces"
    if len(judged) < MIN_STEPS:
        return _verdict("unknown", steps, f"{seen}; {_too_few(num_ranks)}{_left_out(steps)}", found)
    if times < _CONSTANT * len(late):
        text = f"the straggler changes: some rank is late in {of_all}, none in three quarters of these; {seen}"
        return _verdict("changing", steps, text + _left_out(steps), found)
    if found.chance > LEVEL:
        return _verdict("unknown", steps, f"{seen}; {by_chance}, {_too_few(num_ranks)}{_left_out(steps)}", found)
    text = f"rank {rank} is late: it {seen.removeprefix(f'rank {rank} ')}{_reason(found, budgets)}; {by_chance}"
    return _verdict("constant", steps, text + _left_out(steps), found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """The rank that is late in most of the steps in which one is."""

    rank: int
    times: int
    late: Sequence[StepStraggler]
    chance: float

    @property
    def cost_s(self) -> float:
        return median(own.cost_s for own in self.late if own.rank == self.rank)


def _too_few(num_ranks: int) -> str:
    return (
        f"whether it is late cannot be told: that takes {fewest_steps(num_ranks)} undisturbed steps at least on {num_ranks} "
        f"ranks (at most 1 false alarm in {1 / LEVEL:.0f}), {ENOUGH_STEPS} find most (ours: "
        f"profiling.trace_steps={ENOUGH_STEPS})"
    )


def _left_out(steps: Sequence[StepStraggler]) -> str:
    num = sum(own.disturbed for own in steps)
    longer = f"over {STRETCHED - 1:.0%} longer than an undisturbed one"
    return f"; {num} more, {longer}, judge{'s' * (num == 1)} nobody" if num else ""


def _too_disturbed(steps: Sequence[StepStraggler], walls_s: Mapping[int, float], usual_s: float, num_ranks: int) -> str:
    disturbed = [own for own in steps if own.disturbed]
    longer = format_seconds(median(walls_s[own.step] for own in disturbed))
    return (
        f"who is late cannot be told: {len(disturbed)} of {len(steps)} traced steps are stretched by over "
        f"{STRETCHED - 1:.0%}, to {longer} where an undisturbed one takes {format_seconds(usual_s)}, and judge nobody; that "
        f"takes {fewest_steps(num_ranks)} others on {num_ranks} ranks. Trace while nothing else runs, or less of a step (ours: "
        "profiling.trace_shapes=false)"
    )


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 1e-4 else "under 0.01%"


def _reason(found: _Named, budgets: Sequence[StepBudget]) -> str:
    """Say what the late rank's steps hold more of than the others', where that is a good part of the cost."""
    rank = found.rank
    steps = {own.step for own in found.late if own.rank == rank}
    excess_s = {
        words: _median_s(field, [own for own in budgets if own.step in steps and own.rank == rank])
        - _median_s(field, [own for own in budgets if own.step in steps and own.rank != rank])
        for words, field in _EXPLANATIONS.items()
    }
    words = max(excess_s, key=lambda own: excess_s[own])
    if excess_s[words] < _EXPLAINS * found.cost_s:
        return ""
    return f"; its steps hold {format_seconds(excess_s[words])} more {words}"


def _median_s(field: str, budgets: Sequence[StepBudget]) -> float:
    parts = [own.parts_ns() for own in budgets]
    hidden = ("transfer_hidden", "waiting_hidden") if field == "compute" else ()
    return median(sum(own[name] for name in (field, *hidden)) for own in parts) / 1e9 if parts else 0.0


def _unknown(steps: Sequence[StepStraggler], message: str) -> Stragglers:
    return _verdict("unknown", steps, message)


def _verdict(kind: StragglerClass, steps: Sequence[StepStraggler], message: str, named: _Named | None = None) -> Stragglers:
    return Stragglers(
        kind=kind,
        rank=None if named is None else named.rank,
        num_steps=0 if named is None else named.times,
        num_judged=sum(not own.disturbed for own in steps),
        chance=None if named is None else named.chance,
        cost_s=0.0 if named is None else named.cost_s,
        steps=tuple(steps),
        message=message,
    )
