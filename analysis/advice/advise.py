"""All the advice that some runs allow: for each world size what to change, what other hardware would bring and from where on it
pays; for all of them together what an epoch costs."""

from collections.abc import Sequence

from commprof.analysis.advice.changes import changes
from commprof.analysis.advice.costs import costs_of
from commprof.analysis.advice.other_hardware import published_note, what_ifs
from commprof.analysis.advice.results import Advice, Budget, RankAdvice
from commprof.analysis.advice.thresholds import bottleneck, smallest_batch, smallest_model
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.estimate import Estimate, estimate, interval
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import Gathered, StepInputs
from commprof.analysis.step.predict import overhead_of, too_disturbed
from commprof.analysis.wire.benched import fit_costs
from commprof.commbench.records.rundir import now_utc


def advise(runs: Sequence[Run], world_sizes: Sequence[int] = (), budget: Budget | None = None) -> Advice:
    """Advise on each world size, by default on every one that was benched; `budget` None asks nothing about money.

    Raises UnusableData without a single-rank profile of real batches or a bench, BadInput for runs that cannot be combined.
    """
    sizes = sorted(set(world_sizes)) or sorted(fit_costs(runs))
    gathered = gather(runs, sizes, beyond=[2 * n for n in sizes])
    pairs = [(inputs, estimate(inputs)) for inputs in gathered.at]
    return Advice(
        created_at=now_utc(),
        profile_run_id=gathered.profile_run_id,
        run_ids=gathered.run_ids,
        scaling=gathered.workload.scaling,
        single_step_s=gathered.single.step_s,
        ranks=tuple(_rank_advice(gathered, *pair) for pair in pairs),
        costs=None if budget is None else costs_of(pairs, gathered.single.step_s, budget),
    )


def _rank_advice(gathered: Gathered, inputs: StepInputs, now: Estimate) -> RankAdvice:
    single, twice = gathered.single, 2 * inputs.world_size
    larger = next((other for other in (*gathered.at, *gathered.beyond) if other.world_size == twice), None)
    reason = gathered.out_of_reach.get(twice)
    missing = None if reason is None else f"{twice} ranks cannot be predicted: {reason}"
    return RankAdvice(
        world_size=inputs.world_size,
        step_s=float(now.step_s[0]),
        interval_s=interval(now.step_s),
        exposed_s=float(now.exposed_s[0]),
        speedup=work_s(single.step_s, inputs.world_size, inputs.workload.scaling) / float(now.step_s[0]),
        extrapolated=inputs.extrapolated,
        changes=tuple(changes(inputs, single)),
        what_ifs=tuple(what_ifs(inputs, larger, single)),
        notes=tuple(note for note in (missing, published_note(inputs)) if note is not None),
        smallest_batch=smallest_batch(inputs, single),
        smallest_model=smallest_model(inputs, single),
        bottleneck=bottleneck(inputs),
        too_disturbed=too_disturbed(inputs, now),
        shares_cores=inputs.shares_cores,
        overhead=overhead_of(inputs, now, single, inputs.workload.scaling),
    )
