"""Which of these traces are of one run?

Runs are told apart by what cannot be of one: our own run folders, numbers of ranks, and wall time, for the ranks of a run
work at the same time. Clocks of hosts may differ, so traces belong together up to MAX_APART_S apart. Where a rank then still
occurs twice, its traces are told apart by the first of these that gives every run each rank once: folders, what files' names
say beside the rank, hosts, and strict wall time (windows of a profiler's schedule). Where none does, people are asked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.traces.all_ranks.doctor import Finding
from commprof.analysis.traces.one_rank.files import Refused, find_traces, name_without_rank, rank_in_name, read_each
from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE, KernelTable
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.steps import NO_STEP
from commprof.analysis.traces.sets.untraced import run_of
from commprof.commbench.errors import BadInput
from commprof.commbench.units import format_seconds

MAX_APART_S = 5.0
_MAX_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTraces:
    """The traces of one run by their files, and what people should know of how they were chosen."""

    name: str
    files: tuple[Path, ...]
    traces: tuple[RankTrace, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A file and the trace in it. The rank is None where nothing names it."""

    path: Path
    trace: RankTrace

    @property
    def rank(self) -> int | None:
        named = self.trace.header.rank
        return rank_in_name(self.trace.path) if named is None else named

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """When it was recorded, or None where its clock began at an unknown time."""
        if self.trace.header.base_ns is None:
            return None
        begin_ns = self.trace.begin_ns or min((own.start_ns for own in self.trace.windows), default=0)
        return begin_ns, begin_ns + self.trace.span_ns

    @property
    def marked(self) -> list[int]:
        """The numbers of the steps that the profiler marked, in order."""
        windows = () if self.trace.steps_from else self.trace.windows
        return sorted(own.number for own in windows if own.number != NO_STEP)


def read_runs(paths: Sequence[Path], table: KernelTable = DEFAULT_TABLE) -> list[RunTraces]:
    """Read all traces that paths stand for and return those of each run, in the order of their files.

    What lies in a folder and is no trace is left out and named; raises BadInput for such a file that was named itself, where
    nothing is left, and where a rank occurs twice and nothing tells which of the two is meant.
    """
    read, refused = _read(paths, table)
    groups = _split_all(read)
    left_out = [Finding(name="left out", message=f"left out: {own.message}") for own in refused]
    names = _names(groups)
    return [
        RunTraces(
            name=name,
            files=tuple(own.path for own in group),
            traces=tuple(own.trace for own in group),
            findings=(*_other_runs(group, groups), *left_out, *_apart(group)),
        )
        for name, group in zip(names, groups, strict=True)
    ]


def read_one_run(paths: Sequence[Path], table: KernelTable = DEFAULT_TABLE, *, what: str = "") -> RunTraces:
    """Return the traces of the one run that paths hold. Raises BadInput where they are of several; `what` says why one."""
    runs = read_runs(paths, table)
    if len(runs) > 1:
        named = "; ".join(f"{own.name} ({_ranks(own.traces)}, for example {own.files[0]})" for own in runs[:_MAX_NAMED])
        more = f"; and {len(runs) - _MAX_NAMED} more" if len(runs) > _MAX_NAMED else ""
        raise BadInput(f"these are traces of {len(runs)} runs: {named}{more}; {what or 'name those of one'}")
    return runs[0]


def _read(paths: Sequence[Path], table: KernelTable) -> tuple[list[_Read], list[Refused]]:
    files = find_traces(paths)
    found = read_each(files, table)
    named = set(paths)
    refused = [own for own in found if isinstance(own, Refused)]
    read = [_Read(path=path, trace=own) for path, own in zip(files, found, strict=True) if not isinstance(own, Refused)]
    fatal = next((own for own in refused if own.path in named or not read), None)
    if fatal is not None:
        raise BadInput(fatal.message)
    return read, refused


def _split_all(read: Sequence[_Read]) -> list[list[_Read]]:
    groups = _by(read, lambda own: run_of(own.path))
    groups = [part for group in groups for part in _by_world_size(group)]
    groups = [part for group in groups for part in _by_time(group, round(MAX_APART_S * 1e9))]
    return [part for group in groups for part in _by_rank(group)]


def _by(read: Iterable[_Read], key: Callable[[_Read], Hashable]) -> list[list[_Read]]:
    groups: dict[Hashable, list[_Read]] = defaultdict(list)
    for own in read:
        groups[key(own)].append(own)
    return list(groups.values())


def _by_world_size(read: list[_Read]) -> list[list[_Read]]:
    """Part traces of different numbers of ranks; one that names none stays with the only number there is."""
    named = {own.trace.header.world_size for own in read} - {None}
    return [read] if len(named) < 2 else _by(read, lambda own: own.trace.header.world_size)


def _by_time(read: list[_Read], apart_ns: int) -> list[list[_Read]]:
    """Part traces between which nothing was recorded for so long; those of unknown time stay together."""
    timed = sorted((own for own in read if own.span_ns), key=lambda own: own.span_ns or (0, 0))
    groups: list[list[_Read]] = []
    reach_ns = 0
    for own in timed:
        begin_ns, end_ns = own.span_ns or (0, 0)
        if not groups or begin_ns > reach_ns + apart_ns:
            groups.append([])
        groups[-1].append(own)
        reach_ns = max(reach_ns, end_ns)
    timeless = [own for own in read if own.span_ns is None]
    if len(groups) <= 1:
        return [read]
    order = {id(own): index for index, own in enumerate(read)}
    return [sorted(group, key=lambda own: order[id(own)]) for group in groups] + ([timeless] if timeless else [])


def _by_rank(read: list[_Read]) -> list[list[_Read]]:
    """Part traces in which a rank occurs twice, by what gives every run each rank once; else ask."""
    twice = _most_often(read)
    if twice <= 1:
        return [read]
    for groups in _partitions(read):
        if len(groups) == twice and all(_most_often(group) <= 1 for group in groups):
            return groups
    first, second = _same_rank(read)
    raise BadInput(
        f"{first.path} and {second.path} are both rank {first.rank}, and nothing tells their runs apart; name those of one run"
    )


def _partitions(read: list[_Read]) -> Iterator[list[list[_Read]]]:
    yield _by(read, lambda own: own.path.absolute().parent)
    yield _by(read, lambda own: name_without_rank(own.path))
    hosts = _by(read, lambda own: own.trace.header.host_name)
    if len({frozenset(own.rank for own in host) for host in hosts}) == 1:  # else one run may be spread over hosts
        yield hosts
    yield _by_time(read, 0)


def _most_often(read: Iterable[_Read]) -> int:
    return max(Counter(own.rank for own in read if own.rank is not None).values(), default=0)


def _same_rank(read: Sequence[_Read]) -> tuple[_Read, _Read]:
    seen: dict[int, _Read] = {}
    for own in read:
        if own.rank is not None and own.rank in seen:
            return seen[own.rank], own
        if own.rank is not None:
            seen[own.rank] = own
    raise AssertionError("no rank occurs twice")


def _names(groups: Sequence[Sequence[_Read]]) -> list[str]:
    """Return a name for each run: its folder's, what its files are called beside the rank, or a number behind it."""
    found = [run_of(group[0].path) or group[0].path.absolute().parent for group in groups]
    names = [path.name or str(path) for path in found]
    if len(set(names)) < len(names):
        names = [name_without_rank(group[0].path) for group in groups]
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return numbered


def _other_runs(group: Sequence[_Read], groups: Sequence[Sequence[_Read]]) -> Iterator[Finding]:
    """Say why other traces that were named with these are not taken to be of their run."""
    others = [own for other in groups if other is not group for own in other]
    if not others:
        return
    here, there = group[0], others[0]
    if run_of(here.path) != run_of(there.path):
        why = "in another run's folder"
    elif here.trace.header.world_size != there.trace.header.world_size:
        why = f"of a job of {there.trace.header.world_size or 'unnamed'} ranks, not {here.trace.header.world_size}"
    elif (gap_ns := _gap_ns(group, others)) > 0:
        why = f"recorded {format_seconds(gap_ns / 1e9)} apart from these, and the ranks of a run work at the same time"
    else:
        why = "of the same ranks at the same time"
    several = len(others) > 1
    named = f"{len(others)} other trace{'s' * several}, for example {there.path}, {'are' if several else 'is'}"
    if _is_window_of(here, there):
        message = f"{named} most likely of another window of this run's profiler ({_steps_of(there)}, here {_steps_of(here)})"
        yield Finding(name="other window", message=f"{message}: each window is answered for itself")
        return
    yield Finding(name="other run", message=f"{named} {why}: not of this run")


def _is_window_of(here: _Read, there: _Read) -> bool:
    """Say whether one process went on to record the other: the same rank and host, later in time and in the step's number."""
    heads = [(own.rank, own.trace.header.host_name, own.trace.header.world_size, run_of(own.path)) for own in (here, there)]
    spans = (here.span_ns, there.span_ns)
    if heads[0] != heads[1] or None in spans or not (here.marked and there.marked):
        return False
    first, second = sorted((here, there), key=lambda own: own.span_ns or (0, 0))
    return first.marked[-1] < second.marked[0] and (first.span_ns or (0, 0))[1] <= (second.span_ns or (0, 0))[0]


def _steps_of(own: _Read) -> str:
    return f"steps {own.marked[0]} to {own.marked[-1]}"


def _gap_ns(group: Iterable[_Read], others: Iterable[_Read]) -> int:
    """Return how long passed between one run's traces and the nearest of others; 0 where they overlap or nothing tells."""
    mine = [own.span_ns for own in group if own.span_ns]
    theirs = [own.span_ns for own in others if own.span_ns]
    return max(0, min((max(a[0] - b[1], b[0] - a[1]) for a in mine for b in theirs), default=0))


def _apart(group: Sequence[_Read]) -> Iterator[Finding]:
    """Say where ranks of a run share no wall time by their clocks."""
    spans = sorted(own.span_ns for own in group if own.span_ns)
    reach_ns = spans[0][1] if spans else 0
    for begin_ns, end_ns in spans:
        if begin_ns > reach_ns:
            yield Finding(
                name="clocks",
                message=f"some ranks' traces begin {format_seconds((begin_ns - reach_ns) / 1e9)} after others' end by their "
                "clocks: these are off, or the traces are of two runs",
            )
            return
        reach_ns = max(reach_ns, end_ns)


def _ranks(traces: Sequence[RankTrace]) -> str:
    return f"{len(traces)} trace{'s' * (len(traces) != 1)}"
