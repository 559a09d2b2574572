"""What does an epoch cost on N ranks, and which N is the cheapest that ends in time?

    epoch = samples / (samples of a step) T_N        cost = price per GPU-hour N epoch / 3600

Without a price the cost is in GPU-hours, without a number of samples for a million of them. The cost of an added rank is what
the same samples cost more than on the next smaller world size known, divided by the ranks between them.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from commprof.analysis.advice.results import Budget, Costs, EpochCost
from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.step.estimate import Estimate, interval
from commprof.analysis.step.inputs import StepInputs

DEFAULT_SAMPLES = 1_000_000  # of an epoch whose length is not known
_HOUR_S = 3600.0


def costs_of(known: Sequence[tuple[StepInputs, Estimate]], single_s: float, budget: Budget) -> Costs:
    """Return what an epoch costs on one rank and at every world size known, smallest first. There is at least one."""
    work = known[0][0].workload
    samples = budget.samples_per_epoch or DEFAULT_SAMPLES
    rows = [epoch_cost(budget, 1, samples / work.samples_per_rank, single_s, None)]
    for inputs, predicted in known:
        steps = samples / step_samples(work.samples_per_rank, inputs.world_size, work.scaling)
        row = epoch_cost(budget, inputs.world_size, steps, float(predicted.step_s[0]), interval(predicted.step_s))
        rows.append(replace(row, extrapolated=inputs.extrapolated))
    rows.sort(key=lambda row: row.world_size)
    added = [(right.cost - left.cost) / (right.world_size - left.world_size) for left, right in pairwise(rows)]
    rows[1:] = [replace(row, cost_per_added_rank=cost) for row, cost in zip(rows[1:], added, strict=True)]
    return Costs(
        price_per_gpu_hour=budget.price_per_gpu_hour,
        samples_per_epoch=samples,
        samples_assumed=budget.samples_per_epoch is None,
        epochs=budget.epochs,
        deadline_s=budget.deadline_s,
        rows=tuple(rows),
        cheapest=_cheapest([row for row in rows if _in_time(budget, row.epoch_s)]),
        surely_cheapest=_cheapest([row for row in rows if _in_time(budget, latest_s(row))]),
    )


def step_samples(samples_per_rank: int, world_size: int, kind: ScalingKind) -> int:
    """Return the samples of one step of all ranks, from those of a step of one rank alone."""
    return samples_per_rank * (world_size if kind == "weak" else 1)


def latest_s(row: EpochCost) -> float:
    """Return the high end of an epoch's interval."""
    return row.epoch_s if row.epoch_interval_s is None else row.epoch_interval_s.high


def epoch_cost(budget: Budget, world_size: int, steps: float, step_s: float, span: Interval | None) -> EpochCost:
    """Return what an epoch of so many steps costs."""
    per_s = world_size * (1.0 if budget.price_per_gpu_hour is None else budget.price_per_gpu_hour) / _HOUR_S
    epoch_s = None if span is None else Interval(low=steps * span.low, high=steps * span.high)
    return EpochCost(
        world_size=world_size,
        epoch_s=steps * step_s,
        epoch_interval_s=epoch_s,
        cost=per_s * steps * step_s,
        cost_interval=None if epoch_s is None else Interval(low=per_s * epoch_s.low, high=per_s * epoch_s.high),
        cost_per_added_rank=None,
        extrapolated=False,
    )


def _in_time(budget: Budget, epoch_s: float) -> bool:
    return budget.deadline_s is None or budget.epochs * epoch_s <= budget.deadline_s


def _cheapest(rows: Sequence[EpochCost]) -> int | None:
    return min(rows, key=lambda row: row.cost).world_size if rows else None
