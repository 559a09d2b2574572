"""How is an extrapolation shown? Each N with its interval, what the numbers rest on, and the laws one by one."""

from collections.abc import Sequence

from commprof.analysis.scaling.extrapolate import Extrapolated, Extrapolation, LawValues, Refused
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Tone, Words, joined, line
from commprof.commbench.units import format_seconds

_MOST_TARGETS = 5  # side by side for each law


def extrapolation_sheet(told: Sequence[Extrapolation | Refused]) -> list[Block]:
    """Lay out every series, and why one is left out."""
    return joined([_refusal(one) if isinstance(one, Refused) else _series(one) for one in told])


def _refusal(one: Refused) -> list[Block]:
    return [_wrapped(f"{one.series}: left out: {one.reason}", "bad")]


def _series(one: Extrapolation) -> list[Block]:
    fixed = "batch per rank fixed" if one.scaling == "weak" else "batch in all fixed"
    link = {"nvlink": "NVLink", "pcie": "PCIe", "unknown": "link not given"}[one.interconnect]
    name = f"{one.series}: " if one.series else ""
    what = "throughput" if one.measure == "throughput" else "step"
    points = ", ".join(f"{n}: {_number(value, one.measure)}" for n, value in one.anchors.items())
    columns = (
        Column(name="ranks", width=6, before="", key=True),
        Column(name=what, width=10, before=" "),
        Column(name="90 % interval", width=21),
        Column(name="speedup", width=7),
        Column(name="E_N/T_1", width=7),
        Column(name="measured", width=9),
        Column(name="error", width=7, before=" "),
    )
    guesses = any(each.guess and each.value is not None for each in one.predictions)
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.2%}" for name, share in one.mix.items())
    return [
        _wrapped(f"{name}{what} from {points}; {fixed}; {link}", "strong"),
        GAP,
        Table(columns=columns, rows=[_row(each, one.measure) for each in one.predictions]),
        *([line("  ? a guess", "note")] if guesses else []),
        GAP,
        *(_wrapped(text) for text in _notes(one.predictions)),
        _wrapped(f"E_2/T_1 as the mix has it: {shares}"),
        *_laws(one.laws, one.measure),
    ]


def _row(one: Extrapolated, measure: str) -> Row:
    measured = "-" if one.measured is None else _number(one.measured, measure)
    ranks = Cell(f"{one.world_size}{'?' if one.guess else ' '}", "note" if one.guess else "plain")
    if one.value is None or one.low is None or one.high is None:
        return Row((ranks, "-", "-", "-", "-", measured, "-"))
    assert one.speedup is not None and one.overhead is not None, "they come with the value"
    tone: Tone = "good" if one.speedup > 1 else "bad"
    return Row(
        (
            ranks,
            _number(one.value, measure),
            f"{_number(one.low, measure):>9} - {_number(one.high, measure):>9}",
            Cell(f"{one.speedup:.2f}x", tone),
            f"{one.overhead:.1%}",
            measured,
            "-" if one.relative_error is None else f"{one.relative_error:+.1%}",
        )
    )


def _laws(laws: Sequence[LawValues], measure: str) -> list[Block]:
    targets = list(laws[0].values)[:_MOST_TARGETS]
    if not targets:
        return []
    columns = (
        Column(name="law alone", width=16, left=True, key=True),
        Column(name="evidence", width=9, before=""),
        *(Column(name=str(n), width=10, before="") for n in targets),
    )
    rows = [Row((law.name, f"{law.weight:.0%}", *(_number(law.values[n], measure) for n in targets))) for law in laws]
    return [Table(columns=columns, rows=rows)]


def _notes(predictions: Sequence[Extrapolated]) -> list[str]:
    by_note: dict[str, list[int]] = {}
    for one in predictions:
        for note in one.notes:
            by_note.setdefault(note, []).append(one.world_size)
    return [f"{', '.join(map(str, ranks))} ranks: {note}" for note, ranks in by_note.items()]


def _number(value: float, measure: str) -> str:
    return f"{value:.4g}" if measure == "throughput" else format_seconds(value)


def _wrapped(text: str, tone: Tone = "plain") -> Words:
    return Words(text, hanging="  ", tone=tone, break_long_words=False)
