"""What did all ranks do at the same moment? One Chrome trace of them all, on the reference rank's clock, for Perfetto.

A rank is a process, and its tracks are

    steps          the windows, with their budgets
    compute        computation; memory copies and idle before launch, where there are any, likewise
    transfer       what all_ranks/budget.py calls transfer, named exposed or hidden
    waiting        the same of waiting
    collectives    each one whole, its waiting and its transfer inside it; more such tracks where collectives overlap

Slices of one track lie apart or inside one another: viewers drop or misdraw others. An arrow leads from the rank that arrived
last to each other that was there. It starts and ends at that arrival, where the transfers begin: Perfetto turns an arrow round
that ends in a slice older than its own. Times are microseconds with three decimals since the first step began, or since what is
shown before it: Perfetto drops what happened before 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, count
from typing import Any

from commprof.analysis.traces.all_ranks.job import TraceAnalysis
from commprof.analysis.traces.all_ranks.matched.clocks import RankClock
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.spans import Intervals, common, without
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_bytes, printable

Event = dict[str, Any]
_CHUNK = 4096
_MAX_TEXT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """A named stretch of time on the reference clock."""

    name: str
    category: str
    start_ns: int
    end_ns: int
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """Slices of one track; `collectives` are those that lie on it."""

    name: str
    slices: Iterable[_Slice]
    collectives: Sequence[Collective] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """A matched collective, which rank came last and when, on the reference clock."""

    one: MatchedCollective
    last: int
    ready_ns: int


def timeline(analysis: TraceAnalysis) -> Iterator[Event]:
    """Yield the events of one trace of all ranks: per rank metadata and slices, then the arrows between ranks."""
    meetings = [_meeting(one, analysis.clocks) for one in analysis.matching.matched]
    meeting_of = {id(part): own for own in meetings for part in own.one.parts.values()}
    origin_ns = _origin_ns(analysis)
    thread_ids = count(max(analysis.by_rank, default=0) + 2)  # distinct from all process ids, and over all processes
    thread_of: dict[int, int] = {}
    for rank in analysis.by_rank:
        yield from _process(rank, analysis.by_rank[rank].header.host_name)
        for track, thread in zip(_tracks(rank, analysis, meeting_of), thread_ids, strict=False):
            yield from _thread(rank, thread, track.name)
            yield from (_complete(rank, thread, own, origin_ns) for own in track.slices)
            thread_of |= dict.fromkeys(map(id, track.collectives), thread)
    yield from _arrows(meetings, analysis.clocks, thread_of, origin_ns)


def levels(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return a level for each [start, end), so that no two of a level overlap, in as few levels as there are spans at once."""
    found = [0] * len(spans)
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for index in sorted(range(len(spans)), key=spans.__getitem__):
        start, end = spans[index]
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        found[index] = heappop(free) if free else len(busy)
        heappush(busy, (end, found[index]))
    return found


def _origin_ns(analysis: TraceAnalysis) -> int:
    starts = (
        analysis.clocks[rank].to_reference(start_ns)
        for rank, own in analysis.by_rank.items()
        for start_ns in chain(
            (window.start_ns for window in own.windows),
            (one.start_ns for one in own.collectives),
            (int(part[0, 0]) for part in (own.compute, own.memory, own.launch_idle) if len(part)),
        )
    )
    return min(starts, default=0)


def _meeting(one: MatchedCollective, clocks: Mapping[int, RankClock]) -> _Meeting:
    arrivals = {rank: clocks[rank].to_reference(part.start_ns) for rank, part in one.parts.items()}
    last = max(arrivals, key=lambda rank: (arrivals[rank], -rank))
    return _Meeting(one=one, last=last, ready_ns=arrivals[last])


def _tracks(rank: int, analysis: TraceAnalysis, meeting_of: Mapping[int, _Meeting]) -> Iterator[_Track]:
    own, clock, communication = analysis.by_rank[rank], analysis.clocks[rank], analysis.communication[rank]
    yield from _steps(rank, analysis, clock)
    for name, covered in (("compute", own.compute), ("memory copies", own.memory), ("idle before launch", own.launch_idle)):
        if len(covered):
            yield _Track(name=name, slices=_stretches(name, name, covered, clock))
    for name, covered in (("transfer", communication.transfer), ("waiting", communication.waiting)):
        if len(covered):
            exposed = _stretches(f"exposed {name}", name, without(covered, own.compute), clock)
            hidden = _stretches(f"hidden {name}", name, common(covered, own.compute), clock)
            yield _Track(name=name, slices=chain(exposed, hidden))
    yield from _collectives(own.collectives, clock, meeting_of)


def _steps(rank: int, analysis: TraceAnalysis, clock: RankClock) -> Iterator[_Track]:
    budgets = [own for own in analysis.budgets if own.rank == rank]
    slices = [
        _Slice(
            name=f"step {window.number}" if window.number >= 0 else "whole trace",
            category="step",
            start_ns=clock.to_reference(window.start_ns),
            end_ns=clock.to_reference(window.end_ns),
            args={"wall_us": budget.wall_ns / 1e3} | {f"{name}_us": part / 1e3 for name, part in budget.parts_ns().items()},
        )
        for window, budget in zip(analysis.by_rank[rank].windows, budgets, strict=True)
    ]
    for name, members in _apart("steps", [(own.start_ns, own.end_ns) for own in slices]):
        yield _Track(name=name, slices=[slices[index] for index in members])


def _collectives(own: Sequence[Collective], clock: RankClock, meeting_of: Mapping[int, _Meeting]) -> Iterator[_Track]:
    spans = [(clock.to_reference(one.start_ns), clock.to_reference(one.end_ns)) for one in own]
    for name, members in _apart("collectives", spans):
        together = [own[index] for index in members]
        slices = (part for one in together for part in _collective(one, clock, meeting_of.get(id(one))))
        yield _Track(name=name, slices=slices, collectives=together)


def _apart(name: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[str, list[int]]]:
    """Yield as many tracks as overlapping spans need, each with the positions of its own."""
    found: dict[int, list[int]] = {}
    for index, level in enumerate(levels(spans)):
        found.setdefault(level, []).append(index)
    for level in sorted(found):
        yield name if level == 0 else f"{name} {level + 1}", found[level]


def _stretches(name: str, category: str, covered: Intervals, clock: RankClock) -> Iterator[_Slice]:
    """Yield a slice for each interval; the numbers of a long set become Python's a chunk at a time."""
    for first in range(0, len(covered), _CHUNK):
        for interval in covered[first : first + _CHUNK].tolist():
            start_ns, end_ns = map(clock.to_reference, interval)
            yield _Slice(name=name, category=category, start_ns=start_ns, end_ns=end_ns)


def _collective(one: Collective, clock: RankClock, meeting: _Meeting | None) -> Iterator[_Slice]:
    """Yield the collective and, inside it, what of it is waiting and transfer, where another rank tells."""
    start_ns, end_ns = clock.to_reference(one.start_ns), clock.to_reference(one.end_ns)
    name = one.op if one.message_bytes is None else f"{one.op} {format_bytes(one.message_bytes)}"
    args, parts = _said_of(one), {}
    if meeting is not None:
        ready_ns = min(meeting.ready_ns, end_ns)
        parts = {"waiting": (start_ns, ready_ns), "transfer": (ready_ns, end_ns)}
        args |= {f"{part}_us": (until_ns - from_ns) / 1e3 for part, (from_ns, until_ns) in parts.items()}
        args |= {"ranks_seen": len(meeting.one.parts), "busbw_GB_per_s": _busbw_gb_per_s(meeting.one)}
    known = {key: value for key, value in args.items() if value is not None}
    yield _Slice(name=name, category="collective", start_ns=start_ns, end_ns=end_ns, args=known)
    for part, (from_ns, until_ns) in parts.items():
        if until_ns > from_ns:
            yield _Slice(name=part, category="collective", start_ns=from_ns, end_ns=until_ns)


def _said_of(one: Collective) -> dict[str, Any]:
    """Return what the rank's own trace says of a collective."""
    return {
        "op": one.op,
        "message_bytes": one.message_bytes,
        "dtype": _brief(one.dtype),
        "group": _brief(one.group or None),
        "group_size": one.group_size,
        "sequence": one.sequence,
        "step": one.step,
    }


def _busbw_gb_per_s(one: MatchedCollective) -> float | None:
    """Return the bus bandwidth of the rank that waited least; None where a rank of the group is missing."""
    size, transfer_ns = one.first.message_bytes, one.transfer_ns
    if not one.complete or len(one.parts) < 2 or not size or transfer_ns <= 0 or one.first.op not in OPERATIONS:
        return None
    return round(size / transfer_ns * OPERATIONS[one.first.op].bus_factor(len(one.parts)), 3)


def _brief(text: str | None) -> str | None:
    """Cut what a trace says short; Perfetto reads no file with control characters in it."""
    return None if text is None else printable(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}...")


def _arrows(
    meetings: Iterable[_Meeting], clocks: Mapping[int, RankClock], thread_of: Mapping[int, int], origin_ns: int
) -> Iterator[Event]:
    """Yield an arrow to each rank that was still in the collective when the last one came, start before end."""
    numbers = count(1)
    for own in meetings:
        ends = {rank: clocks[rank].to_reference(part.end_ns) for rank, part in own.one.parts.items()}
        still = [rank for rank, end_ns in ends.items() if end_ns > own.ready_ns]
        for rank in still if own.last in still else ():
            if rank == own.last:
                continue
            flow = {"name": "last arrival", "cat": "arrival", "id": next(numbers), "ts": (own.ready_ns - origin_ns) / 1e3}
            for phase, end in ({"ph": "s"}, own.last), ({"ph": "f", "bp": "e"}, rank):
                yield phase | flow | {"pid": end + 1, "tid": thread_of[id(own.one.parts[end])]}


def _process(rank: int, host: str | None) -> Iterator[Event]:
    name = f"rank {rank}" if host is None else f"rank {rank} ({_brief(host)})"
    yield {"ph": "M", "name": "process_name", "pid": rank + 1, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": rank + 1, "args": {"sort_index": rank}}


def _thread(rank: int, thread: int, name: str) -> Iterator[Event]:
    yield {"ph": "M", "name": "thread_name", "pid": rank + 1, "tid": thread, "args": {"name": name}}
    yield {"ph": "M", "name": "thread_sort_index", "pid": rank + 1, "tid": thread, "args": {"sort_index": thread}}


def _complete(rank: int, thread: int, own: _Slice, origin_ns: int) -> Event:
    return {
        "ph": "X",
        "name": own.name,
        "cat": own.category,
        "pid": rank + 1,
        "tid": thread,
        "ts": (own.start_ns - origin_ns) / 1e3,
        "dur": (own.end_ns - own.start_ns) / 1e3,
        "args": own.args,
    }
