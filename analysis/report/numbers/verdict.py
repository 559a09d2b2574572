"""What a study says in plain sentences: predicted and measured speedup, what holds it back, what to try first."""

from collections.abc import Sequence
from dataclasses import dataclass

from commprof.analysis.runs.load import Run, select
from commprof.analysis.scaling.speedup import karp_flatt, work_s
from commprof.analysis.step.assumptions import failed, failed_communication
from commprof.analysis.step.evidence.profiles import checking_runs
from commprof.analysis.step.reasons import clause, largest_part
from commprof.analysis.step.results import AssumptionCheck, Change, Overhead, Prediction, PredictionSet
from commprof.commbench.units import format_estimate, format_seconds

_GOOD_EFFICIENCY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One prediction beside the run that checked it. Speedups are in samples per second over one rank's."""

    prediction: Prediction
    measured_step_s: float
    measured_speedup: float
    run_id: str

    @property
    def relative_error(self) -> float:
        """(predicted - measured) / measured."""
        return self.prediction.step_s / self.measured_step_s - 1


def outcomes(predicted: PredictionSet, runs: Sequence[Run]) -> list[Outcome]:
    """Pair every prediction with the synchronised run of its world size, where there is one."""
    found = []
    for prediction in predicted.predictions:
        for run in checking_runs(runs, prediction.world_size)[-1:]:
            measured_s = run.median_step_s()
            found.append(
                Outcome(
                    prediction=prediction,
                    measured_step_s=measured_s,
                    measured_speedup=work_s(predicted.single_step_s, prediction.world_size, predicted.scaling) / measured_s,
                    run_id=run.info.run_id,
                )
            )
    return found


def answers(
    predicted: PredictionSet, measured: Sequence[Outcome], checks: Sequence[AssumptionCheck], *, disturbed: bool = False
) -> dict[int, str]:
    """Return by world size what was predicted, what was measured, how far apart they are, and why if that is too far.

    Of `disturbed` runs no reason is given: others' processes are one that none of the assumptions names.
    """
    pairs = _checked_schedules(predicted, measured)
    return {p.world_size: _answer(p, check) + ("" if disturbed else _reason(p, check, checks)) for p, check in pairs}


def reasons_apart(predicted: PredictionSet, measured: Sequence[Outcome], checks: Sequence[AssumptionCheck]) -> dict[int, str]:
    """Return by world size which assumption failed, behind a space; nothing where the measurement is as predicted."""
    return {p.world_size: _reason(p, check, checks) for p, check in _checked_schedules(predicted, measured)}


def _checked_schedules(predicted: PredictionSet, measured: Sequence[Outcome]) -> list[tuple[Prediction, Outcome | None]]:
    return [(p, _check_at(p.world_size, measured)) for p in predicted.predictions if p.model == "schedule"]


def cause_and_cure(
    predicted: PredictionSet, measured: Sequence[Outcome], runs: Sequence[Run], world_size: int, *, disturbed: bool = False
) -> tuple[str, str]:
    """Return what holds this number of ranks back, and what to try first there."""
    if disturbed:
        return (
            "What holds ranks back cannot be told from disturbed runs.",
            "Try first: end what else runs there, and measure again.",
        )
    overhead = next((own for own in predicted.overheads if own.world_size == world_size), None)
    hindrance = (
        f"What holds {world_size} ranks back cannot be told: what was predicted of them is not kept by parts."
        if overhead is None
        else _hindrance(overhead, _check_at(world_size, measured), predicted, runs)
    )
    if _oversubscribed(runs, world_size):
        return hindrance, f"Try first: no more ranks than cores; here {world_size} ranks share them."
    return hindrance, _first_try(world_size, [own for own in predicted.changes if own.world_size == world_size], predicted)


def laws(outcome: Outcome) -> str:
    """Say what Karp and Flatt's fraction makes of a measured speedup."""
    n, speedup = outcome.prediction.world_size, outcome.measured_speedup
    fraction = karp_flatt(speedup, n)
    if fraction > 1:
        return f"{n} ranks: e = {fraction:.2f} is above 1, so no Amdahl fraction can describe this slowdown."
    if fraction < 0:
        return f"{n} ranks: e = {fraction:.3f} is below 0, faster than {n} times one rank; look at the single-rank run."
    return f"{n} ranks: e = {fraction:.3f} is the serial fraction Amdahl's law would need for {speedup:.2f}x."


def _answer(prediction: Prediction, check: Outcome | None) -> str:
    n = prediction.world_size
    span = ""
    if prediction.interval_s is not None:
        work = prediction.speedup * prediction.step_s
        span = f" ({work / prediction.interval_s.high:.2f} to {work / prediction.interval_s.low:.2f})"
    text = f"{n} ranks: predicted {prediction.speedup:.2f}x{span} the throughput of one"
    if prediction.too_disturbed is not None:
        text += f" ({prediction.too_disturbed})"
    if check is None:
        return f"{text}; no run at this size has checked it yet."
    side = "long" if check.relative_error > 0 else "short"
    error = f"the step was predicted {abs(check.relative_error):.1%} too {side}"
    return f"{text}, measured {check.measured_speedup:.2f}x; {error}."


def _reason(prediction: Prediction, check: Outcome | None, checks: Sequence[AssumptionCheck]) -> str:
    """Name the assumption that failed where the step lies outside the prediction's interval; failed communication always."""
    span, own = prediction.interval_s, [one for one in checks if one.world_size == prediction.world_size]
    if check is None or span is None:
        return ""
    if span.low <= check.measured_step_s <= span.high:
        return _failed_communication(own)
    culprit = failed(own)
    if culprit is None:
        return f" No single assumption explains it.{_failed_communication(own)}"
    pace = "longer" if culprit.explains_s > 0 else "shorter"
    return (
        f" What failed is the assumption that {culprit.assumption}: that part took {format_seconds(abs(culprit.explains_s))} "
        f"{pace} than predicted.{'' if culprit.name == 'communication' else _failed_communication(own)}"
    )


def _failed_communication(checks: Sequence[AssumptionCheck]) -> str:
    """Say that communication was not as predicted, which the whole step may hide."""
    check = failed_communication(checks)
    if check is None or check.measured_s is None or check.expected_s is None:
        return ""
    times = f"{format_seconds(check.expected_s)} predicted, {format_seconds(check.measured_s)} measured"
    return f" Its communication was not as predicted: {times} from the last gradient to the last bucket."


def reason_clause(world_size: int, predicted: PredictionSet, measured: Sequence[Outcome], runs: Sequence[Run]) -> str:
    """Say in a clause what takes the largest part of what N ranks lose: `communication that nothing hides takes ...`."""
    overhead = next((own for own in predicted.overheads if own.world_size == world_size), None)
    if overhead is None:
        return ""
    check = _check_at(world_size, measured)
    if check is not None and _shorter_than_predicted(check):
        return f"of reasons that cannot be told: its step is shorter than the prediction's {format_seconds(overhead.step_s)}"
    return clause(overhead, shared=_oversubscribed(runs, world_size), beyond_s=_beyond_s(check))


def _check_at(world_size: int, measured: Sequence[Outcome]) -> Outcome | None:
    own = (o for o in measured if o.prediction.model == "schedule" and o.prediction.world_size == world_size)
    return next(own, None)


def _shorter_than_predicted(check: Outcome) -> bool:
    span = check.prediction.interval_s
    return span is not None and check.measured_step_s < span.low


def _beyond_s(check: Outcome | None) -> float | None:
    return None if check is None else max(0.0, check.measured_step_s - check.prediction.step_s)


def _hindrance(overhead: Overhead, check: Outcome | None, predicted: PredictionSet, runs: Sequence[Run]) -> str:
    n = overhead.world_size
    if check is not None and _shorter_than_predicted(check):
        return (
            f"What holds {n} ranks back cannot be told: a step took {format_seconds(check.measured_step_s)}, and what the "
            f"prediction adds to one rank's step makes it {format_seconds(check.prediction.step_s)}."
        )
    (name, seconds), total = largest_part(overhead, _beyond_s(check))
    own = min(1.0, overhead.single_step_s / total)
    if own >= _GOOD_EFFICIENCY:
        return f"Little holds {n} ranks back: {own:.0%} of each step is one rank's own computation."
    share = f"{format_seconds(seconds)} of each {format_seconds(total)} step ({seconds / total:.0%})"
    if name == "unexplained":
        return (
            f"What holds {n} ranks back most is not in the prediction, {share}: the machine changed its pace between the runs, "
            "or computation and communication disturb each other more than either run alone shows."
        )
    if name == "compute":
        cause = "cores shared by more threads than there are" if _oversubscribed(runs, n) else "memory and caches they share"
        return f"What holds {n} ranks back is computation that slows down side by side, {share}: {cause}."
    if name == "copies":
        return f"What holds {n} ranks back is copying gradients into and out of buckets, {share}."
    if name == "waiting":
        return f"What holds {n} ranks back is waiting for the slowest of them, {share}: their step times differ."
    schedule = next(s for s in predicted.schedules if s.world_size == n)
    last = schedule.buckets[-1]
    return (
        f"What holds {n} ranks back is communication that nothing hides, {share}: the last bucket "
        f"({last.num_bytes / 2**20:.1f} MiB) waits for {last.last_parameter}, whose gradient comes last."
    )


def _first_try(world_size: int, options: Sequence[Change], predicted: PredictionSet) -> str:
    if not options:
        return (
            f"Try first: nothing simulated here saves more than 1 % of the step on {world_size} ranks; a faster computation is "
            "the way on."
        )
    told = [change for change in options if not change.doubt]
    if not told:
        return _none_told(world_size, options)
    best = min(told, key=lambda change: change.alters_learning)
    step_s = next(p.step_s for p in predicted.predictions if (p.model, p.world_size) == ("schedule", world_size))
    besides = f"; but {best.side_effect}" if best.side_effect else ""
    share = f"{best.seconds_saved / step_s:.0%} of the step"
    gain = (
        f"{best.what} ({best.setting}), predicted to save {saved(best)} per batch, {share}, and to bring "
        f"{best.speedup:.2f}x on {world_size} ranks{besides}."
    )
    if best.alters_learning:
        return (
            f"Nothing that leaves the updates as they are surely saves more than 1 % of the step on {world_size} ranks. What "
            f"would, and may change what is learnt: {gain}"
        )
    more = max(told, key=lambda change: change.seconds_saved)
    return f"Try first: {gain}{_learnt_with(more) if more.alters_learning else ''}"


def _none_told(world_size: int, options: Sequence[Change]) -> str:
    best = max(options, key=lambda change: change.seconds_saved)
    if best.too_disturbed:
        return (
            f"Try first: measure again, longer or on a quieter machine; what a change saves on {world_size} ranks cannot be "
            f"told of so disturbed ones, nor whether it does; simulated to save most: {best.what}."
        )
    return (
        f"Try first: measure again, longer or on a quieter machine; no change's saving can be told from none on {world_size} "
        f"ranks (all within noise), the largest being {best.what}, {saved(best)}."
    )


def _learnt_with(change: Change) -> str:
    return f" More would save, but may change what is learnt: {change.what} ({change.setting}), {saved(change)}."


def saved(change: Change) -> str:
    """Write what a change saves, with its interval where there is one: 12 ms (8 to 15)."""
    span = change.interval_s
    return format_seconds(change.seconds_saved) if span is None else format_estimate(change.seconds_saved, span.low, span.high)


def _oversubscribed(runs: Sequence[Run], world_size: int) -> bool:
    return any(run.info.oversubscribed for run in select(runs, kind="train", world_size=world_size))
