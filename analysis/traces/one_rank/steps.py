"""Where does a step begin and end, and to which step does each piece of GPU work belong?

Steps are the profiler's (`ProfilerStep#N`). A trace without them still shows them where an optimizer steps, for a step ends
with the optimizer's; else where the GPU's kernels repeat exactly, and then only a step's length is known, not where it
begins. Both are said to be found so. Steps found are numbered from 0.

GPU work belongs to the step in which its launch call lies. Work without one (a graph's replay, a correlation that was lost)
is placed by time on its stream, which runs in the order of launches: into the step of whatever was begun last on any stream,
but not before the placed work that precedes it on its own nor behind that which follows it. What comes before all placed
work, or behind work that was launched outside of all steps, stays out.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.columns import Columns, distinct
from commprof.analysis.traces.one_rank.kernels import KERNEL_CATEGORIES

Int64s = NDArray[np.int64]
NO_STEP = -1
REPEATED = "kernels that repeat"
_STEP = re.compile(r"ProfilerStep#(\d{1,15})")
_OPTIMIZER = re.compile(r"Optimizer\.step#.*")
_MIN_REPEATS = 3
_MIN_REPEATED = 0.8  # of all kernels
_MAX_PERIODS = 50


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
class Steps:
    """Steps in order of time. `found_from` is empty for the profiler's own, else what they were found from.

    `on_gpu`: their times are the GPU's, so that its work falls into them by its start and not by its launch.
    """

    windows: tuple[StepWindow, ...]
    found_from: str = ""
    on_gpu: bool = False


def find_steps(events: Columns) -> Steps:
    """Return the profiler's steps, or those found from the optimizer's or from the GPU's repeated kernels; perhaps none."""
    if own := profiler_steps(events):
        return Steps(windows=own)
    if found := _optimizer_steps(events):
        return Steps(windows=found, found_from="the optimizer's steps")
    return Steps(windows=_repeated_steps(events), found_from=REPEATED, on_gpu=True)


def steps_of_gpu(found: Steps, events: Columns, launched: NDArray[np.bool_]) -> Steps:
    """Return these steps, or those of repeated kernels where no GPU event is `launched`: the host's then say nothing of it."""
    if found.on_gpu or launched.any() or not (repeated := _repeated_steps(events)):
        return found
    return Steps(windows=repeated, found_from=REPEATED, on_gpu=True)


def profiler_steps(events: Columns) -> tuple[StepWindow, ...]:
    """Return the CPU's ProfilerStep windows in order of time; one that takes none is no step."""
    numbers = {code: int(found[1]) for code, name in enumerate(events.names) if (found := _STEP.fullmatch(name))}
    rows = _on_cpu(events, list(numbers))
    return _windows([(numbers[int(events.name[row])], *events.span_ns(row)) for row in rows.tolist()])


def _optimizer_steps(events: Columns) -> tuple[StepWindow, ...]:
    """Return a step for each step of the optimizer that steps last, from the end of the one before to its own end."""
    codes = [code for code, name in enumerate(events.names) if _OPTIMIZER.fullmatch(name)]
    rows = _on_cpu(events, codes)
    if len(rows) < 2:
        return ()
    rows = rows[events.name[rows] == events.name[rows[-1]]]
    first_ns = int(events.start_ns[events.thread == events.thread[rows[0]]].min())
    edges = [first_ns, *events.end_ns(rows).tolist()]
    return _windows([(number, *edges[number : number + 2]) for number in range(len(rows))])


def _repeated_steps(events: Columns) -> tuple[StepWindow, ...]:
    """Return a step for each repetition of the shortest sequence of kernels that makes up nearly all of the trace."""
    rows = np.flatnonzero(events.in_category(*KERNEL_CATEGORIES))
    rows = rows[np.argsort(events.start_ns[rows], kind="stable")]
    names = events.name[rows]
    for period in _periods(names):
        first, count = _longest_repetition(names, period)
        if count >= _MIN_REPEATS and period * count >= _MIN_REPEATED * len(names):
            begins = events.start_ns[rows[first : first + period * count : period]].tolist()
            edges = [*begins, int(events.end_ns(rows[first : first + period * count]).max())]
            return _windows([(number, *edges[number : number + 2]) for number in range(count)])
    return ()


def _periods(names: NDArray[np.int32]) -> list[int]:
    """Return the distances, shortest first, at which kernels most often return."""
    codes, counts = np.unique(names, return_counts=True)
    found = set()
    for code in codes[counts >= _MIN_REPEATS].tolist():
        distances, times = np.unique(np.diff(np.flatnonzero(names == code)), return_counts=True)
        found.add(int(distances[np.argmax(times)]))
    return sorted(found)[:_MAX_PERIODS]


def _longest_repetition(names: NDArray[np.int32], period: int) -> tuple[int, int]:
    """Return where the longest stretch that repeats with this period begins, and how many whole periods it has."""
    differs = np.flatnonzero(names[:-period] != names[period:])
    edges = np.concatenate([[-1], differs, [len(names) - period]])
    longest = int(np.argmax(np.diff(edges)))
    first, length = int(edges[longest]) + 1, int(edges[longest + 1] - edges[longest]) - 1
    return first, (length + period) // period


def _on_cpu(events: Columns, codes: list[int]) -> Int64s:
    rows = np.flatnonzero(events.named(codes) & ~events.in_category("gpu_user_annotation"))
    return rows[np.argsort(events.start_ns[rows], kind="stable")]


def _windows(spans: list[tuple[int, int, int]]) -> tuple[StepWindow, ...]:
    return tuple(StepWindow(number=number, start_ns=start, end_ns=end) for number, start, end in spans if end > start)


def step_at(steps: tuple[StepWindow, ...], times_ns: Int64s, known: NDArray[np.bool_] | None = None) -> Int64s:
    """Return the number of the step in which each time falls; a step lasts until the next one begins."""
    if not steps:
        return np.full(len(times_ns), NO_STEP, dtype=np.int64)
    starts = np.array([step.start_ns for step in steps])
    numbers = np.array([step.number for step in steps])
    index = np.searchsorted(starts, times_ns, side="right") - 1
    inside = (index >= 0) & (times_ns <= steps[-1].end_ns)
    inside = inside if known is None else inside & known
    return np.where(inside, numbers[np.maximum(index, 0)], NO_STEP)


def place_orphans(step: Int64s, known: NDArray[np.bool_], stream: NDArray[np.int32], start_ns: Int64s) -> Int64s:
    """Return each GPU event's step, those without a launch call placed by time; NO_STEP for what stays out.

    `step` is by launch call, NO_STEP where that is not `known` or lies in no step; steps are numbered in order of time.
    """
    inside = known & (step != NO_STEP)
    if known.all() or not inside.any():
        return step
    numbers, first = np.unique(step[inside], return_inverse=True)
    begins_ns = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(begins_ns, first, start_ns[inside])
    begins_ns = np.minimum.accumulate(begins_ns[::-1])[::-1]
    placed = step.copy()
    for own in distinct(stream[~known]):
        rows = np.flatnonzero(stream == own)
        rows = rows[np.argsort(start_ns[rows], kind="stable")]
        placed[rows] = _placed_on_stream(step[rows], known[rows], start_ns[rows], numbers, begins_ns)
    return placed


def _placed_on_stream(step: Int64s, known: NDArray[np.bool_], start_ns: Int64s, numbers: Int64s, begins_ns: Int64s) -> Int64s:
    """Place the orphans of one stream; all arrays but the last two are its events in order of time."""
    begun = np.searchsorted(begins_ns, start_ns, side="right") - 1
    position = np.arange(len(step))
    before = np.maximum.accumulate(np.where(known, position, -1))
    after = np.minimum.accumulate(np.where(known, position, len(step))[::-1])[::-1]
    index = np.searchsorted(numbers, step)  # of a step among the numbers; only where it is one
    low = np.where(before >= 0, index[np.maximum(before, 0)], 0)
    high = np.where(after < len(step), index[np.minimum(after, len(step) - 1)], len(numbers) - 1)
    followed = (after < len(step)) & (step[np.minimum(after, len(step) - 1)] == NO_STEP)
    high = np.where(followed, len(numbers) - 1, high)
    outside = (before >= 0) & (step[np.maximum(before, 0)] == NO_STEP)
    target = numbers[np.clip(np.minimum(np.maximum(begun, low), high), 0, len(numbers) - 1)]
    return np.where(known, step, np.where((begun < 0) | outside, NO_STEP, target))
