"""What is wrong with these traces, before anything is concluded from them? One line a finding, in words.

Ranks come from the traces themselves, else from the files' names, else from the files' order; a rank that occurs twice is taken
from the first file.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.traces.all_ranks.matched.clocks import RankClock
from commprof.analysis.traces.all_ranks.matched.matching import Matching
from commprof.analysis.traces.one_rank.files import rank_in_name
from commprof.analysis.traces.one_rank.kernel_names.libraries import function_name
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.steps import NO_STEP, REPEATED
from commprof.analysis.traces.one_rank.work.kinds import KernelTime
from commprof.commbench.units import format_bytes, format_seconds

_MIN_COVERED = 0.5
_LAG = 0.1  # of a step
_MAX_NAMED = 8
_MAX_KERNELS = 5
_MAX_NAME = 80
_WORTH_NAMING = 0.01  # of the computation
_FAR_NS = 10**9
_ENDLESS_NS = 7 * 86_400 * 10**9
_HINT = "With profile(..., schedule=torch.profiler.schedule(wait=1, warmup=1, active=12)) and a step() each step it marks them"


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
                Finding(name="duplicate", message=f"{trace.path} is left out: {by_rank[rank].path} is rank {rank} too")
            )
        else:
            by_rank[rank] = trace
    return dict(sorted(by_rank.items())), findings


def _next_free(by_rank: Mapping[int, RankTrace]) -> int:
    return next(rank for rank in range(len(by_rank) + 1) if rank not in by_rank)


def examine(
    by_rank: Mapping[int, RankTrace], world_size: int | None, matching: Matching, clocks: Mapping[int, RankClock]
) -> list[Finding]:
    """Return everything that limits what these traces can tell."""
    own = [(name, f"rank {rank}: {message}") for rank, trace in by_rank.items() for name, message in _of(trace)]
    together = [*_of_communication(by_rank, world_size), *own, *_of_all(by_rank, world_size, matching, clocks)]
    return [Finding(name=name, message=message) for name, message in together]


def _of_communication(by_rank: Mapping[int, RankTrace], world_size: int | None) -> Iterator[tuple[str, str]]:
    """Say where communication may be counted as computation, with the kernels that most likely communicate."""
    likely = _likely(by_rank.values())
    on_gpu = any(own.on_gpu for own in by_rank.values())
    if on_gpu and (world_size or 1) > 1 and not any(own.collectives for own in by_rank.values()):
        named = f"; most likely do: {_kernels(likely)}" if likely else "; none has a name that reads as if it did"
        yield (
            "communication",
            f"the job has {world_size} ranks and no kernel is known to communicate, so all count as computation{named}. "
            "--kernel PATTERN=OPERATION says which do",
        )
        return
    compute_ns = sum(own.total_ns for trace in by_rank.values() for own in trace.kernel_kinds if own.kind != "communication")
    likely = [own for own in likely if own.looks]
    if likely and sum(own.total_ns for own in likely) > _WORTH_NAMING * compute_ns:
        yield (
            "likely communication",
            f"counted as computation, may communicate: {_kernels(likely)}. --kernel PATTERN=OPERATION, or =none, settles it",
        )


def _likely(traces: Iterable[RankTrace]) -> list[KernelTime]:
    """Return the likely kernels of all ranks by their time together, the longest first."""
    found: dict[str, list[KernelTime]] = defaultdict(list)
    for trace in traces:
        for own in trace.likely:
            found[own.name].append(own)
    together = [
        KernelTime(
            name=name,
            count=sum(own.count for own in same),
            total_ns=sum(own.total_ns for own in same),
            looks=same[0].looks,
        )
        for name, same in found.items()
    ]
    return sorted(together, key=lambda own: (not own.looks, -own.total_ns))[:_MAX_KERNELS]


def _kernels(likely: Iterable[KernelTime]) -> str:
    return ", ".join(
        f"{function_name(own.name)[:_MAX_NAME]} ({_many(own.count, 'time')}, {format_seconds(own.total_ns / 1e9)})"
        for own in likely
    )


def _of(trace: RankTrace) -> Iterator[tuple[str, str]]:
    notes = trace.notes
    if notes.damage:
        share = notes.lost_bytes / notes.text_bytes
        yield (
            "damaged",
            f"{trace.path}: {notes.damage}; {_many(notes.num_events, 'event')} {_is(notes.num_events)} kept, "
            f"{format_bytes(notes.lost_bytes)} behind "
            f"the last complete one are lost ({share:.2%} of the text that is there)",
        )
    if notes.num_unreadable:
        yield "unreadable", f"{notes.num_unreadable:,} of {_many(notes.num_events, 'event')} cannot be read, and left out"
    if trace.span_ns > _ENDLESS_NS:
        yield (
            "damaged",
            f"its events span {format_seconds(trace.span_ns / 1e9)}, which no profile does: some event's time is damaged",
        )
    if notes.num_python:
        yield (
            "overhead",
            f"{_many(notes.num_python, 'Python stack frame')} recorded, which slows a step; drop with_stack",
        )
    if trace.not_understood:
        named, count = ", ".join(name for name, _ in trace.not_understood), sum(count for _, count in trace.not_understood)
        alone = "" if trace.on_gpu else "; if these are an accelerator's work, the budget is of the CPU only"
        yield (
            "not understood",
            f"{_many(count, 'event')} of category {named} {_is(count)} not understood{alone}",
        )
    if trace.num_orphans:
        yield "orphans", _orphans(trace)
    yield from _of_steps(trace)


def _orphans(trace: RankTrace) -> str:
    own, num_out = trace.orphans, trace.num_orphans - trace.orphans.num_placed
    head = f"{trace.num_orphans:,} of {trace.num_gpu_events:,} GPU events have no launch call"
    if not own.gpu_ns:  # reduced by an older release, which only counted them
        return f"{head}, so belong to no step"
    weight = f", {format_seconds(own.total_ns / 1e9)} or {own.total_ns / own.gpu_ns:.1%} of the GPU's time"
    if trace.steps_from == REPEATED or (trace.windows and trace.windows[0].number == NO_STEP):
        return head + weight
    placed = f"{own.num_placed:,} {_is(own.num_placed)} placed in steps by time on their stream" if own.num_placed else ""
    out = f"{num_out:,} ({format_seconds(own.out_ns / 1e9)}) stay out of all steps" if num_out else ""
    return f"{head}{weight}: {', '.join(filter(None, [placed, out]))}"


def _of_steps(trace: RankTrace) -> Iterator[tuple[str, str]]:
    if not trace.windows:
        yield "steps", "nothing in it takes any time"
        return
    if trace.windows[0].number == NO_STEP:
        yield "steps", _without_steps(trace)
    if trace.steps_from:
        yield "steps", _steps_found(trace)
    if not trace.on_gpu and not trace.collectives and not trace.not_understood:
        yield "cpu", "it holds neither GPU work nor gloo's collectives: only what the CPU did can be told"
    covered = sum(window.wall_ns for window in trace.windows)
    if covered < _MIN_COVERED * trace.span_ns:
        yield "coverage", f"its steps cover only {covered / trace.span_ns:.1%} of the recorded time"
    if trace.lag_ns is not None and trace.lag_ns > _LAG * covered / len(trace.windows):
        yield "lag", f"the GPU's steps end {format_seconds(trace.lag_ns / 1e9)} behind the CPU's; windows go by the GPU"


def _steps_found(trace: RankTrace) -> str:
    launched = trace.num_orphans < trace.num_gpu_events
    why = "it marks no steps" if launched or not trace.on_gpu else "no GPU event has a launch call that would lead to a step"
    begin = "; where one begins is not known" if trace.steps_from == REPEATED else ""
    found = f"{why}; its {len(trace.windows)} {_is(len(trace.windows))} found from {trace.steps_from}, counted from 0{begin}"
    return f"{found}. {_HINT}" if launched or not trace.on_gpu else found


def _without_steps(trace: RankTrace) -> str:
    if trace.on_gpu and trace.num_orphans == trace.num_gpu_events:
        return "no GPU event has a launch call, so none is known to belong to a step; the whole trace counts as one"
    return f"it marks no steps, and none could be found; the whole trace counts as one. {_HINT}"


def _of_all(
    by_rank: Mapping[int, RankTrace], world_size: int | None, matching: Matching, clocks: Mapping[int, RankClock]
) -> Iterator[tuple[str, str]]:
    sizes = {own.header.world_size for own in by_rank.values() if own.header.world_size is not None}
    if len(sizes) > 1:
        yield "world size", f"the traces are of jobs of {', '.join(map(str, sorted(sizes)))} ranks; they do not belong together"
    beyond = [rank for rank in by_rank if rank >= (world_size or rank + 1)]
    if beyond and world_size:
        yield "world size", f"rank {_named(beyond)} cannot be of a job of {world_size} ranks, which are 0 to {world_size - 1}"
    missing = [rank for rank in range(world_size or 0) if rank not in by_rank]
    if missing:
        yield "missing", f"{len(missing)} of {world_size} ranks have no trace: {_named(missing)}"
    yield from _of_clocks(by_rank, clocks)
    yield from _of_steps_together(by_rank)
    unsized = sum(one.message_bytes is None for own in by_rank.values() for one in own.collectives if one.op != "barrier")
    if unsized:
        total = sum(len(own.collectives) for own in by_rank.values())
        yield "sizes", f"{unsized:,} of {total:,} collectives carry no size: no bandwidth for these"
    if matching.unmatched and len(by_rank) > 1:
        lost = sum(own.count for own in matching.unmatched)
        first = matching.unmatched[0]
        yield (
            "unmatched",
            f"{_many(lost, 'collective')} without a partner, for example {first.count} {first.op}: {first.reason}",
        )


def _of_clocks(by_rank: Mapping[int, RankTrace], clocks: Mapping[int, RankClock]) -> Iterator[tuple[str, str]]:
    if len({own.notes.whole_us for own in by_rank.values()}) > 1:
        yield "clocks", "some ranks' clocks count whole microseconds, others nanoseconds"
    if len({own.header.base_ns is None for own in by_rank.values()}) > 1:
        yield "clocks", "some traces do not say when their clock began"
        return
    far = {rank: own.offset_ns for rank, own in clocks.items() if own.corrected and abs(own.offset_ns) >= _FAR_NS}
    if far:
        rank = max(far, key=lambda own: abs(far[own]))
        yield (
            "clocks",
            f"rank {_named(sorted(far))}: corrected by up to {format_seconds(abs(far[rank]) / 1e9)} against rank "
            f"{min(by_rank)}; clocks of one cluster differ by milliseconds, so these may be traces of two runs",
        )


def _of_steps_together(by_rank: Mapping[int, RankTrace]) -> Iterator[tuple[str, str]]:
    counts = Counter(window.number for own in by_rank.values() for window in own.windows)
    partial = [number for number, count in counts.items() if count < len(by_rank)]
    if partial:
        yield "steps", f"not every rank has the steps {_named(sorted(partial))}"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MAX_NAMED]))
    return shown if len(numbers) <= _MAX_NAMED else f"{shown} and {len(numbers) - _MAX_NAMED} more"
