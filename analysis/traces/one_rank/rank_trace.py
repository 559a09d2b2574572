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
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.bucket_launches import BucketLaunch, bucket_launches
from commprof.analysis.traces.one_rank.collectives import Collective, Launches, gloo_collectives, gloo_rows, gpu_collectives
from commprof.analysis.traces.one_rank.columns import Columns
from commprof.analysis.traces.one_rank.kernels import KERNEL_CATEGORIES, MEMORY_CATEGORIES, is_communication
from commprof.analysis.traces.one_rank.kineto import ReadingNotes, Trace, TraceHeader
from commprof.analysis.traces.one_rank.spans import NONE, Intervals, merged, union, without

_STEP = re.compile(r"ProfilerStep#(\d{1,15})")
_HOOK = re.compile(r"bucket \d{1,6}")  # commprof's range around a communication hook
_LEAF = re.compile(r"aten::")
_CPU_COMMUNICATION = re.compile(r"c10d::|record_param_comms|gloo:|nccl:")
NO_STEP = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWindow:
    """One step of one rank; its number is the profiler's, or NO_STEP where the whole trace stands for one."""

    number: int
    start_ns: int
    end_ns: int

    @property
    def wall_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTrace:
    """One rank's trace, reduced. `lag_ns` is how far the GPU's steps end behind the CPU's (median), where there are both.

    `buckets` are DDP's whose all-reduces are among the collectives. `num_orphans` GPU events have no launch call in the trace
    and so no step of their own. `span_ns` is all recorded time.
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


def reduce_trace(trace: Trace) -> RankTrace:
    """Reduce one rank's trace to what the analysis over all ranks needs."""
    events = trace.events
    steps = profiler_steps(events)
    on_gpu = events.in_category(*KERNEL_CATEGORIES, *MEMORY_CATEGORIES)
    return _reduce_gpu(trace, steps, on_gpu) if on_gpu.any() else _reduce_cpu(trace, steps)


def _reduce_gpu(trace: Trace, steps: tuple[StepWindow, ...], on_gpu: NDArray[np.bool_]) -> RankTrace:
    events = trace.events
    launches = Launches.of(events)
    rows = np.flatnonzero(on_gpu)
    launch = launches.of_correlations(events.correlation[rows])
    step = step_at(steps, launch.start_ns, launch.known)
    communicates = communicating(events)[rows]
    windows = _gpu_windows(steps, step, events, rows) or _whole(events, rows)
    covered = [_covered(events, rows[mask]) for mask in _kinds(events, rows, communicates)]
    communicating_rows, own_step = _in_time(events, rows[communicates], step[communicates])
    collectives = gpu_collectives(events, communicating_rows, launches, own_step)
    launched = launches.of_correlations(events.correlation[communicating_rows])
    busy = merged(*covered)
    ends = {window.number: window.end_ns for window in steps}
    lags = [window.end_ns - ends[window.number] for window in windows if window.number in ends]
    return RankTrace(
        path=str(trace.path),
        header=trace.header,
        notes=trace.notes,
        on_gpu=True,
        windows=windows,
        collectives=collectives,
        buckets=bucket_launches(events, partial(_steps_at, steps), communicating_rows, collectives, launched),
        compute=covered[0],
        memory=covered[1],
        launch_idle=_launch_idle(busy, events.start_ns[rows], launch.end_ns, launch.known),
        lag_ns=int(np.median(lags)) if lags else None,
        num_gpu_events=len(rows),
        num_orphans=int((~launch.known).sum()),
        span_ns=_span_ns(events),
    )


def _reduce_cpu(trace: Trace, steps: tuple[StepWindow, ...]) -> RankTrace:
    events = trace.events
    own = events.in_category("cpu_op", "", "operator")
    named, is_step, in_hook, leaf = (_matching(events, kind) for kind in (_CPU_COMMUNICATION, _STEP, _HOOK, _LEAF))
    main = np.isin(events.thread, events.thread[is_step]) if is_step.any() else np.ones(len(events), dtype=bool)
    work = _covered(events, np.flatnonzero(own & main & ~named & ~is_step))
    hooks, leaves = (_covered(events, np.flatnonzero(main & kind)) for kind in (in_hook, own & leaf))
    # A hook runs inside the operator that made the last gradient, and may wait there for the wire.
    work = merged(without(work, hooks), leaves)
    waits = _covered(events, np.flatnonzero(own & main & named))
    rows = gloo_rows(events)
    collectives = gloo_collectives(events, rows, _steps_at(steps, events.start_ns[rows]))
    return RankTrace(
        path=str(trace.path),
        header=trace.header,
        notes=trace.notes,
        on_gpu=False,
        windows=steps or _whole(events, np.arange(len(events))),
        collectives=collectives,
        buckets=bucket_launches(events, partial(_steps_at, steps), rows, collectives, None),
        compute=without(work, waits),
        memory=NONE,
        launch_idle=NONE,
        lag_ns=None,
        num_gpu_events=0,
        num_orphans=0,
        span_ns=_span_ns(events),
    )


def _matching(events: Columns, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return np.array([pattern.match(name) is not None for name in events.names])[events.name]


def profiler_steps(events: Columns) -> tuple[StepWindow, ...]:
    """Return the CPU's ProfilerStep windows in order of time; one that takes none is no step."""
    numbers = {code: int(found[1]) for code, name in enumerate(events.names) if (found := _STEP.fullmatch(name))}
    rows = np.flatnonzero(np.isin(events.name, list(numbers)) & ~events.in_category("gpu_user_annotation"))
    rows = rows[np.argsort(events.start_ns[rows], kind="stable")]
    return tuple(
        StepWindow(number=numbers[int(events.name[row])], start_ns=start_ns, end_ns=end_ns)
        for row in rows.tolist()
        for start_ns, end_ns in (events.span_ns(row),)
        if end_ns > start_ns
    )


def step_at(steps: tuple[StepWindow, ...], times_ns: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of the step in which each time falls; a step lasts until the next one begins."""
    if not steps:
        return np.full(len(times_ns), NO_STEP, dtype=np.int64)
    starts = np.array([step.start_ns for step in steps])
    numbers = np.array([step.number for step in steps])
    index = np.searchsorted(starts, times_ns, side="right") - 1
    inside = known & (index >= 0) & (times_ns <= steps[-1].end_ns)
    return np.where(inside, numbers[np.maximum(index, 0)], NO_STEP)


def _steps_at(steps: tuple[StepWindow, ...], times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return step_at(steps, times_ns, np.ones(len(times_ns), dtype=bool))


def _in_time(events: Columns, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(events.start_ns[rows], kind="stable")
    return rows[order], steps[order]


def communicating(events: Columns) -> NDArray[np.bool_]:
    """Return which kernels communicate, going by their names."""
    telling = np.array([is_communication(name) for name in events.names])
    return telling[events.name] & events.in_category(*KERNEL_CATEGORIES)


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
