"""How is a choice of strategies shown? A row each, the fastest of those that fit, what is assumed and what cannot be told."""

from collections.abc import Iterator, Sequence

from commprof.analysis.step.decided import DISTURBED
from commprof.analysis.strategies.results import STRATEGY_NAMES, Choice, Memory, StrategyAnswer
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Words
from commprof.commbench.units import format_bytes, format_seconds

_COLUMNS = (
    Column(name="ranks", width=5, before="", key=True),
    Column(name="strategy", width=8, left=True, key=True),
    Column(name="shards", width=6),
    Column(name="step", width=7),
    Column(name="90 % interval", width=17),
    Column(name="exposed", width=7),
    Column(name="memory", width=9),
    Column(name="", width=7, left=True),
)

_MEMORY = (
    "memory: of a rank's tensors, at a step's peak; > where a part of it was not measured; what CUDA, NCCL and an allocator's "
    "gaps take is in none of it"
)


def choice_sheet(choices: Sequence[Choice], *, disturbed: bool = False, warning: str | None = None) -> list[Block]:
    """Lay out which strategy is the fastest, a `warning`, every strategy at each world size, and the reasons.

    Of `disturbed` runs none is called the fastest.
    """
    blocks: list[Block] = [Words(verdict(choice, disturbed=disturbed), "", "  ", "strong") for choice in choices]
    blocks += [] if warning is None else [GAP, Words(warning, tone="bad")]
    rows = [
        _row(choice, answer, named=_names_fastest(choice) and not disturbed)
        for choice in choices
        for answer in choice.answers
        if not answer.cannot
    ]
    if rows:
        blocks += [
            GAP,
            Table(columns=_COLUMNS, rows=rows),
            Words(_MEMORY),
        ]
    blocks += [GAP, *(block for choice in choices for block in _reasons(choice))]
    named = dict.fromkeys(answer.strategy for choice in choices for answer in choice.answers if not answer.cannot)
    legend = [Words(STRATEGY_NAMES[own], f"{own}: ", "  ") for own in named]
    return [*blocks, GAP, *legend] if legend else blocks


def memory_text(memory: Memory | None) -> str:
    """Say what a rank takes, or what it takes more than, where not all of it was measured."""
    if memory is None:
        return "unknown"
    return format_bytes(memory.total) if memory.is_all else f"> {format_bytes(memory.total)}"


def verdict(choice: Choice, *, disturbed: bool = False) -> str:
    """Name the fastest strategy that fits, and those within noise of it; or say why none can be called that."""
    n = choice.world_size
    told = [answer for answer in choice.answers if not answer.cannot]
    if choice.fastest is None:
        fitting = "none of them fits" if len(told) == len(choice.answers) else "none of those that can be told fits"
        return f"{n} ranks: no strategy is chosen, because {fitting if told else 'none of them can be told'}"
    fastest = next(answer for answer in told if answer.strategy == choice.fastest)
    if not _names_fastest(choice):
        return f"{n} ranks: {_alone(choice, fastest, disturbed=disturbed)}{_fit_unknown(choice, fastest)}"
    if disturbed:
        return f"{n} ranks: which strategy is the fastest cannot be told: {DISTURBED} ({choice.fastest} predicted)"
    first = f"{n} ranks: {choice.fastest} is the fastest" + ("" if len(told) == len(choice.answers) else " that can be told")
    if choice.within_noise:
        first += f", within noise of {', '.join(choice.within_noise)}"
    elif not [own for own in told if own is not fastest and own.fits is not False]:
        first += f", the only one that {'fits' if fastest.fits else 'may fit'}"
    return f"{first}{_fit_unknown(choice, fastest)}"


def _alone(choice: Choice, answer: StrategyAnswer, *, disturbed: bool) -> str:
    """Say what the step of the one strategy takes of which anything can be told."""
    assert answer.step_s is not None
    alone = f"a step of {answer.strategy} takes {format_seconds(answer.step_s)}"
    alone += ", as far as disturbed runs can tell" if disturbed else ""
    return alone if len(choice.answers) == 1 else f"{alone}; of the others nothing can be told, so no fastest is named"


def _fit_unknown(choice: Choice, answer: StrategyAnswer) -> str:
    """Say that a strategy may not fit in what was allowed, where something was."""
    if choice.memory_bytes is None or answer.fits is not None:
        return ""
    return f"; whether it fits in {format_bytes(choice.memory_bytes)} cannot be told"


def _names_fastest(choice: Choice) -> bool:
    """Whether there is anything that the fastest is faster than."""
    return choice.fastest is not None and sum(not answer.cannot for answer in choice.answers) > 1


def _row(choice: Choice, answer: StrategyAnswer, *, named: bool) -> Row:
    assert answer.step_s is not None and answer.exposed_s is not None
    chosen = named and answer.strategy == choice.fastest
    told = "fastest" if chosen else _fit_word(choice, answer)
    return Row(
        (
            str(choice.world_size),
            Cell(answer.strategy, "good" if chosen else "plain"),
            str(answer.num_shards) if answer.num_replicas == 1 else f"{answer.num_replicas} x {answer.num_shards}",
            format_seconds(answer.step_s),
            _span(answer),
            format_seconds(answer.exposed_s),
            memory_text(answer.memory),
            Cell(told, "bad" if answer.fits is False else "good" if chosen else "plain"),
        )
    )


def _fit_word(choice: Choice, answer: StrategyAnswer) -> str:
    if choice.memory_bytes is None:
        return ""
    return {True: "fits", False: "too big", None: "may fit"}[answer.fits]


def _span(answer: StrategyAnswer) -> str:
    if answer.interval_s is None:
        return "too disturbed"
    return f"{format_seconds(answer.interval_s.low)} - {format_seconds(answer.interval_s.high)}"


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
        ("computing", answer.memory.working),
    )
    unknown = [name for name, size in parts[-2:] if size is None]
    left_out = f"; {' and '.join(unknown)} not measured, and in none of it" if unknown else ""
    return "memory is " + ", ".join(f"{name} {format_bytes(size)}" for name, size in parts if size) + left_out
