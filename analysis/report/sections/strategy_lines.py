"""What the six lines say where strategies are all that is predicted, and why there is no prediction where nothing is."""

from collections.abc import Iterator, Sequence

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.runs.load import select
from commprof.analysis.strategies.engine.inputs import engine_runs
from commprof.analysis.strategies.measured import measured_runs, shape_of
from commprof.analysis.strategies.results import Choice, StrategyAnswer
from commprof.analysis.strategies.text import verdict
from commprof.commbench.records.training_kind import KIND_NAMES
from commprof.commbench.units import format_seconds

_MISSING = "there is no prediction: it takes a finished training run on one rank and a bench of the wire"


def strategies_told(material: Material) -> list[Choice]:
    """Return what is predicted of strategies where they are all that is predicted."""
    if material.predicted is not None or material.sharded is None:
        return []
    return [choice for choice in material.sharded.choices if choice.fastest is not None]


def strategy_verdict(material: Material, told: Sequence[Choice]) -> str:
    """Name the fastest at each number of ranks, and say what the number of ranks to use would take."""
    strategies = "; ".join(verdict(choice, disturbed=material.disturbed is not None) for choice in told)
    if any(run.world_size > 1 for run in select(material.runs, kind="train", synchronised=True)):
        return f"{strategies}. How many ranks to use cannot be told without a run on one rank."
    return f"{strategies}. No run on several ranks has shown yet how many of them to use."


def exposed_line(choice: Choice) -> str:
    """Say how much of a step of each strategy is communication that nothing hides."""
    told = [own for own in choice.answers if own.step_s is not None and own.exposed_s is not None]
    shares = ", ".join(
        f"{own.strategy} {format_seconds(own.exposed_s or 0)} of {format_seconds(own.step_s or 0)}" for own in told
    )
    return f"on {choice.world_size} ranks communication that nothing hides is predicted to take, by strategy: {shares}."


def change_line(choice: Choice) -> str:
    """Say which strategy to change to."""
    told = [own for own in choice.answers if not own.cannot]
    if len(told) == 1:
        return f"of no other strategy than {told[0].strategy} anything is told here, so there is none to change to."
    return f"{verdict(choice)}; what each takes of memory stands in the report."


def checked_strategies(material: Material, told: Sequence[Choice]) -> Iterator[str]:
    """Say where the intervals are, and of each strategy that was run whether it lies in its own."""
    yield "Each step's 90 % interval stands in the report."
    measured = measured_runs(material.runs)
    pairs = [(own, run) for choice in told for own in choice.answers if (run := measured.get(shape_of(own))) and not own.cannot]
    for own, run in pairs:
        yield f"{own.strategy} on {ranks(own.world_size)} was measured, {_inside(own, run.median_step_s())}."
    if not pairs:
        yield "No run has checked a strategy yet."


def _inside(answer: StrategyAnswer, measured_s: float) -> str:
    span = answer.interval_s
    if span is None:
        return "and predicted without an interval: too disturbed to give one"
    if span.low <= measured_s <= span.high:
        return "inside its interval"
    return "its step shorter than its interval" if measured_s < span.low else "its step longer than its interval"


def why_unpredicted(material: Material) -> str:
    """Say why nothing at all is predicted."""
    if material.unpredicted is not None:
        return material.unpredicted
    if material.sharded_cannot:
        return material.sharded_cannot
    silent = [own for choice in (material.sharded.choices if material.sharded else ()) for own in choice.answers if own.cannot]
    if silent:
        own = next((own for own in silent if own.strategy != "ddp"), silent[0])
        return f"{own.strategy} on {ranks(own.world_size)} cannot be told, because {own.cannot}"
    for run in engine_runs(material.runs):
        if (work := run.info.workload) is not None and work.kind is not None:
            return f"{run.path.name} is {KIND_NAMES[work.kind]}, whose step on other ranks commprof predict --strategy tells"
    return _MISSING
