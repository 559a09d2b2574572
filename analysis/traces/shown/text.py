"""How is an analysis of traces shown? In tables for people, as one JSON document, as CSV; seconds and bytes."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from commprof.analysis.traces.all_ranks.buckets import BucketStep, summarise_buckets
from commprof.analysis.traces.all_ranks.budget import PARTS, StepBudget
from commprof.analysis.traces.all_ranks.job import CollectiveSummary, TraceAnalysis, all_collectives
from commprof.analysis.traces.all_ranks.kernel_kinds import summarise_kinds, summarise_launching, summarise_modules
from commprof.analysis.traces.all_ranks.matched.groups import summarise_groups
from commprof.analysis.traces.all_ranks.parts import PartTimes, part_times
from commprof.analysis.traces.all_ranks.units import summarise_units
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.shown.groups import group_blocks, stage_blocks, unknown_words, with_group
from commprof.analysis.traces.shown.kinds import kind_blocks, module_blocks
from commprof.analysis.traces.shown.memory_tables import memory_blocks
from commprof.analysis.traces.shown.tables import bucket_blocks, cost_sentences
from commprof.analysis.traces.shown.unit_tables import unit_blocks
from commprof.commbench.display.sheet import Block, Column, Row, Table, Words, joined, line
from commprof.commbench.units import format_bytes, format_rate, format_seconds

_MAX_ROWS = 16
_COLUMNS = ("compute", "hidden", "exposed", "hidden", "exposed", "memory", "launch", "other")
COLLECTIVE_FIELDS = ("step", "op", "message_bytes", "dtype", "group", "group_description", "sequence", "start_ns", "end_ns")
_GROUPS = ("", "transfer", "transfer", "waiting", "waiting", "", "", "")
assert len(_COLUMNS) == len(_GROUPS) == len(PARTS)
_COLLECTIVE_COLUMNS = (
    Column(name="collective, group", width=20, left=True, before="", folds=True, key=True),
    Column(name="size", width=10, before=" ", key=True),
    Column(name="ranks", width=5, before=" "),
    Column(name="count", width=5, before=" "),
    Column(name="time", width=8, before=" "),
    Column(name="fastest", width=8, before=" "),
    Column(name="waiting", width=7, before=" "),
    Column(name="busbw", width=9, before=" "),
)


def analysis_sheet(analysis: TraceAnalysis) -> list[Block]:
    """Lay out findings, who is late, budgets, collectives and the rest."""
    parts = [_findings, _stragglers, _budgets, _kinds, _modules, _groups, _stages, _collectives, _buckets, _units, _memory]
    return joined([part(analysis) for part in parts])


def _findings(analysis: TraceAnalysis) -> list[Block]:
    num_ranks, world = len(analysis.by_rank), analysis.world_size
    text_bytes = sum(own.notes.text_bytes for own in analysis.by_rank.values())
    head = f"{num_ranks} of {world or '?'} ranks, {format_bytes(text_bytes)} of traces; findings: {len(analysis.findings)}"
    found = [Words(finding.message, "- ", "  ", "note") for finding in analysis.findings[:_MAX_ROWS]]
    more = len(analysis.findings) - _MAX_ROWS
    return [line(head, "strong"), *found, *([line(f"  and {more} more; --json has all")] if more > 0 else [])]


def _budgets(analysis: TraceAnalysis) -> list[Block]:
    found = part_times(analysis.budgets)
    if not found:
        return []
    columns = (
        Column(name="rank", width=4, before="", key=True),
        Column(name="step", width=8, before=" "),
        *(Column(name=name, over=over, width=8, before="") for name, over in zip(_COLUMNS, _GROUPS, strict=True)),
    )
    per_rank, of_all = [own for own in found if own.rank is not None], [own for own in found if own.rank is None]
    shown = sorted(per_rank, key=lambda own: -own.step_ns)[:_MAX_ROWS] if len(per_rank) > _MAX_ROWS else per_rank
    left_out = [line(f"the {len(shown)} longest of {len(per_rank)}; --json has all")] if len(shown) < len(per_rank) else []
    return [
        line(f"where a step went (% of the median step; medians over {_steps(found[-1].num_steps)})", "strong"),
        Table(columns=columns, rows=[_budget_row(own) for own in (*shown, *of_all)]),
        *left_out,
        Words(" ".join([*([words_on_all()] if of_all else []), words_on_waiting(analysis)])),
    ]


def words_on_all() -> str:
    """Say how the row of all ranks comes about."""
    return "All: the mean over ranks of each step, as --against compares it. Medians of parts do not add up to 100 %."


def _steps(number: int) -> str:
    return f"{number} step{'s' * (number != 1)}"


def _budget_row(own: PartTimes) -> Row:
    name = "all" if own.rank is None else str(own.rank)
    return Row((name, format_seconds(own.step_ns / 1e9), *(f"{part / own.step_ns:.1%}" for part in own.parts_ns.values())))


def words_on_waiting(analysis: TraceAnalysis) -> str:
    """Say how the time in collectives divides into waiting and transfer, over all ranks."""
    share = analysis.waiting_share
    if not any(own.collectives for own in analysis.by_rank.values()):
        return (
            "No rank communicates." if (analysis.world_size or 1) == 1 else "Nothing in these traces is known to communicate."
        )
    if share is None:
        return (
            "Waiting and transfer cannot be told apart: no collective is known from all ranks of its group. What is called "
            "transfer holds both."
        )
    return f"Of the time in matched collectives {share:.1%} is waiting for the last rank, {1 - share:.1%} transfer."


def _kinds(analysis: TraceAnalysis) -> list[Block]:
    times = part_times(analysis.budgets)
    return kind_blocks(analysis.by_rank, times[-1].parts_ns["launch_idle"] / 1e9 if times else None)


def _modules(analysis: TraceAnalysis) -> list[Block]:
    return module_blocks(analysis.by_rank)


def _groups(analysis: TraceAnalysis) -> list[Block]:
    times = part_times(analysis.budgets)
    return group_blocks(analysis.groups, times[-1].step_ns / 1e9 if times else None)


def _stages(analysis: TraceAnalysis) -> list[Block]:
    return stage_blocks(analysis.stages)


def _collectives(analysis: TraceAnalysis) -> list[Block]:
    if not analysis.collectives:
        return []
    by_time = sorted(analysis.collectives, key=lambda own: -own.count * own.num_ranks * own.time_s)
    more = len(by_time) - _MAX_ROWS
    return [
        Table(columns=_COLLECTIVE_COLUMNS, rows=[_collective_row(own) for own in by_time[:_MAX_ROWS]]),
        *([line(f"and {more} other kinds; --json has all")] if more > 0 else []),
        *([Words(words)] if (words := _words_on_matching(analysis)) else []),
    ]


def _words_on_matching(analysis: TraceAnalysis) -> str:
    clocks = [clock for clock in analysis.clocks.values() if clock.num_ends]
    worst = max((clock.residual_ns for clock in clocks), default=0) / 1e9
    corrected = sum(clock.corrected for clock in clocks)
    how = f"clocks corrected: {corrected}" if corrected else "no clock had to be corrected"
    ends = f"Ends of all-reduces and the like differ by {format_seconds(worst)} (median, worst rank); {how}."
    matched = analysis.matching
    by_sequence, total = matched.num_by_sequence, len(matched.matched)
    how_matched = f"{by_sequence} by sequence number and {total - by_sequence} by order"
    words = f"Fastest: the shortest time of a rank. {total} matched over ranks, {how_matched}." if total else ""
    unknown = unknown_words(analysis.collectives)
    return " ".join(filter(None, [words, ends if clocks else "", *cost_sentences(analysis.costs), unknown]))


def _collective_row(own: CollectiveSummary) -> Row:
    return Row(
        (
            with_group(own.op, own.group),
            "?" if own.message_bytes is None else format_bytes(own.message_bytes),
            str(own.num_ranks),
            str(own.count),
            format_seconds(own.time_s),
            "-" if own.transfer_s is None else format_seconds(own.transfer_s),
            "-" if own.waiting_share is None else f"{own.waiting_share:.0%}",
            "-" if own.busbw_bytes_per_s is None else format_rate(own.busbw_bytes_per_s),
        )
    )


def _units(analysis: TraceAnalysis) -> list[Block]:
    return unit_blocks(analysis.units)


def _buckets(analysis: TraceAnalysis) -> list[Block]:
    return bucket_blocks(analysis.buckets)


def _memory(analysis: TraceAnalysis) -> list[Block]:
    return memory_blocks(analysis.by_rank)


def _stragglers(analysis: TraceAnalysis) -> list[Block]:
    message = analysis.stragglers.message
    return [Words(f"{message[0].upper()}{message[1:]}.")]


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
        "kernels": summarise_kinds(analysis.by_rank),
        "launching": summarise_launching(analysis.by_rank),
        "modules": summarise_modules(analysis.by_rank),
        "groups": summarise_groups(analysis.groups),
        "group_steps": analysis.groups,
        "stages": [{**asdict(own), "bubble_share": own.bubble_share} for own in analysis.stages],
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
        "units": summarise_units(analysis.units),
        "unit_steps": analysis.units,
        "memory": {str(rank): own.memory_peaks for rank, own in analysis.by_rank.items() if own.memory_peaks},
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
    return _csv(["rank", *COLLECTIVE_FIELDS], (collective_record(*own) for own in all_collectives(analysis)))


def collective_record(rank: int, one: Collective) -> dict[str, Any]:
    """Return one collective of a rank, times on the rank's own clock."""
    return {"rank": rank, **{name: getattr(one, name) for name in COLLECTIVE_FIELDS}}


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
