"""What is wrong with these traces, before anything is concluded from them? One line a finding, in words.

Ranks come from the traces themselves, else from the files' names, else from the files' order; a rank that occurs twice is taken
from the first file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.traces.all_ranks.matching import Matching
from commprof.analysis.traces.one_rank.files import rank_in_name
from commprof.analysis.traces.one_rank.rank_trace import NO_STEP, RankTrace
from commprof.commbench.units import format_bytes, format_seconds

_MIN_COVERED = 0.5
_LAG = 0.1  # of a step
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that limits what the traces can tell: a word for programs, a line for people."""

    name: str
    message: str


def assign_ranks(traces: Sequence[RankTrace]) -> tuple[dict[int, RankTrace], list[Finding]]:
    """Return the traces by rank, and what had to be guessed or left out; who names a rank goes first."""
    by_rank: dict[int, RankTrace] = {}
    findings: list[Finding] = []
    for trace in sorted(traces, key=lambda own: (own.header.rank is None, rank_in_name(own.path) is None)):
        rank = trace.header.rank
        if rank is None:
            rank = rank_in_name(trace.path)
            source = "the file's name" if rank is not None else "the order of files"
            rank = _next_free(by_rank) if rank is None else rank
            if len(traces) > 1:
                findings.append(Finding(name="rank", message=f"{trace.path} names no rank; {rank} is taken from {source}"))
        if rank in by_rank:
            findings.append(
                Finding(name="duplicate", message=f"{trace.path} is left out: {by_rank[rank].path} is rank {rank} already")
            )
        else:
            by_rank[rank] = trace
    return dict(sorted(by_rank.items())), findings


def _next_free(by_rank: Mapping[int, RankTrace]) -> int:
    return next(rank for rank in range(len(by_rank) + 1) if rank not in by_rank)


def examine(by_rank: Mapping[int, RankTrace], world_size: int | None, matching: Matching) -> list[Finding]:
    """Return everything that limits what these traces can tell."""
    own = [(name, f"rank {rank}: {message}") for rank, trace in by_rank.items() for name, message in _of(trace)]
    return [Finding(name=name, message=message) for name, message in own] + [
        Finding(name=name, message=message) for name, message in _of_all(by_rank, world_size, matching)
    ]


def _of(trace: RankTrace) -> Iterator[tuple[str, str]]:
    notes = trace.notes
    if notes.damage:
        share = notes.lost_bytes / notes.text_bytes
        yield (
            "damaged",
            f"{trace.path}: {notes.damage}; {notes.num_events:,} events are kept, {format_bytes(notes.lost_bytes)} behind "
            f"the last complete one are lost ({share:.2%} of the text that is there)",
        )
    if notes.num_unreadable:
        yield "unreadable", f"{notes.num_unreadable:,} of {notes.num_events:,} events cannot be read and are left out"
    if notes.num_python:
        yield (
            "overhead",
            f"{notes.num_python:,} Python stack frames were recorded, which slows a step; drop with_stack",
        )
    if trace.num_orphans:
        yield (
            "orphans",
            f"{trace.num_orphans:,} of {trace.num_gpu_events:,} GPU events have no launch call, so belong to no step",
        )
    yield from _of_steps(trace)


def _of_steps(trace: RankTrace) -> Iterator[tuple[str, str]]:
    if not trace.windows:
        yield "steps", "nothing in it takes any time"
        return
    if trace.windows[0].number == NO_STEP:
        yield "steps", "it marks no steps; the whole trace counts as one (call profiler.step() after each step)"
    if not trace.on_gpu and not trace.collectives:
        yield "cpu", "it holds neither GPU work nor gloo's collectives: only what the CPU did can be told"
    covered = sum(window.wall_ns for window in trace.windows)
    if covered < _MIN_COVERED * trace.span_ns:
        yield "coverage", f"its steps cover only {covered / trace.span_ns:.1%} of the recorded time"
    if trace.lag_ns is not None and trace.lag_ns > _LAG * covered / len(trace.windows):
        yield "lag", f"the GPU's steps end {format_seconds(trace.lag_ns / 1e9)} behind the CPU's; windows go by the GPU"


def _of_all(by_rank: Mapping[int, RankTrace], world_size: int | None, matching: Matching) -> Iterator[tuple[str, str]]:
    sizes = {own.header.world_size for own in by_rank.values() if own.header.world_size is not None}
    if len(sizes) > 1:
        yield "world size", f"the traces are of jobs of {', '.join(map(str, sorted(sizes)))} ranks; they do not belong together"
    missing = [rank for rank in range(world_size or 0) if rank not in by_rank]
    if missing:
        yield "missing", f"{len(missing)} of {world_size} ranks have no trace: {_named(missing)}"
    if len({own.notes.whole_us for own in by_rank.values()}) > 1:
        yield "clocks", "some ranks' clocks count whole microseconds, others nanoseconds"
    if len({own.header.base_ns is None for own in by_rank.values()}) > 1:
        yield "clocks", "some traces do not say when their clock began"
    yield from _of_steps_together(by_rank)
    unsized = sum(one.message_bytes is None for own in by_rank.values() for one in own.collectives if one.op != "barrier")
    if unsized:
        total = sum(len(own.collectives) for own in by_rank.values())
        yield "sizes", f"{unsized:,} of {total:,} collectives carry no size: no bandwidth for these"
    if matching.unmatched and len(by_rank) > 1:
        lost = sum(own.count for own in matching.unmatched)
        first = matching.unmatched[0]
        yield "unmatched", f"{lost:,} collectives have no partner, for example {first.count} {first.op}: {first.reason}"


def _of_steps_together(by_rank: Mapping[int, RankTrace]) -> Iterator[tuple[str, str]]:
    counts = Counter(window.number for own in by_rank.values() for window in own.windows)
    partial = [number for number, count in counts.items() if count < len(by_rank)]
    if partial:
        yield "steps", f"not every rank has the steps {_named(sorted(partial))}"


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MAX_NAMED]))
    return shown if len(numbers) <= _MAX_NAMED else f"{shown} and {len(numbers) - _MAX_NAMED} more"
