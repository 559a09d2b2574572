"""How are two trace sets shown side by side? In 80 columns for people, and as one JSON document; seconds and bytes."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commprof.analysis.traces.all_ranks.comparison import CollectivePair, PartDifference, TraceComparison, TraceSet
from commprof.analysis.traces.all_ranks.job import CollectiveSummary
from commprof.analysis.traces.shown.text import WIDTH
from commprof.commbench.units import format_bytes, format_rate, format_seconds, printable

_MAX_KINDS = 16


def comparison_text(comparison: TraceComparison, before: Sequence[Path], after: Sequence[Path]) -> str:
    """Lay out what is compared with what, the parts and the collectives."""
    head = [*_set_line("before", comparison.before, before), *_set_line("after", comparison.after, after)]
    head += [line for note in comparison.notes for line in _wrapped(f"- {note}", "  ")]
    sections = [head, _parts(comparison.differences), _collectives(comparison.collectives)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _set_line(when: str, one: TraceSet, paths: Sequence[Path]) -> list[str]:
    first = f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"
    return _wrapped(f"{when + ':':8}{first} ({_count(one.num_ranks, 'rank')}, {_count(len(one.steps), 'step')})", " " * 8)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _parts(differences: Sequence[PartDifference]) -> list[str]:
    shown = [own for own in differences if own.before_s or own.after_s]
    return [
        "a step: median over steps of the mean over ranks; after - before, 95 % interval",
        f"{'':21} {'before':>8} {'after':>8} {'change':>9} {'low':>9} {'high':>9}",
        *(_part_row(own) for own in shown),
        *_wrapped(
            "longer, shorter: a change; noise: none that the steps' own noise would not explain, over all parts together. What "
            "differs between two runs of the same thing is not in it. Medians of parts do not add up to the step's."
        ),
    ]


def _part_row(own: PartDifference) -> str:
    ends = ("-", "-") if own.interval_s is None else (_signed(own.interval_s.low), _signed(own.interval_s.high))
    times = f"{format_seconds(own.before_s):>8} {format_seconds(own.after_s):>8} {_signed(own.difference_s):>9}"
    return f"{own.part.replace('_', ' '):21} {times} {ends[0]:>9} {ends[1]:>9} {own.judgement}"


def _signed(seconds: float) -> str:
    return f"{'+' if seconds > 0 else ''}{format_seconds(seconds)}"


def _collectives(pairs: Sequence[CollectivePair]) -> list[str]:
    if not pairs:
        return []
    shown = sorted(pairs, key=lambda own: -max(_total_s(own.before), _total_s(own.after)))[:_MAX_KINDS]
    more = len(pairs) - len(shown)
    return [
        "collectives: medians of the fastest rank (of all where waiting is not known)",
        f"{'':25} {'before':>26} {'after':>26}",
        f"{'operation':14} {'size':>10} " + " ".join([f"{'count':>6} {'time':>8} {'busbw':>10}"] * 2),
        *(_collective_row(own) for own in shown),
        *([f"and {more} other kinds; --json has all"] if more else []),
    ]


def _total_s(own: CollectiveSummary | None) -> float:
    return 0.0 if own is None else own.count * own.num_ranks * own.time_s


def _collective_row(own: CollectivePair) -> str:
    size = "?" if own.message_bytes is None else format_bytes(own.message_bytes)
    return f"{own.op:14} {size:>10} {_side(own.before)} {_side(own.after)}"


def _side(own: CollectiveSummary | None) -> str:
    if own is None:
        return f"{'-':>6} {'-':>8} {'-':>10}"
    busbw = "-" if own.busbw_bytes_per_s is None else format_rate(own.busbw_bytes_per_s)
    time_s = own.time_s if own.transfer_s is None else own.transfer_s
    return f"{own.count:>6} {format_seconds(time_s):>8} {busbw:>10}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def comparison_document(comparison: TraceComparison, before: Sequence[Path], after: Sequence[Path]) -> dict[str, Any]:
    """Return the JSON document; times in seconds, differences are after - before."""
    return {
        "before": _set_record(comparison.before, before),
        "after": _set_record(comparison.after, after),
        "notes": comparison.notes,
        "differences": comparison.differences,
        "collectives": comparison.collectives,
    }


def _set_record(one: TraceSet, paths: Sequence[Path]) -> dict[str, Any]:
    return {"paths": [str(path) for path in paths], "num_ranks": one.num_ranks, "steps": one.steps}
