"""What a report says of sharding: each strategy's step and memory, and when the units' collectives are under way."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from commprof.analysis.report.figures.units import unit_figure
from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.page.html import Picture, Section, Table
from commprof.analysis.runs.load import Run
from commprof.analysis.strategies.inputs import sharded_runs
from commprof.analysis.strategies.measured import Shape, measured_runs, shape_of
from commprof.analysis.strategies.results import STRATEGY_NAMES, Choice, StrategyAnswer
from commprof.analysis.strategies.text import memory_text, verdict
from commprof.commbench.records.sharding import UNITS_FILE
from commprof.commbench.units import format_seconds

_HEAD = (
    "Ranks",
    "Strategy",
    "Copies x shards",
    "Step",
    "90 % interval",
    "Exposed",
    "A rank's memory",
    "Measured step",
    "Error",
)


def strategy_section(material: Material) -> Section | None:
    """Return the choice at every benched world size; None where no run was sharded."""
    if not sharded_runs(material.runs):
        return None
    if material.sharded is None:
        because = f"Nothing is predicted, because {material.sharded_cannot}."
        return Section(name="strategies", title="Sharding strategies", sentences=(because,))
    choices = material.sharded.choices
    told = [(choice, answer) for choice in choices for answer in choice.answers if not answer.cannot]
    measured_s = _measured_s(material.runs)
    silent = [
        f"{a.strategy} on {ranks(a.world_size)} cannot be told, because {a.cannot}."
        for c in choices
        for a in c.answers
        if a.cannot
    ]
    return Section(
        name="strategies",
        title="Sharding strategies",
        folded=material.predicted is not None,  # their table stands under "What if" then
        sentences=(
            *(f"{verdict(choice, disturbed=material.disturbed is not None)}." for choice in choices),
            *_beside(told, measured_s),
            "A unit is a module that was sharded by itself: its parameters are gathered before it computes, its gradients are "
            "reduced behind its backward.",
        ),
        pictures=_pictures(told, tuple(f"{run.path.name}/{UNITS_FILE}" for run in sharded_runs(material.runs))),
        tables=(_table(told, measured_s),) if told else (),
        remarks=tuple(silent),
    )


def _pictures(told: list[tuple[Choice, StrategyAnswer]], sources: tuple[str, ...]) -> tuple[Picture, ...]:
    """Draw the fastest sharded answer on the most ranks."""
    drawn = [answer for _, answer in told if answer.exchanges]
    if not drawn:
        return ()
    most = max(answer.world_size for answer in drawn)
    answer = min((own for own in drawn if own.world_size == most), key=lambda own: own.step_s or 0.0)
    assert answer.step_s is not None and answer.exposed_s is not None
    name = f"{answer.strategy.upper()} on {ranks(most)}"
    return (
        Picture(
            name="units",
            title=f"Units of a step: {name}, predicted",
            draw=partial(unit_figure, answer.exchanges, answer.step_s),
            alt=f"When each unit of {name} gathers and reduces; the step takes {format_seconds(answer.step_s)}, "
            f"{format_seconds(answer.exposed_s)} of it exposed communication.",
            caption=f"Medians, as predicted; {STRATEGY_NAMES[answer.strategy]}. {_sentence(answer.assumptions)}",
            sources=sources,
        ),
    )


def _sentence(assumptions: tuple[str, ...]) -> str:
    words = "; ".join(assumptions)
    return f"{words[:1].upper()}{words[1:]}."


def _measured_s(runs: Sequence[Run]) -> dict[Shape, float]:
    return {shape: run.median_step_s() for shape, run in measured_runs(runs).items()}


def _beside(told: list[tuple[Choice, StrategyAnswer]], measured_s: Mapping[Shape, float]) -> Iterator[str]:
    """Say of each strategy that was run what its step was and what was predicted."""
    for _, answer in told:
        own_s = measured_s.get(shape_of(answer))
        if own_s is not None and answer.step_s is not None:
            took, off = format_seconds(own_s), answer.step_s / own_s - 1
            where = f"{answer.strategy} on {ranks(answer.world_size)}"
            yield f"{where}: {format_seconds(answer.step_s)} predicted, {took} measured ({off:+.1%}){_inside(answer, own_s)}."


def _inside(answer: StrategyAnswer, measured_s: float) -> str:
    if answer.interval_s is None:
        return ", predicted without an interval"
    inside = answer.interval_s.low <= measured_s <= answer.interval_s.high
    return f", {'inside' if inside else 'outside'} its interval"


def _table(told: list[tuple[Choice, StrategyAnswer]], measured_s: Mapping[Shape, float]) -> Table:
    rows = []
    for _, answer in told:
        assert answer.step_s is not None and answer.exposed_s is not None
        span = "too disturbed"
        if answer.interval_s is not None:
            span = f"{format_seconds(answer.interval_s.low)} to {format_seconds(answer.interval_s.high)}"
        shape = f"{answer.num_replicas} x {answer.num_shards}"
        times = (format_seconds(answer.step_s), span, format_seconds(answer.exposed_s))
        own_s = measured_s.get(shape_of(answer))
        check = ("-", "-") if own_s is None else (format_seconds(own_s), f"{answer.step_s / own_s - 1:+.1%}")
        rows.append((str(answer.world_size), answer.strategy, shape, *times, memory_text(answer.memory), *check))
    return Table(
        title="Strategies, predicted",
        head=_HEAD,
        rows=tuple(rows),
        words=frozenset({1, 2}),
        note="As commprof predict --strategy tells it; memory is of tensors, > where a part was not measured. "
        "Error: (predicted - measured) / measured.",
    )
