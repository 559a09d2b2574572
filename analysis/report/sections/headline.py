"""The one number at the top of a report, with the interval in which it lies: the same kind as in the six lines under it.

Beside it the one table of a short report: what is known by number of ranks.
"""

from collections.abc import Sequence

from commprof.analysis.report.numbers.data import Material, anatomies, called_interval, checked_too_early, raw_files
from commprof.analysis.report.numbers.decided import decision_of, spoken_of
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import Outcome
from commprof.analysis.report.numbers.wire_curves import busbw_at, wire_curves
from commprof.analysis.report.page.html import Headline, Table, between
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.decision import RankAnswer
from commprof.analysis.step.decided import speedup_interval
from commprof.analysis.step.results import Prediction, PredictionSet
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_NOT_KNOWN = "-"


def headline(material: Material) -> Headline | None:
    """Answer with the number of ranks to use; without a prediction, with what was measured."""
    if material.predicted is None:
        return _measured(material)
    best = _best(material, material.predicted)
    check = next((o for o in material.schedule_outcomes if o.prediction == best), None)
    if check is None:
        return Headline(
            number=f"{best.speedup:.2f}x",
            interval=_span(best),
            meaning=f"the samples per second of one rank, predicted on {ranks(best.world_size)}",
            detail="No run has checked it yet.",
        )
    return _checked(material, material.predicted, check)


def ranks_table(material: Material) -> Table | None:
    """Return speedup and step as measured and as predicted, by number of ranks; None where nothing is known of several."""
    answers = decision_of(material).answers
    if not answers:
        return None
    return Table(
        title="By number of ranks",
        head=("Ranks", "Use them?", "Speedup", "Predicted (90 %)", "Step", "Predicted step"),
        rows=(_one_rank_row(material), *(_ranks_row(material, answer) for answer in answers)),
        words=frozenset({1}),
        note="Speedup in samples per second over one rank.",
    )


def _one_rank_row(material: Material) -> tuple[str, ...]:
    step = format_seconds(material.alone[-1].median_step_s()) if material.alone else _NOT_KNOWN
    return ("1", _NOT_KNOWN, "1x", _NOT_KNOWN, step, _NOT_KNOWN)


def _ranks_row(material: Material, answer: RankAnswer) -> tuple[str, ...]:
    own = answer.candidate
    run = [run for run in material.compared if run.world_size == own.world_size][-1:]
    foretold_s = _foretold_s(material, own.world_size, run)
    predicted = _NOT_KNOWN if own.predicted is None else f"{own.predicted:.2f}x"
    span = "" if own.interval is None else f" ({own.interval.low:.2f} to {own.interval.high:.2f})"
    return (
        str(own.world_size),
        answer.word,
        f"{own.speedup:.2f}x" if own.measured and own.speedup is not None else _NOT_KNOWN,
        f"{predicted}{span}",
        format_seconds(run[0].median_step_s()) if run else _NOT_KNOWN,
        _NOT_KNOWN if foretold_s is None else format_seconds(foretold_s),
    )


def _foretold_s(material: Material, world_size: int, run: Sequence[Run]) -> float | None:
    """Return the step that was predicted of DDP, or of the strategy that the run followed."""
    if material.predicted is not None:
        known = (p for p in material.predicted.predictions if (p.model, p.world_size) == ("schedule", world_size))
        return next((p.step_s for p in known), None)
    answer = material.sharded.of(run[0]) if run and material.sharded is not None else None
    return None if answer is None else answer.step_s


def verdict_sources(material: Material) -> tuple[str, ...]:
    """Name the files that number and sentences rest on."""
    if material.predicted is None:
        return raw_files(material.runs)
    return (*raw_files([*material.known, *material.checking]), material.predictions_file)


def _best(material: Material, predicted: PredictionSet) -> Prediction:
    """Return the prediction for the number of ranks to use, else for the largest that has cores enough."""
    n = spoken_of(material, predicted)
    return next(p for p in predicted.predictions if (p.model, p.world_size) == ("schedule", n))


def _checked(material: Material, predicted: PredictionSet, check: Outcome) -> Headline:
    best = check.prediction
    late = {run.info.run_id for run in checked_too_early(material)}
    when = "Computed afterwards" if check.run_id in late else "Predicted before the run"
    return Headline(
        number=f"{check.measured_speedup:.2f}x",
        interval="",
        meaning=f"the samples per second of one rank, measured on {ranks(best.world_size)}",
        detail=f"{when}: {best.speedup:.2f}x{f', {span}' if (span := _span(best)) else '.'}",
    )


def _span(prediction: Prediction) -> str:
    """Write the interval of the speedup, whose kind the six lines name."""
    span = speedup_interval(prediction)
    return "" if span is None else f"{span.low:.2f}x to {span.high:.2f}x."


def _measured(material: Material) -> Headline | None:
    found = anatomies(material.runs)
    if not found:
        return _wire(material)
    run, spread = found[-1].run, found[-1].run.step_interval_s()
    silent = run.world_size > 1 and not run.synchronised and run.info.imported_from is None
    return Headline(
        number=format_seconds(run.median_step_s()),
        interval=f"{called_interval(_fewest(run))}: {between(spread.low, spread.high, format_seconds)}.",
        meaning=f"per step on {ranks(run.world_size)}{' that sent nothing' if silent else ''}, measured",
        detail=f"Median of {found[-1].num_steps} steps.",
    )


def _wire(material: Material) -> Headline | None:
    curves = wire_curves(material)
    if not curves:
        return None
    curve = curves[-1]
    _, size = max(zip(curve.bus_bandwidth(curve.median_s), curve.message_bytes, strict=True))
    rate, spread, num = busbw_at(material.runs, curve.world_size, size)
    told = f"{called_interval(num)}: {between(spread.low, spread.high, format_rate)}." if num > 1 else "One sample only."
    return Headline(
        number=format_rate(rate),
        interval=told,
        meaning=f"bus bandwidth on {ranks(curve.world_size)}, measured",
        detail=f"Best median of the sweep, at {format_bytes(size)}.",
    )


def _fewest(run: Run) -> int:
    """Return how many steps that count the rank with the fewest has."""
    return min(count for steps in run.steps.values() if (count := sum(step.counts for step in steps)))
