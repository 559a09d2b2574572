"""How long is each part of a step, as one number?

    of a rank       median over steps
    of all ranks    median over steps of the mean over ranks

Over the steps that all ranks have, where there are any. Every table takes its times from here, and DDP's buckets are taken
likewise. Medians of parts do not add up to the median step; the parts of one step do.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from commprof.analysis.traces.all_ranks.budget import PARTS, StepBudget

STEP = "step"
ALONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTimes:
    """The parts of a rank's step, or of all ranks' (`rank` None), by name, and the whole step."""

    rank: int | None
    num_steps: int
    step_ns: float
    parts_ns: dict[str, float]


def common_steps(budgets: Iterable[StepBudget], num_ranks: int) -> dict[int, list[StepBudget]]:
    """Return the budgets of the steps that every rank has, by step, in order."""
    found: dict[int, list[StepBudget]] = defaultdict(list)
    for own in budgets:
        found[own.step].append(own)
    return {step: own for step, own in sorted(found.items()) if len(own) == num_ranks}


def part_series_ns(steps: Iterable[Sequence[StepBudget]], together: Mapping[str, str] = ALONE) -> dict[str, list[int]]:
    """Return by part its nanoseconds in each step, mean over ranks; the whole step first.

    `together` renames parts, and those of one new name are added up.
    """
    steps = list(steps)
    series = {STEP: [round(fmean(own.wall_ns for own in ranks)) for ranks in steps]}
    for name in dict.fromkeys(together.get(part, part) for part in PARTS):
        own = [part for part in PARTS if together.get(part, part) == name]
        series[name] = [round(fmean(_sum_ns(budget, own) for budget in ranks)) for ranks in steps]
    return series


def part_times(budgets: Sequence[StepBudget]) -> list[PartTimes]:
    """Return every rank's parts, and behind them all ranks' where there are several that have a step in common."""
    ranks = sorted({own.rank for own in budgets})
    common = common_steps(budgets, len(ranks))
    taken = [own for steps in common.values() for own in steps] or budgets
    found = [_times(rank, [[own] for own in taken if own.rank == rank]) for rank in ranks]
    return [*found, _times(None, list(common.values()))] if common and len(ranks) > 1 else found


def _times(rank: int | None, steps: Sequence[Sequence[StepBudget]]) -> PartTimes:
    medians = {name: float(median(own)) for name, own in part_series_ns(steps).items()}
    return PartTimes(rank=rank, num_steps=len(steps), step_ns=medians.pop(STEP), parts_ns=medians)


def _sum_ns(budget: StepBudget, parts: Sequence[str]) -> int:
    by_name = budget.parts_ns()
    return sum(by_name[part] for part in parts)
