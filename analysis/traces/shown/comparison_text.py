"""How are two trace sets shown side by side? In tables for people, and as one JSON document; seconds and bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commprof.analysis.traces.all_ranks.job import CollectiveSummary
from commprof.analysis.traces.sets.comparison import CollectivePair, KindDifference, PartDifference, TraceComparison, TraceSet
from commprof.analysis.traces.shown.groups import with_group
from commprof.commbench.display.sheet import Block, Cell, Column, Row, Table, Tone, Words, joined, line
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_KINDS = 16
_TONES: dict[str, Tone] = {"longer": "bad", "shorter": "good", "noise": "faint"}
_PART_COLUMNS = (
    Column(width=21, left=True, before="", key=True),
    *(Column(name=name, width=8, before=" ") for name in ("before", "after")),
    *(Column(name=name, width=9, before=" ") for name in ("change", "low", "high")),
    Column(left=True, before=" "),
)
_KIND_COLUMNS = (
    Column(width=21, left=True, before="", key=True),
    *(Column(name=name, width=8, before=" ") for name in ("before", "after")),
    Column(name="change", width=9, before=" "),
)
_COLLECTIVE_COLUMNS = (
    Column(name="operation, group", width=18, left=True, before="", folds=True, key=True),
    Column(name="size", width=10, before=" ", key=True),
    *(
        Column(name=name, over=over, width=width, before=" ")
        for over in ("before", "after")
        for name, width in (("count", 5), ("time", 8), ("busbw", 9))
    ),
)


def comparison_sheet(comparison: TraceComparison, before: Sequence[Path], after: Sequence[Path]) -> list[Block]:
    """Lay out what is compared with what, the parts and the collectives."""
    head = [_set_words("before", comparison.before, before), _set_words("after", comparison.after, after)]
    head += [Words(note, "- ", "  ", "note") for note in comparison.notes]
    return joined([head, _parts(comparison.differences), _kinds(comparison.kernels), _collectives(comparison.collectives)])


def _set_words(when: str, one: TraceSet, paths: Sequence[Path]) -> Words:
    first = f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"
    ranks = f"{one.num_ranks} of {one.world_size or '?'} ranks"
    return Words(f"{first} ({ranks}, {_count(len(one.steps), 'step')})", f"{when + ':':8}", " " * 8)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _parts(differences: Sequence[PartDifference]) -> list[Block]:
    return [
        line("a step: median over steps of the mean over ranks; after - before, 95 % interval", "strong"),
        Table(columns=_PART_COLUMNS, rows=[_part_row(own) for own in differences if own.before_s or own.after_s]),
        Words(
            "longer, shorter: a change; noise: none that the steps' own noise would not explain, over all parts together. What "
            "differs between two runs of the same thing is not in it. Medians of parts do not add up to the step's."
        ),
    ]


def _part_row(own: PartDifference) -> Row:
    tone = _TONES.get(own.judgement, "plain")
    ends = ("-", "-") if own.interval_s is None else (_signed(own.interval_s.low), _signed(own.interval_s.high))
    return Row(
        (
            own.part.replace("_", " "),
            format_seconds(own.before_s),
            format_seconds(own.after_s),
            Cell(_signed(own.difference_s), tone),
            *ends,
            Cell(own.judgement, tone),
        )
    )


def _signed(seconds: float) -> str:
    return f"{'+' if seconds > 0 else ''}{format_seconds(seconds)}"


def _kinds(kinds: Sequence[KindDifference]) -> list[Block]:
    if not kinds:
        return []
    rows = [Row((own.kind, *map(format_seconds, (own.before_s, own.after_s)), _signed(own.difference_s))) for own in kinds]
    return [line("kernels by kind: durations added up, not judged", "strong"), Table(columns=_KIND_COLUMNS, rows=rows)]


def _collectives(pairs: Sequence[CollectivePair]) -> list[Block]:
    if not pairs:
        return []
    shown = sorted(pairs, key=lambda own: -max(_total_s(own.before), _total_s(own.after)))[:_MAX_KINDS]
    more = len(pairs) - len(shown)
    return [
        line("collectives: medians of the fastest rank (of all where waiting is not known)", "strong"),
        Table(columns=_COLLECTIVE_COLUMNS, rows=[_collective_row(own) for own in shown], over_last=True),
        *([line(f"and {more} other kinds; --json has all")] if more else []),
    ]


def _total_s(own: CollectiveSummary | None) -> float:
    return 0.0 if own is None else own.count * own.num_ranks * own.time_s


def _collective_row(own: CollectivePair) -> Row:
    size = "?" if own.message_bytes is None else format_bytes(own.message_bytes)
    return Row((with_group(own.op, own.group), size, *_side(own.before), *_side(own.after)))


def _side(own: CollectiveSummary | None) -> tuple[str, str, str]:
    if own is None:
        return "-", "-", "-"
    busbw = "-" if own.busbw_bytes_per_s is None else format_rate(own.busbw_bytes_per_s)
    time_s = own.time_s if own.transfer_s is None else own.transfer_s
    return str(own.count), format_seconds(time_s), busbw


def comparison_document(comparison: TraceComparison, before: Sequence[Path], after: Sequence[Path]) -> dict[str, Any]:
    """Return the JSON document; times in seconds, differences are after - before."""
    return {
        "before": _set_record(comparison.before, before),
        "after": _set_record(comparison.after, after),
        "notes": comparison.notes,
        "differences": comparison.differences,
        "kernels": comparison.kernels,
        "collectives": comparison.collectives,
    }


def _set_record(one: TraceSet, paths: Sequence[Path]) -> dict[str, Any]:
    return {
        "paths": [str(path) for path in paths],
        "num_ranks": one.num_ranks,
        "world_size": one.world_size,
        "steps": one.steps,
    }
