"""How is an extrapolation shown? The decision, each N with its interval, what the numbers rest on, and the laws one by one."""

import math
from collections.abc import Iterator, Mapping, Sequence

from commprof.analysis.scaling.extrapolate import decide_extrapolated
from commprof.analysis.scaling.results import Extrapolated, Extrapolation, LawValues, NextRow, Refused
from commprof.commbench.display.sheet import GAP, Block, Cell, Column, Row, Table, Tone, Words, joined
from commprof.commbench.units import format_seconds

_WHAT: Mapping[str, str] = {"throughput": "throughput", "throughput_per_rank": "per rank", "mfu": "MFU", "step_s": "step"}
_MOST_NAMES = 3  # of series left out for one reason
_MOST_TARGETS = 5  # side by side for each law


def extrapolation_sheet(told: Sequence[Extrapolation | Refused]) -> list[Block]:
    """Lay out every series, then those left out, by reason."""
    by_reason: dict[str, list[str]] = {}
    for one in told:
        if isinstance(one, Refused):
            by_reason.setdefault(one.reason, []).append(one.series)
    refusals = [_refusal(names, reason) for reason, names in by_reason.items()]
    return joined([*(_series(one) for one in told if isinstance(one, Extrapolation)), *refusals])


def _refusal(names: Sequence[str], reason: str) -> list[Block]:
    shown = ", ".join(names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return [_wrapped(f"{shown}{more}: left out: {reason}", "bad")]


def _series(one: Extrapolation) -> list[Block]:
    fixed = "batch per rank fixed" if one.scaling == "weak" else "batch in all fixed"
    link = {"nvlink": "NVLink", "pcie": "PCIe", "unknown": "link not given"}[one.interconnect]
    name = f"{one.series}: " if one.series else ""
    what = _WHAT[one.measure]
    over = "" if one.base == 1 else f"; speedup over {one.base} ranks"
    points = ", ".join(f"{n}: {_number(value, one.measure)}" for n, value in one.anchors.items())
    columns = (
        Column(name="ranks", width=6, before="", key=True),
        Column(name=what, width=10, before=" "),
        Column(name="90 % interval", width=21),
        Column(name="speedup", width=7),
        Column(name=f"E_N/T_{one.base}", width=7),
        Column(name="measured", width=9),
        Column(name="error", width=7, before=" "),
    )
    decided = decide_extrapolated(one).said_of([p.world_size for p in one.predictions])
    return [
        _wrapped(f"{name}{decided}", "strong"),
        _wrapped(f"{what} from {points}; {fixed}; {link}{over}"),
        GAP,
        Table(columns=columns, rows=[_row(each, one.measure) for each in one.predictions]),
        GAP,
        *(_wrapped(text) for text in _notes(one.predictions)),
        *(_wrapped(text) for text in _rests_on(one)),
        *_next(one.next_row),
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


def _rests_on(one: Extrapolation) -> Iterator[str]:
    if one.mix:
        shares = ", ".join(f"{name.replace('_', ' ')} {share:.2%}" for name, share in one.mix.items())
        yield f"E_2/T_1 as the mix has it: {shares}"
    if one.growth:
        inside, across = (math.expm1(one.growth[side]) for side in ("inside", "across"))
        yield f"cost of a rank's share as the power law has it: {inside:+.1%} a doubling on a node, {across:+.1%} of nodes"


def _next(row: NextRow | None) -> list[Block]:
    if row is None:
        return []
    if row.half_width is None:
        does = f"would bring an answer for {row.target}, of"
    else:
        does = f"would narrow the interval on {row.target} from +-{row.half_width:.1%} to"
    return [_wrapped(f"next to measure: {row.world_size} ranks {does} +-{row.half_width_then:.1%}")]


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
    return format_seconds(value) if measure == "step_s" else f"{value:.4g}"


def _wrapped(text: str, tone: Tone = "plain") -> Words:
    return Words(text, hanging="  ", tone=tone, break_long_words=False)
