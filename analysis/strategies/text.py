"""How is a choice of strategies shown? A row each, the fastest of those that fit, what is assumed and what cannot be told."""

from collections.abc import Iterator, Sequence

from commprof.analysis.strategies.results import STRATEGY_NAMES, Choice, StrategyAnswer
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Words
from commprof.commbench.units import format_bytes, format_seconds

_COLUMNS = (
    Column(name="ranks", width=5, before="", key=True),
    Column(name="strategy", width=8, left=True, key=True),
    Column(name="shards", width=6),
    Column(name="step", width=8),
    Column(name="90 % interval", width=20),
    Column(name="exposed", width=8),
    Column(name="a rank's memory", width=15),
    Column(name="", width=9, left=True),
)


def choice_sheet(choices: Sequence[Choice]) -> list[Block]:
    """Lay out every strategy at each world size, then the reasons."""
    blocks: list[Block] = [Words(verdict(choice), "", "  ", "strong") for choice in choices]
    rows = [_row(choice, answer) for choice in choices for answer in choice.answers if not answer.cannot]
    if rows:
        blocks += [GAP, Table(columns=_COLUMNS, rows=rows)]
    blocks += [GAP, *(block for choice in choices for block in _reasons(choice))]
    named = dict.fromkeys(answer.strategy for choice in choices for answer in choice.answers if not answer.cannot)
    return [*blocks, GAP, *(Words(STRATEGY_NAMES[own], f"{own}: ", "  ") for own in named)]


def verdict(choice: Choice) -> str:
    """Name the fastest strategy that fits, and those within noise of it."""
    n = choice.world_size
    if choice.fastest is None:
        fitting = [answer for answer in choice.answers if not answer.cannot]
        why = "none of them fits" if fitting else "none of them can be told"
        return f"{n} ranks: no strategy is chosen, because {why}"
    if choice.within_noise:
        return f"{n} ranks: {choice.fastest} is the fastest, within noise of {', '.join(choice.within_noise)}"
    others = [own for own in choice.answers if own.strategy != choice.fastest and not own.cannot and own.fits is not False]
    return f"{n} ranks: {choice.fastest} is the fastest" + ("" if others else ", the only one that can be told and may fit")


def _row(choice: Choice, answer: StrategyAnswer) -> Row:
    assert answer.step_s is not None and answer.interval_s is not None and answer.exposed_s is not None
    chosen = answer.strategy == choice.fastest
    memory = "cannot be told" if answer.memory is None else format_bytes(answer.memory.total)
    told = "does not fit" if answer.fits is False else "fastest" if chosen else ""
    return Row(
        (
            str(choice.world_size),
            Cell(answer.strategy, "good" if chosen else "plain"),
            str(answer.num_shards) if answer.num_replicas == 1 else f"{answer.num_replicas} x {answer.num_shards}",
            format_seconds(answer.step_s),
            f"{format_seconds(answer.interval_s.low)} - {format_seconds(answer.interval_s.high)}",
            format_seconds(answer.exposed_s),
            memory,
            Cell(told, "bad" if answer.fits is False else "good"),
        )
    )


def _reasons(choice: Choice) -> Iterator[Block]:
    """Say why strategies cannot be told, then what is assumed, of several together where they assume the same."""
    assumed: dict[str, list[str]] = {}
    for answer in choice.answers:
        if answer.cannot:
            place = f"{answer.strategy} on {choice.world_size} ranks"
            yield Words(f"{place} cannot be told, because {answer.cannot}", "", "  ", "note")
            continue
        for note in (*answer.assumptions, _memory(answer)):
            assumed.setdefault(note, []).append(answer.strategy)
    for note, strategies in assumed.items():
        yield Words(f"{choice.world_size} ranks, {', '.join(strategies)}: {note}", "  - ", "    ")


def _memory(answer: StrategyAnswer) -> str:
    if answer.memory is None:
        return f"its memory cannot be told, because {answer.memory_cannot}"
    parts = (
        ("parameters", answer.memory.parameters),
        ("gradients", answer.memory.gradients),
        ("optimizer", answer.memory.optimizer),
        ("whole units", answer.memory.unsharded),
        ("buckets", answer.memory.buckets),
        ("activations", answer.memory.activations),
    )
    left_out = "" if answer.memory.activations is not None else "; activations were not measured and are in none of it"
    return "memory is " + ", ".join(f"{name} {format_bytes(size)}" for name, size in parts if size) + left_out
