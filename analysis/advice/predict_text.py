"""How is a prediction shown? Every model's step, what it assumes, who pays, and where a run parted from it; seconds."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from commprof.analysis.advice.parts_text import parts_blocks
from commprof.analysis.runs.load import Run
from commprof.analysis.scaling.decision import Decision, RankAnswer
from commprof.analysis.scaling.speedup import karp_flatt
from commprof.analysis.step.decided import DISTURBED, decide_predicted
from commprof.analysis.step.results import AssumptionCheck, BreakEven, Prediction, PredictionSet
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Tone, Words, joined, line
from commprof.commbench.units import format_seconds

_NOT_SURE = (
    "What follows was worked out from the disturbed runs, for those who look for the cause: no interval is given, and no "
    "figure speaks for a quiet machine."
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_COLUMNS = (
    Column(name="ranks", width=5, before="", key=True),
    Column(name="model", width=8, left=True, key=True),
    Column(name="step", width=8),
    Column(name="90 % interval", width=20),
    Column(name="speedup", width=7),
    Column(name="effic.", width=6),
    Column(name="exposed", width=8),
)

_PAYING = (
    Column(name="ranks", width=5, before="", key=True),
    Column(name="paying", width=14, left=True),
    Column(name="W", width=10),
    Column(name="R", width=8),
    Column(name="R needed", width=8),
    Column(name="Karp-Flatt e", width=12),
)


def prediction_sheet(
    predicted: PredictionSet, checks: Sequence[AssumptionCheck], runs: Sequence[Run], disturbed: str | None = None
) -> list[Block]:
    """Lay out the decision, that the machine was `disturbed`, every model's prediction, and where a run parted from it."""
    sizes = sorted({check.world_size for check in checks})
    parted = [_parted([check for check in checks if check.world_size == n]) for n in sizes]
    warned = [] if disturbed is None else [[Words(disturbed, tone="bad")]]
    decision = decide_predicted(predicted, runs, DISTURBED if disturbed is not None else "")
    figures = _predicted(predicted, decision, disturbed=disturbed is not None)
    return joined([[Words(str(decision), "", "", "strong")], *warned, figures, *parted])


def _predicted(predicted: PredictionSet, decision: Decision, *, disturbed: bool) -> list[Block]:
    fixed = "batch per rank fixed" if predicted.scaling == "weak" else "batch in all fixed"
    schedules = [p for p in predicted.predictions if p.model == "schedule"]
    worth = {p.world_size: (p, own) for p, own in zip(schedules, decision.answers, strict=True)}
    formulas = sorted({(p.model, p.formula) for p in predicted.predictions})
    doubt = [Words(_NOT_SURE, "", "", "note"), GAP] if disturbed else []
    return [
        *doubt,
        line(f"one rank: {format_seconds(predicted.single_step_s)} per step; speedup S in samples/s; {fixed}"),
        GAP,
        Table(columns=_COLUMNS, rows=[_row(p, disturbed=disturbed) for p in predicted.predictions]),
        *([GAP, *parts_blocks(predicted.overheads)] if predicted.overheads else []),
        *_assumed(predicted.predictions),
        GAP,
        Table(columns=_PAYING, rows=[_break_even(law, *worth[law.world_size]) for law in predicted.break_evens]),
        line("W: one rank's time for the step's samples; R = W / T_comm, T_comm that of all"),
        line("buckets, needed with nothing hidden; Karp-Flatt e = (1/S - 1/N)/(1 - 1/N)"),
        GAP,
        line("T_N of each model:"),
        Table(
            columns=(Column(width=8, left=True, key=True), Column(left=True, folds=True)), rows=[Row(own) for own in formulas]
        ),
    ]


def _row(p: Prediction, *, disturbed: bool) -> Row:
    """Write one model's answer; the simple models, there to be compared with, are faint. Of disturbed runs none is a gain."""
    naive = p.model != "schedule"
    tone: Tone = "faint" if naive else "plain"
    gains: Tone = tone if naive or disturbed else "good" if p.speedup > 1 else "bad"
    unknown = "too disturbed" if p.too_disturbed or (disturbed and not naive) else "-"
    span = None if disturbed else p.interval_s
    within = unknown if span is None else f"{format_seconds(span.low)} - {format_seconds(span.high)}"
    return Row(
        (
            Cell(str(p.world_size), tone),
            Cell(p.model, tone),
            Cell(format_seconds(p.step_s), tone),
            Cell(within, tone),
            Cell(f"{p.speedup:.2f}x", gains),
            Cell(f"{p.efficiency:.1%}", tone),
            Cell(format_seconds(p.exposed_s), tone),
        )
    )


def _assumed(predictions: Sequence[Prediction]) -> Iterator[Block]:
    """Yield the assumptions; what several numbers of ranks N share stands once, and first, its figures in their order."""
    shared: dict[tuple[str, int], dict[int, str]] = {}
    for p in predictions:
        seen: Counter[str] = Counter()
        for note in p.assumptions:
            words = _NUMBER.sub("#", _of_any(note, p.world_size))
            shared.setdefault((words, seen[words]), {})[p.world_size] = note
            seen[words] += 1
    groups: dict[tuple[int, ...], list[str]] = {}
    for notes in shared.values():
        groups.setdefault(tuple(notes), []).append(_in_one(notes))
    for sizes in sorted(groups, key=len, reverse=True):
        yield GAP
        yield line(f"{'/'.join(map(str, sizes))} ranks assume:", "strong")
        yield from (Words(note, "  - ", "    ", break_on_hyphens=True) for note in groups[sizes])


def _in_one(notes: Mapping[int, str]) -> str:
    """Write notes that differ in numbers as one: N for the number of ranks, 33/44 where others differ."""
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    told = [_of_any(note, n) for n, note in notes.items()]
    figures = zip(*(_NUMBER.findall(note) for note in told), strict=True)
    words = _NUMBER.split(told[0])
    shown = (own[0] if len(set(own)) == 1 else "/".join(own) for own in figures)
    return words[0] + "".join(figure + word for figure, word in zip(shown, words[1:], strict=True))


def _of_any(note: str, world_size: int) -> str:
    """Write an assumption with N for its number of ranks."""
    as_ranks = re.compile(rf"\b{world_size}(?= ranks\b)|(?<=--nproc ){world_size}\b|(?<=--nproc-per-node ){world_size}\b")
    return as_ranks.sub("N", note)


def _break_even(law: BreakEven, prediction: Prediction, answer: RankAnswer) -> Row:
    """Say whether N ranks are worth having, what R is and had to be, and the serial fraction Amdahl's law would need."""
    tone: Tone = "good" if answer.answer == "yes" else "bad" if answer.answer == "no" else "note"
    return Row(
        (
            str(law.world_size),
            Cell(answer.word, tone),
            format_seconds(law.work_s),
            f"{law.ratio:.3g}",
            f"{law.ratio_needed:.3g}",
            f"{karp_flatt(prediction.speedup, law.world_size):.3f}",
        )
    )


def _parted(checks: Sequence[AssumptionCheck]) -> list[Block]:
    n, error_s = checks[0].world_size, checks[0].error_s
    columns = (
        Column(width=14, left=True, key=True),
        Column(width=10, before=" "),
        Column(width=19, before=" "),
        Column(width=12),
    )
    return [
        line(f"{n} ranks, a run against its prediction: {error_s * 1e3:+.1f} ms a step, in", "strong"),
        Table(columns=columns, rows=[Row(tuple(_part(check))) for check in checks]),
        *(line(f"  failed: {check.assumption}", "bad") for check in checks if not check.holds),
    ]


def _part(check: AssumptionCheck) -> Iterator[Cell]:
    tone: Tone = "plain" if check.holds else "bad"
    yield Cell(check.name)
    if check.expected_s is None or check.measured_s is None:
        yield Cell(f"{'as' if check.holds else 'NOT as'} predicted", tone)
        return
    yield Cell(f"{format_seconds(check.measured_s)},", tone)
    yield Cell(f"{format_seconds(check.expected_s)} predicted")
    yield Cell(f"{check.explains_s * 1e3:+.1f} ms", tone)
