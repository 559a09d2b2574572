"""How is an analysis of traces shown? In 80 columns for people, as one JSON document, as CSV tables; seconds and bytes."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from commprof.analysis.traces.all_ranks.buckets import BucketStep, summarise_buckets
from commprof.analysis.traces.all_ranks.budget import PARTS, StepBudget
from commprof.analysis.traces.all_ranks.job import CollectiveSummary, TraceAnalysis, all_collectives
from commprof.analysis.traces.all_ranks.parts import PartTimes, part_times
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.shown.tables import bucket_lines, cost_sentences
from commprof.commbench.units import format_bytes, format_rate, format_seconds, printable

WIDTH = 80
_MAX_ROWS = 16
_COLUMNS = ("compute", "hidden", "exposed", "hidden", "exposed", "memory", "launch", "other")
_COLLECTIVE_FIELDS = ("step", "op", "message_bytes", "dtype", "group", "sequence", "start_ns", "end_ns")
_GROUPS = ("", "transfer", "", "waiting", "", "", "", "")
assert len(_COLUMNS) == len(_GROUPS) == len(PARTS)


def analysis_text(analysis: TraceAnalysis) -> str:
    """Lay out findings, budgets, collectives and stragglers."""
    sections = [_findings(analysis), _budgets(analysis), _collectives(analysis), _buckets(analysis), _stragglers(analysis)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _findings(analysis: TraceAnalysis) -> list[str]:
    num_ranks, world = len(analysis.by_rank), analysis.world_size
    text_bytes = sum(own.notes.text_bytes for own in analysis.by_rank.values())
    head = f"{num_ranks} of {world or '?'} ranks, {format_bytes(text_bytes)} of traces; findings: {len(analysis.findings)}"
    lines = [line for finding in analysis.findings[:_MAX_ROWS] for line in _wrapped(f"- {finding.message}", "  ")]
    more = len(analysis.findings) - _MAX_ROWS
    return [head, *lines, *([f"  and {more} more; --json has all"] if more > 0 else [])]


def _budgets(analysis: TraceAnalysis) -> list[str]:
    found = part_times(analysis.budgets)
    if not found:
        return []
    per_rank, of_all = [own for own in found if own.rank is not None], [own for own in found if own.rank is None]
    lines = [
        f"where a step went (% of the median step; medians over {_steps(found[-1].num_steps)})",
        (" " * 13 + "".join(f"{words:>8}" for words in _GROUPS)).rstrip(),
        f"{'rank':>4} {'step':>8}" + "".join(f"{words:>8}" for words in _COLUMNS),
    ]
    shown = sorted(per_rank, key=lambda own: -own.step_ns)[:_MAX_ROWS] if len(per_rank) > _MAX_ROWS else per_rank
    lines += [_budget_row(own) for own in (*shown, *of_all)]
    if len(shown) < len(per_rank):
        lines.append(f"the {len(shown)} longest of {len(per_rank)}; --json has all")
    return [*lines, *_wrapped(" ".join([*([words_on_all()] if of_all else []), words_on_waiting(analysis)]))]


def words_on_all() -> str:
    """Say how the row of all ranks comes about."""
    return "All: the mean over ranks of each step, as --against compares it. Medians of parts do not add up to 100 %."


def _steps(number: int) -> str:
    return f"{number} step{'s' * (number != 1)}"


def _budget_row(own: PartTimes) -> str:
    shares = "".join(f"{part / own.step_ns:>8.1%}" for part in own.parts_ns.values())
    name = "all" if own.rank is None else str(own.rank)
    return f"{name:>4} {format_seconds(own.step_ns / 1e9):>8}{shares}"


def words_on_waiting(analysis: TraceAnalysis) -> str:
    """Say how the time in collectives divides into waiting and transfer, over all ranks."""
    share = analysis.waiting_share
    if not any(own.collectives for own in analysis.by_rank.values()):
        return "No rank communicates."
    if share is None:
        return (
            "Waiting and transfer cannot be told apart: no collective is known from all ranks of its group. What is called "
            "transfer holds both."
        )
    return f"Of the time in matched collectives {share:.1%} is waiting for the last rank, {1 - share:.1%} transfer."


def _collectives(analysis: TraceAnalysis) -> list[str]:
    if not analysis.collectives:
        return []
    by_time = sorted(analysis.collectives, key=lambda own: -own.count * own.num_ranks * own.time_s)
    head = f"{'collective':14} {'size':>10} {'ranks':>5} {'count':>6} {'time':>8} {'fastest':>8} {'waiting':>7} {'busbw':>10}"
    rows = [_collective_row(own) for own in by_time[:_MAX_ROWS]]
    more = len(by_time) - _MAX_ROWS
    rows += [f"and {more} other kinds; --json has all"] if more > 0 else []
    clocks = [clock for clock in analysis.clocks.values() if clock.num_ends]
    worst = max((clock.residual_ns for clock in clocks), default=0) / 1e9
    corrected = sum(clock.corrected for clock in clocks)
    how = f"clocks corrected: {corrected}" if corrected else "no clock had to be corrected"
    ends = f"Ends of all-reduces and the like differ by {format_seconds(worst)} (median, worst rank); {how}."
    matched = analysis.matching
    by_sequence, total = matched.num_by_sequence, len(matched.matched)
    how_matched = f"{by_sequence} by sequence number and {total - by_sequence} by order"
    words = f"Fastest: the shortest time of a rank. {total} matched over ranks, {how_matched}." if total else ""
    words = " ".join(filter(None, [words, ends if clocks else "", *cost_sentences(analysis.costs)]))
    return [head, *rows, *_wrapped(words)]


def _collective_row(own: CollectiveSummary) -> str:
    size = "?" if own.message_bytes is None else format_bytes(own.message_bytes)
    transfer = "-" if own.transfer_s is None else format_seconds(own.transfer_s)
    waiting = "-" if own.waiting_share is None else f"{own.waiting_share:.0%}"
    busbw = "-" if own.busbw_bytes_per_s is None else format_rate(own.busbw_bytes_per_s)
    return (
        f"{own.op:14} {size:>10} {own.num_ranks:>5} {own.count:>6} {format_seconds(own.time_s):>8} {transfer:>8} "
        f"{waiting:>7} {busbw:>10}"
    )


def _buckets(analysis: TraceAnalysis) -> list[str]:
    lines, words = bucket_lines(analysis.buckets)
    return [*lines, *_wrapped(words)]


def _stragglers(analysis: TraceAnalysis) -> list[str]:
    message = analysis.stragglers.message
    return _wrapped(f"{message[0].upper()}{message[1:]}.")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def analysis_document(analysis: TraceAnalysis) -> dict[str, Any]:
    """Return the JSON document; times in seconds."""
    return {
        "world_size": analysis.world_size,
        "ranks": [
            {
                "rank": rank,
                "path": own.path,
                "backend": own.header.backend,
                "host_name": own.header.host_name,
                "on_gpu": own.on_gpu,
                "num_steps": len(own.windows),
                "num_collectives": len(own.collectives),
                "lag_s": None if own.lag_ns is None else own.lag_ns / 1e9,
                "reading": own.notes,
            }
            for rank, own in analysis.by_rank.items()
        ],
        "findings": analysis.findings,
        "parts": [part_record(own) for own in part_times(analysis.budgets)],
        "budgets": [budget_record(own) for own in analysis.budgets],
        "waiting_share": analysis.waiting_share,
        "collectives": analysis.collectives,
        "unmatched": analysis.matching.unmatched,
        "clocks": [
            {
                "rank": own.rank,
                "offset_s": own.offset_ns / 1e9,
                "drift": own.drift,
                "residual_s": own.residual_ns / 1e9,
                "num_ends": own.num_ends,
                "corrected": own.corrected,
            }
            for own in analysis.clocks.values()
        ],
        "stragglers": analysis.stragglers,
        "buckets": summarise_buckets(analysis.buckets),
        "bucket_steps": analysis.buckets,
        "costs": analysis.costs,
    }


def part_record(own: PartTimes) -> dict[str, float | None]:
    """Return the parts of a rank's step, or of all ranks' (rank null), in seconds."""
    parts = {f"{name}_s": part / 1e9 for name, part in own.parts_ns.items()}
    return {"rank": own.rank, "num_steps": own.num_steps, "wall_s": own.step_ns / 1e9, **parts}


def budget_record(own: StepBudget) -> dict[str, float]:
    """Return one step of one rank in seconds."""
    parts = {f"{name}_s": part / 1e9 for name, part in own.parts_ns().items()}
    return {"rank": own.rank, "step": own.step, "wall_s": own.wall_ns / 1e9, **parts}


def budget_csv(analysis: TraceAnalysis) -> str:
    """Return one row a rank and step."""
    return _csv([*("rank", "step", "wall_s"), *(f"{name}_s" for name in PARTS)], map(budget_record, analysis.budgets))


def collectives_csv(analysis: TraceAnalysis) -> str:
    """Return one row a rank and collective, times on the rank's own clock."""
    return _csv(["rank", *_COLLECTIVE_FIELDS], (collective_record(*own) for own in all_collectives(analysis)))


def collective_record(rank: int, one: Collective) -> dict[str, Any]:
    """Return one collective of a rank, times on the rank's own clock."""
    return {"rank": rank, **{name: getattr(one, name) for name in _COLLECTIVE_FIELDS}}


def buckets_csv(analysis: TraceAnalysis) -> str:
    """Return one row a rank, step and bucket of DDP's, times in seconds since backward began."""
    return _csv([field.name for field in fields(BucketStep)], map(asdict, analysis.buckets))


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: object) -> object:
    """Keep a name from a trace from being taken for a formula by a spreadsheet."""
    return "'" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
