"""All the advice that some runs allow: for each world size what to change, what other hardware would bring and from where on it
pays; for all of them together what an epoch costs."""

from collections.abc import Sequence

from analysis.advice_results import Advice, Budget, RankAdvice
from analysis.advise import changes
from analysis.costs import costs_of
from analysis.estimate import Estimate, estimate, interval
from analysis.load import Run
from analysis.other_hardware import published_note, what_ifs
from analysis.scaling import work_s
from analysis.situation import Situation, fit_costs, profile_run, situations
from analysis.thresholds import SingleRank, bottleneck, single_rank, smallest_batch, smallest_model
from commbench.errors import UnusableData
from commbench.rundir import now_utc


def advise(runs: Sequence[Run], world_sizes: Sequence[int] = (), budget: Budget | None = None) -> Advice:
    """Advise on each world size, by default on every one that was benched; `budget` None asks nothing about money.

    Raises UnusableData without a single-rank profile of real batches or a bench, BadInput for runs that cannot be combined.
    """
    known = situations(runs, sorted(set(world_sizes)) or sorted(fit_costs(runs)))
    profile = profile_run(runs)
    _check_batch(profile)
    single = single_rank(profile)
    pairs = [(situation, estimate(situation)) for situation in known]
    return Advice(
        created_at=now_utc(),
        profile_run_id=profile.info.run_id,
        run_ids=tuple(run.info.run_id for run in runs if not (run.synchronised and run.world_size > 1)),
        scaling=known[0].workload.scaling,
        single_step_s=single.step_s,
        ranks=tuple(_rank_advice(runs, pair, single) for pair in pairs),
        costs=None if budget is None else costs_of(pairs, single.step_s, budget),
    )


def _check_batch(profile: Run) -> None:
    work = profile.info.workload
    assert work is not None, "a profile has a workload"
    if work.samples_per_rank < 1 or work.accumulation < 1:
        raise UnusableData(
            f"{profile.path}/run.json says that a step has {work.samples_per_rank} samples in {work.accumulation} "
            "micro-batches; both must be 1 or more; profile again"
        )


def _rank_advice(runs: Sequence[Run], pair: tuple[Situation, Estimate], single: SingleRank) -> RankAdvice:
    situation, now = pair
    larger, missing = _twice_the_ranks(runs, situation)
    return RankAdvice(
        world_size=situation.world_size,
        step_s=float(now.step_s[0]),
        interval_s=interval(now.step_s),
        exposed_s=float(now.exposed_s[0]),
        speedup=work_s(single.step_s, situation.world_size, situation.workload.scaling) / float(now.step_s[0]),
        extrapolated=situation.extrapolated,
        changes=tuple(changes(situation, single.step_s)),
        what_ifs=tuple(what_ifs(situation, larger, single.step_s)),
        notes=tuple(note for note in (missing, published_note(situation.world_size)) if note is not None),
        smallest_batch=smallest_batch(situation, single),
        smallest_model=smallest_model(situation, single),
        bottleneck=bottleneck(situation),
    )


def _twice_the_ranks(runs: Sequence[Run], situation: Situation) -> tuple[Situation | None, str | None]:
    """Return what is known of twice as many ranks, or why they cannot be predicted."""
    try:
        return situations(runs, [2 * situation.world_size])[0], None
    except UnusableData as error:
        return None, f"{2 * situation.world_size} ranks cannot be predicted: {error}"
