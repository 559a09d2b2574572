"""What of one rank's trace is needed to understand a step? A few intervals and its collectives, a thousandth of the file.

**Where the GPU worked**, time is the GPU's: `compute` is the union of kernels that do not communicate, `memory` of copies and
fills. A step's window reaches from the end of the GPU work launched in the step before to the end of its own (the first begins
with its first GPU work): the CPU runs ahead, so its ProfilerStep windows would give one step's kernels to another. Idle time
before the launch call of the GPU's next work had returned is launch-bound: the host was late. Other idle
time waits for another stream.

**Without GPU work** (gloo), time is the main thread's, the one that ProfilerStep runs on: `compute` is the union of its
operators outside c10d, and the windows are ProfilerStep's. Python between operators, data loading and sleep are in no operator.

Times are nanoseconds of this rank's own clock.
"""

import re
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.bucket_launches import BucketLaunch, bucket_launches
from commprof.analysis.traces.one_rank.collectives import Collective, Launches, gloo_collectives, gloo_rows, gpu_collectives
from commprof.analysis.traces.one_rank.columns import Columns, distinct
from commprof.analysis.traces.one_rank.header import TraceHeader
from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE, KernelTable
from commprof.analysis.traces.one_rank.kernels import KERNEL_CATEGORIES, MEMORY_CATEGORIES, is_known
from commprof.analysis.traces.one_rank.kineto import ReadingNotes, Trace
from commprof.analysis.traces.one_rank.spans import NONE, Intervals, common, merged, union, without
from commprof.analysis.traces.one_rank.steps import NO_STEP, Steps, StepWindow, find_steps, place_orphans, step_at, steps_of_gpu
from commprof.analysis.traces.one_rank.unit_exchanges import UnitExchange, unit_exchanges
from commprof.analysis.traces.one_rank.work.kinds import KernelTime, KindTime, Launching, kind_times, launching, likely_kernels
from commprof.analysis.traces.one_rank.work.memory import MemoryPeak, memory_peaks
from commprof.analysis.traces.one_rank.work.modules import ModuleTime, module_times

_MARK = re.compile(r"ProfilerStep#|Optimizer\.step#")
# Ranges that may wait for the wire: commprof's around a communication hook, fully_shard's around its collectives.
_HOOK = re.compile(r"bucket \d{1,6}|FSDP::(?:all_gather|post_backward_reduce)(?: \(.*\))?$")
_LEAF = re.compile(r"aten::")
_CPU_COMMUNICATION = re.compile(r"c10d::|record_param_comms|gloo:|nccl:")
_SYNCHRONISES = re.compile(
    r"(?:cuda|hip|cu|xpu)\w*(?:Synchronize|EventQuery)|(?:cuda|hip)Memcpy|aten::(?:item|_local_scalar_dense)"
)
_LOADS_DATA = re.compile(r"enumerate\(DataLoader\)#|dataloader", re.IGNORECASE)
_MAX_CATEGORIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """GPU events without a launch call: how many were placed in a step by time, and their durations added up.

    `out_ns` is of those that stay out of all steps, `gpu_ns` of all the trace's GPU events.
    """

    num_placed: int = 0
    total_ns: int = 0
    out_ns: int = 0
    gpu_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTrace:
    """One rank's trace, reduced. `lag_ns` is how far the GPU's steps end behind the CPU's (median), where there are both.

    `buckets` are DDP's whose all-reduces are among the collectives, `units` fully_shard's exchanges; a training has one of
    them. `span_ns` is all recorded time, `begin_ns` its beginning. `steps_from` says what the steps were found from where they
    are not the profiler's. `idle_sync` and `idle_data` are the parts of `launch_idle` in which the host waited for the GPU or
    loaded data. `likely` are kernels that may communicate and count as computation. `not_understood` are categories of events
    that say nothing to us, with their numbers. `modules` are what
    the steps' computation and copies were launched for.
    """

    path: str
    header: TraceHeader
    notes: ReadingNotes
    on_gpu: bool
    windows: tuple[StepWindow, ...]
    collectives: tuple[Collective, ...]
    compute: Intervals
    memory: Intervals
    launch_idle: Intervals
    lag_ns: int | None
    num_gpu_events: int
    num_orphans: int
    span_ns: int
    buckets: tuple[BucketLaunch, ...] = ()
    begin_ns: int = 0
    steps_from: str = ""
    orphans: Orphans = field(default_factory=Orphans)
    idle_sync: Intervals = field(default_factory=NONE.copy)
    idle_data: Intervals = field(default_factory=NONE.copy)
    kernel_kinds: tuple[KindTime, ...] = ()
    launching: Launching = field(default_factory=Launching)
    likely: tuple[KernelTime, ...] = ()
    not_understood: tuple[tuple[str, int], ...] = ()
    modules: tuple[ModuleTime, ...] = ()
    units: tuple[UnitExchange, ...] = ()
    memory_peaks: tuple[MemoryPeak, ...] = ()


def reduce_trace(trace: Trace, table: KernelTable = DEFAULT_TABLE) -> RankTrace:
    """Reduce one rank's trace to what the analysis over all ranks needs; the table says which kernels communicate."""
    events = trace.events
    steps = find_steps(events)
    on_gpu = events.in_category(*KERNEL_CATEGORIES, *MEMORY_CATEGORIES)
    return _reduce_gpu(trace, steps, on_gpu, table) if on_gpu.any() else _reduce_cpu(trace, steps)


def _reduce_gpu(trace: Trace, found: Steps, on_gpu: NDArray[np.bool_], table: KernelTable) -> RankTrace:
    events = trace.events
    launches = Launches.of(events)
    rows = np.flatnonzero(on_gpu)
    launch = launches.of_correlations(events.correlation[rows])
    found = steps_of_gpu(found, events, launch.known)
    steps = found.windows
    if found.on_gpu:
        step = by_launch = step_at(steps, events.start_ns[rows])
        windows = steps
    else:
        by_launch = step_at(steps, launch.start_ns, launch.known)
        step = place_orphans(by_launch, launch.known, events.stream[rows], events.start_ns[rows])
        windows = _gpu_windows(steps, step, events, rows)
    communicates = communicating(events, table)[rows]
    covered = [_covered(events, rows[mask]) for mask in _kinds(events, rows, communicates)]
    communicating_rows, own_step = _in_time(events, rows[communicates], step[communicates])
    collectives = gpu_collectives(events, communicating_rows, launches, own_step, table)
    launched = launches.of_correlations(events.correlation[communicating_rows])
    on_cpu = () if found.on_gpu else steps
    units, _ = unit_exchanges(events, partial(step_at, on_cpu), collectives, launched)
    launch_idle = _launch_idle(merged(*covered), events.start_ns[rows], launch.end_ns, launch.known)
    idle_sync, idle_data = _idle_causes(events, launch_idle)
    ends = {window.number: window.end_ns for window in on_cpu}
    lags = [window.end_ns - ends[window.number] for window in windows if window.number in ends]
    asked = ~communicates & ((step != NO_STEP) | (not windows))
    computing = rows[events.in_category(*KERNEL_CATEGORIES)[rows] & ~communicates]
    return RankTrace(
        path=str(trace.path),
        header=trace.header,
        notes=trace.notes,
        on_gpu=True,
        windows=windows or _whole(events, rows),
        collectives=collectives,
        buckets=() if units else bucket_launches(events, partial(step_at, on_cpu), communicating_rows, collectives, launched),
        units=units,
        compute=covered[0],
        memory=covered[1],
        launch_idle=launch_idle,
        lag_ns=int(np.median(lags)) if lags else None,
        num_gpu_events=len(rows),
        num_orphans=int((~launch.known).sum()),
        span_ns=_span_ns(events),
        begin_ns=int(events.start_ns.min()),
        steps_from=found.found_from if windows else "",
        orphans=_orphans(events.duration_ns[rows], launch.known, step),
        idle_sync=idle_sync,
        idle_data=idle_data,
        kernel_kinds=kind_times(events, rows, step, communicates),
        launching=launching(events, launch.row, launch.start_ns, launch.known, events.start_ns[rows], step),
        likely=likely_kernels(events, computing, table),
        not_understood=_not_understood(events),
        modules=module_times(events, rows[asked], launches.of_correlations(events.correlation[rows[asked]])),
        memory_peaks=memory_peaks(events.levels, steps),
    )


def _reduce_cpu(trace: Trace, found: Steps) -> RankTrace:
    events, steps = trace.events, found.windows
    own = events.in_category("cpu_op", "", "operator")
    named, is_step, in_hook, leaf = (_matching(events, kind) for kind in (_CPU_COMMUNICATION, _MARK, _HOOK, _LEAF))
    main = np.isin(events.thread, events.thread[is_step]) if is_step.any() else np.ones(len(events), dtype=bool)
    work = _covered(events, np.flatnonzero(own & main & ~named & ~is_step))
    hooks, leaves = (_covered(events, np.flatnonzero(main & kind)) for kind in (in_hook, own & leaf))
    # A hook runs inside the operator that made the last gradient, and may wait there for the wire.
    work = merged(without(work, hooks), leaves)
    waits = _covered(events, np.flatnonzero(own & main & named))
    rows = gloo_rows(events)
    called = gloo_collectives(events, rows, step_at(steps, events.start_ns[rows]), trace.header.group_size)
    units, collectives = unit_exchanges(events, partial(step_at, steps), called, None)
    return RankTrace(
        path=str(trace.path),
        header=trace.header,
        notes=trace.notes,
        on_gpu=False,
        windows=steps or _whole(events, np.arange(len(events))),
        collectives=collectives,
        buckets=() if units else bucket_launches(events, partial(step_at, steps), rows, collectives, None),
        units=units,
        compute=without(work, waits),
        memory=NONE,
        launch_idle=NONE,
        lag_ns=None,
        num_gpu_events=0,
        num_orphans=0,
        span_ns=_span_ns(events),
        begin_ns=int(events.start_ns.min()),
        steps_from=found.found_from if steps else "",
        not_understood=_not_understood(events),
        memory_peaks=memory_peaks(events.levels, steps),
    )


def _orphans(durations_ns: NDArray[np.int64], known: NDArray[np.bool_], step: NDArray[np.int64]) -> Orphans:
    out = ~known & (step == NO_STEP)
    return Orphans(
        num_placed=int((~known & ~out).sum()),
        total_ns=int(durations_ns[~known].sum()),
        out_ns=int(durations_ns[out].sum()),
        gpu_ns=int(durations_ns.sum()),
    )


def _not_understood(events: Columns) -> tuple[tuple[str, int], ...]:
    """Return the categories that say nothing to us; none at all, too, where the host's own events name theirs (Ascend's)."""
    counts = np.bincount(events.category, minlength=len(events.categories)).tolist()
    named = any(category in ("cpu_op", "operator", "Operator") for category in events.categories)
    found = [
        (name[:200] or "(none)", count)
        for name, count in zip(events.categories, counts, strict=True)
        if count and not (is_known(name) if name else not named)
    ]
    return tuple(sorted(found, key=lambda own: -own[1])[:_MAX_CATEGORIES])


def _matching(events: Columns, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return np.array([pattern.match(name) is not None for name in events.names])[events.name]


def _in_time(events: Columns, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(events.start_ns[rows], kind="stable")
    return rows[order], steps[order]


def communicating(events: Columns, table: KernelTable = DEFAULT_TABLE) -> NDArray[np.bool_]:
    """Return which kernels communicate, going by their names."""
    kernels = events.in_category(*KERNEL_CATEGORIES)
    telling = np.zeros(len(events.names), dtype=bool)
    for code in distinct(events.name[kernels]):
        telling[code] = table.find(events.names[code]) is not None
    return telling[events.name] & kernels


def _kinds(events: Columns, rows: NDArray[np.int64], communicates: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], ...]:
    kernels = events.in_category(*KERNEL_CATEGORIES)[rows]
    return kernels & ~communicates, ~kernels, communicates


def _covered(events: Columns, rows: NDArray[np.int64]) -> Intervals:
    return union(events.start_ns[rows], events.end_ns(rows))


def _gpu_windows(
    steps: tuple[StepWindow, ...], step: NDArray[np.int64], events: Columns, rows: NDArray[np.int64]
) -> tuple[StepWindow, ...]:
    """Return the steps as the GPU lived them; a step without GPU work of its own has no window."""
    windows: list[StepWindow] = []
    for own in steps:
        mine = rows[step == own.number]
        if not len(mine):
            continue
        start = windows[-1].end_ns if windows else int(events.start_ns[mine].min())
        end = int(events.end_ns(mine).max())
        if end > start:
            windows.append(StepWindow(number=own.number, start_ns=start, end_ns=end))
    return tuple(windows)


def _span_ns(events: Columns) -> int:
    return int((events.start_ns + events.duration_ns).max() - events.start_ns.min())


def _whole(events: Columns, rows: NDArray[np.int64]) -> tuple[StepWindow, ...]:
    start, end = int(events.start_ns[rows].min()), int(events.end_ns(rows).max())
    return (StepWindow(number=NO_STEP, start_ns=start, end_ns=end),) if end > start else ()


def _launch_idle(
    busy: Intervals, start_ns: NDArray[np.int64], launched_ns: NDArray[np.int64], known: NDArray[np.bool_]
) -> Intervals:
    """Return the idle time that ends when the launch call of the GPU's next work returns."""
    if len(busy) < 2:
        return NONE
    order = np.argsort(start_ns, kind="stable")
    following = order[np.searchsorted(start_ns[order], busy[1:, 0], side="left")]
    until = np.where(known[following], np.minimum(launched_ns[following], busy[1:, 0]), busy[:-1, 1])
    return union(busy[:-1, 1], until)


def _idle_causes(events: Columns, launch_idle: Intervals) -> tuple[Intervals, Intervals]:
    """Return what of the time that waits for a launch follows a wait of the host for the GPU, and what is data loading.

    The host that waits for the GPU has nothing launched ahead: the whole gap is the synchronisation's, to its end.
    """
    host = ~events.in_category(*KERNEL_CATEGORIES, *MEMORY_CATEGORIES, "gpu_user_annotation", "cuda_sync")
    waits = _covered(events, np.flatnonzero(host & _matching(events, _SYNCHRONISES)))
    loads = common(launch_idle, _covered(events, np.flatnonzero(host & _matching(events, _LOADS_DATA))))
    last = np.searchsorted(waits[:, 0], launch_idle[:, 0], side="right") - 1
    inside = (last >= 0) & (waits[np.maximum(last, 0), 1] > launch_idle[:, 0]) if len(waits) else np.zeros(len(last), bool)
    return without(launch_idle[inside], loads), loads
