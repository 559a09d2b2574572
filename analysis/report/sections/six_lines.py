"""The six lines at the top of a report on runs that belong together."""

from commprof.analysis.report.numbers.cost_line import cost_line
from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.decided import decision_of, spoken_of
from commprof.analysis.report.numbers.next_command import next_command
from commprof.analysis.report.numbers.six_lines import SixLines
from commprof.analysis.report.sections.strategy_lines import (
    change_line,
    checked_strategies,
    exposed_line,
    strategies_told,
    strategy_verdict,
    why_unpredicted,
)
from commprof.analysis.scaling.decision import Candidate, Decision

_FIRST = "Try first: "


def six_lines(material: Material, num_warnings: int) -> SixLines:
    """Return what these runs say, or of each line why it cannot be told; `num_warnings` are told elsewhere."""
    decision = decision_of(material)
    why, change = _why_and_change(material, decision)
    return SixLines(
        verdict=_verdict(material, decision),
        why=why,
        how_sure=" ".join(_how_sure(material, decision, num_warnings)),
        cost=cost_line(material, decision),
        change=change,
        next_command=next_command(material, decision),
    )


def _verdict(material: Material, decision: Decision) -> str:
    if decision.answers:
        return str(decision)
    if told := strategies_told(material):
        return strategy_verdict(material, told)
    return f"How many ranks to use cannot be told: {why_unpredicted(material).rstrip('.')}."


def _why_and_change(material: Material, decision: Decision) -> tuple[str, str]:
    if material.disturbed is not None:
        return "cannot be told from disturbed runs.", "End what else runs there, and measure again."
    if told := strategies_told(material):
        best = None if decision.best is None else decision.best.candidate.world_size
        choice = next((own for own in told if own.world_size == best), told[-1])
        return exposed_line(choice), change_line(choice)
    if material.predicted is None:
        return "cannot be told without a prediction.", "nothing can be advised without a prediction."
    cause, cure = material.cause_and_cure(material.predicted, spoken_of(material, material.predicted))
    first = cure.removeprefix(_FIRST)
    return cause, first[:1].upper() + first[1:]


def _how_sure(material: Material, decision: Decision, num_warnings: int) -> list[str]:
    """Say what the intervals are, which numbers of ranks were checked and how that came out, and what weakens all of it."""
    told = [] if material.disturbed is None else [material.disturbed]
    own = [answer.candidate for answer in decision.answers]
    if not own and (strategies := strategies_told(material)):
        told += checked_strategies(material, strategies)
    if any(one.interval is not None for one in own):
        told.append("Ranges are the 90 % intervals of the prediction.")
    apart = {} if material.predicted is None or material.disturbed is not None else material.reasons_apart(material.predicted)
    told += [_checked(one, apart.get(one.world_size, "")) for one in own if one.measured]
    if alone := [str(one.world_size) for one in own if not one.measured and one.speedup is not None]:
        told.append(f"No run has checked {' and '.join(alone)} yet.")
    if num_warnings:
        told.append(f"Read with care: {num_warnings} {'warning' if num_warnings == 1 else 'warnings'} in the report.")
    return told or ["nothing was predicted, so nothing was checked."]


def _checked(own: Candidate, apart: str) -> str:
    """Say whether what was measured lies in the prediction's interval, then in which part it parted from it (`apart`)."""
    if own.predicted is None or own.speedup is None:
        return f"{own.world_size} was measured, and not predicted."
    if own.interval is None:
        return f"{own.world_size} was measured, and predicted without an interval: too disturbed to give one."
    if own.interval.low <= own.speedup <= own.interval.high:
        return f"{own.world_size} was measured, inside its interval.{apart}"
    side = "below" if own.speedup < own.interval.low else "above"
    return f"{own.world_size} was measured {side} its interval.{apart}"
