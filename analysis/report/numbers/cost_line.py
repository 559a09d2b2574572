"""What does an epoch cost on the number of ranks to use, beside one rank? By the formula of advice/costs.py.

Of steps as measured where a run has checked them, as predicted elsewhere.
"""

from commprof.analysis.advice.costs import DEFAULT_SAMPLES, epoch_cost, step_samples
from commprof.analysis.advice.results import Budget, EpochCost
from commprof.analysis.report.numbers.data import Material
from commprof.analysis.scaling.decision import Decision
from commprof.analysis.step.evidence.profiles import profile_runs
from commprof.commbench.records.types import Workload

_HOUR_S = 3600.0
_SHORT_H = 0.1
_NOTHING_SAID = Budget(price_per_gpu_hour=None, samples_per_epoch=None, epochs=1, deadline_s=None)


def cost_line(material: Material, decision: Decision) -> str:
    """Return the sentence, or why the cost cannot be told."""
    if material.disturbed is not None:
        return "cannot be told from disturbed runs."
    profiles = profile_runs(material.runs) or material.alone
    if not profiles:
        return "cannot be told, because no run says how long one rank's step takes."
    (*_, profile) = profiles
    work = profile.info.workload
    if work is None or profile.info.imported_from is not None:
        return "cannot be told, because traces do not say how many samples a step has."
    budget = material.budget or _NOTHING_SAID
    samples = budget.samples_per_epoch or DEFAULT_SAMPLES
    single_s = profile.median_step_s() if material.predicted is None else material.predicted.single_step_s
    alone = _cost(budget, 1, samples, work, single_s)
    what = f"an epoch of {samples:,} samples costs" if budget.samples_per_epoch else "a million samples cost"
    found = [_told_of(material, n, budget, samples, work, alone) for n in _sizes(decision)]
    priced = "" if budget.price_per_gpu_hour is None else f", at {budget.price_per_gpu_hour:g} a GPU-hour"
    return f"{what} {'; '.join([*filter(None, found), f'{_told(alone, budget)} on one rank'])}{priced}."


def _sizes(decision: Decision) -> list[int]:
    """Return the number of ranks to use, or without one those that may be worth having."""
    if decision.best is not None:
        return [decision.best.candidate.world_size]
    return [own.candidate.world_size for own in decision.answers if own.answer == "perhaps"]


def _told_of(material: Material, world_size: int, budget: Budget, samples: int, work: Workload, alone: EpochCost) -> str:
    step_s = _step_s(material, world_size)
    if step_s is None or not alone.cost > 0:
        return ""
    found = _cost(budget, world_size, samples, work, step_s)
    return f"{_told(found, budget)} on {world_size} ranks, {found.cost / alone.cost - 1:+.0%}"


def _step_s(material: Material, world_size: int) -> float | None:
    measured = [run for run in material.compared if run.world_size == world_size]
    if measured:
        return measured[-1].median_step_s()
    known = material.predicted.predictions if material.predicted is not None else ()
    return next((p.step_s for p in known if (p.model, p.world_size) == ("schedule", world_size)), None)


def _cost(budget: Budget, world_size: int, samples: int, work: Workload, step_s: float) -> EpochCost:
    return epoch_cost(budget, world_size, samples / step_samples(work.samples_per_rank, world_size, work.scaling), step_s, None)


def _told(cost: EpochCost, budget: Budget) -> str:
    unit = " GPU-hours" if budget.price_per_gpu_hour is None else ""
    hours = cost.epoch_s / _HOUR_S
    return f"{cost.cost:.3g}{unit} ({f'{hours:.3g} h' if hours >= _SHORT_H else f'{60 * hours:.2g} min'})"
