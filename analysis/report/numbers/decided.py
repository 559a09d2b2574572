"""How many ranks do these runs say to use? Measured where a run has checked it, predicted elsewhere.

A measured speedup is a ratio of two runs, whose paces differ: it lies between the ends of the step's interval, each widened by
what the medians of two runs differ by (step/comparable.py).
"""

from collections.abc import Iterator

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.verdict import Outcome, reason_clause
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, select
from commprof.analysis.scaling.decision import Candidate, Decision, decide
from commprof.analysis.scaling.speedup import work_s
from commprof.analysis.step.comparable import pace_margin
from commprof.analysis.step.decided import DISTURBED, no_gain, predicted_candidate, speedup_interval
from commprof.analysis.step.results import PredictionSet


def decision_of(material: Material) -> Decision:
    """Decide on every number of ranks that was predicted or measured; without one rank's step there is none."""
    predicted = material.predicted
    known = list(_unpredicted(material) if predicted is None else _predicted(material, predicted))
    refused = [
        Candidate(world_size=n, speedup=None, within=None, unknown=reason) for n, reason in material.contradicted.items()
    ]
    return decide([*known, *refused])


def spoken_of(material: Material, predicted: PredictionSet) -> int:
    """Return the number of ranks to use, else the largest predicted that has cores enough."""
    best = decision_of(material).best
    sizes = [p.world_size for p in predicted.predictions if p.model == "schedule"]
    if best is not None:
        return best.candidate.world_size
    return max([n for n in sizes if n not in material.shared] or sizes)


def _predicted(material: Material, predicted: PredictionSet) -> Iterator[Candidate]:
    checks = {outcome.prediction.world_size: outcome for outcome in material.schedule_outcomes}
    unknown = "" if material.disturbed is None else DISTURBED
    for prediction in predicted.predictions:
        n = prediction.world_size
        if prediction.model != "schedule" or n in material.contradicted:
            continue
        because = "" if unknown else reason_clause(n, predicted, material.schedule_outcomes, material.runs)
        if n in checks:
            yield _checked(material, predicted, checks[n], because, unknown)
        else:
            held = no_gain(material.runs, n, predicted=prediction.shares_cores)
            yield predicted_candidate(prediction, because=because, unknown=unknown, no_gain=held)


def _checked(material: Material, predicted: PredictionSet, check: Outcome, because: str, unknown: str) -> Candidate:
    prediction = check.prediction
    run = next(run for run in material.checking if run.info.run_id == check.run_id)
    return Candidate(
        world_size=prediction.world_size,
        speedup=check.measured_speedup,
        within=_within(work_s(predicted.single_step_s, prediction.world_size, predicted.scaling), run, material),
        measured=True,
        predicted=prediction.speedup,
        interval=speedup_interval(prediction),
        because=because,
        unknown=unknown,
        no_gain=no_gain(material.runs, prediction.world_size),
    )


def _unpredicted(material: Material) -> Iterator[Candidate]:
    """Yield what was measured beside one rank, where nothing predicts it."""
    alone = material.alone[-1:]
    for n in sorted({run.world_size for run in select(material.runs, kind="train", synchronised=True)} - {1}):
        run = select(material.runs, kind="train", world_size=n, synchronised=True)[-1]
        if n in material.contradicted or not alone or run.info.workload is None:
            continue
        work = work_s(alone[0].median_step_s(), n, run.info.workload.scaling)
        predicted, interval = _of_strategy(material, run, work)
        unpredicted = "" if predicted is not None else (material.unpredicted or "").rstrip(".")
        yield Candidate(
            world_size=n,
            speedup=work / run.median_step_s(),
            within=_within(work, run, material),
            measured=True,
            predicted=predicted,
            interval=interval,
            unknown=DISTURBED if material.disturbed is not None else unpredicted,
            no_gain=no_gain(material.runs, n),
        )


def _of_strategy(material: Material, run: Run, work: float) -> tuple[float | None, Interval | None]:
    """Return the speedup that was predicted of a sharded run's strategy, and its interval."""
    answer = None if material.sharded is None else material.sharded.of(run)
    if answer is None or answer.step_s is None:
        return None, None
    span = answer.interval_s
    return work / answer.step_s, None if span is None else Interval(low=work / span.high, high=work / span.low)


def _within(work: float, run: Run, material: Material) -> Interval:
    span, margin = run.step_interval_s(), pace_margin(material.drift)
    return Interval(low=work / (span.high * margin), high=work * margin / span.low if span.low > 0 else float("inf"))
