"""For which module did the GPU compute? The innermost range in which a kernel was launched; in backward, its forward's.

torch.profiler notes modules (`nn.Module: Linear_3`) where it takes stacks, and people mark parts of a step by record_function.
Both are ranges of a thread, and a kernel is of the innermost in which its launch call begins. In backward no module runs.
There autograd's operator has the sequence number of the operator in forward that made it, the last to begin with that number,
and the kernel is of the module around that.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.collectives import Launch
from commprof.analysis.traces.one_rank.columns import Columns, distinct

Int64s = NDArray[np.int64]

MODULE = "nn.Module: "
OTHERS = "(others)"
NO_MODULE = ""
_MAX_MODULES = 64
_MAX_NAME = 200
_AUTOGRAD = re.compile("autograd::engine::evaluate_function: ")
# What the profiler, DDP and commprof mark in every training says nothing of a model's parts alone.
_OF_EVERY_STEP = re.compile(r"Optimizer\.|DistributedDataParallel\.|enumerate\(DataLoader\)|bucket \d")
# No part of a program at all; torch.compile's regions are named by hashes, and lie within a module.
_NO_PART = re.compile(r"ProfilerStep#|nccl:|gloo:|c10d::|record_param_comms|## |Torch-Compiled Region|CompiledF")
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTime:
    """What was launched for a module, its own modules apart: how many, and their durations over all steps, added up.

    The name is NO_MODULE for what was launched outside of all, OTHERS for the modules that took least.
    """

    name: str
    count: int
    forward_ns: int
    backward_ns: int

    @property
    def total_ns(self) -> int:
        return self.forward_ns + self.backward_ns


def module_times(events: Columns, rows: Int64s, launch: Launch) -> tuple[ModuleTime, ...]:
    """Return what these GPU events took by module, the longest first; nothing where the trace marks no part of a model."""
    names = [_module_name(name) for name in events.names]
    marks = np.flatnonzero(np.array(names, dtype=bool)[events.name] & events.in_category("python_function", "user_annotation"))
    if not any(names[code] and not _OF_EVERY_STEP.match(names[code]) for code in distinct(events.name[marks])):
        return ()
    ranges = _Ranges(events, marks)
    inside = np.where(launch.known, ranges.at(events.thread[launch.row], launch.start_ns), _NONE)
    of_backward = _of_backward(events, ranges, launch)
    backward = (inside == _NONE) & (of_backward != _NONE)
    module = np.where(backward, of_backward, inside)
    return _summed(names, module, events.duration_ns[rows], backward)


def _module_name(name: str) -> str:
    """Return what a range is called, or "" for one that names no part of the program."""
    bare = name.removeprefix(MODULE)[:_MAX_NAME]
    return "" if _NO_PART.match(bare) else bare


class _Ranges:
    """By thread, which range is the innermost from each instant on at which that changes."""

    def __init__(self, events: Columns, rows: Int64s) -> None:
        start_ns, end_ns = events.start_ns[rows], events.end_ns(rows)
        rows = rows[np.lexsort((-end_ns, start_ns))]
        self._changes: dict[int, tuple[Int64s, Int64s]] = {}
        for thread in distinct(events.thread[rows]):
            mine = rows[events.thread[rows] == thread]
            spans = zip(events.start_ns[mine].tolist(), events.end_ns(mine).tolist(), events.name[mine].tolist(), strict=True)
            self._changes[thread] = _innermost(spans)

    def at(self, threads: NDArray[np.int32], times_ns: Int64s) -> Int64s:
        """Return the innermost range's name at each time on its thread, as a position among the names, or _NONE."""
        found = np.full(len(times_ns), _NONE, dtype=np.int64)
        for thread, (begins_ns, codes) in self._changes.items():
            mine = threads == thread
            last = np.searchsorted(begins_ns, times_ns[mine], side="right") - 1
            found[mine] = np.where(last >= 0, codes[np.maximum(last, 0)], _NONE)
        return found


def _innermost(spans: "zip[tuple[int, int, int]]") -> tuple[Int64s, Int64s]:
    """Return when the innermost of nested ranges, in order of their beginning, changes, and to which name."""
    changes: list[tuple[int, int]] = []
    still_open: list[tuple[int, int]] = []

    def close_until(time_ns: float) -> None:
        while still_open and still_open[-1][0] <= time_ns:
            end_ns, _ = still_open.pop()
            changes.append((end_ns, still_open[-1][1] if still_open else _NONE))

    for start_ns, end_ns, code in spans:
        close_until(start_ns)
        changes.append((start_ns, code))
        still_open.append((min(end_ns, still_open[-1][0]) if still_open else end_ns, code))
    close_until(float("inf"))
    table = np.array(changes, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _of_backward(events: Columns, ranges: _Ranges, launch: Launch) -> Int64s:
    """Return the module of the forward operator whose backward launched each event, or _NONE."""
    numbered = np.flatnonzero(events.sequence >= 0)
    is_backward = np.array([_AUTOGRAD.match(name) is not None for name in events.names], dtype=bool)[events.name[numbered]]
    forward, backward = numbered[~is_backward], numbered[is_backward]
    found = np.full(len(launch.row), _NONE, dtype=np.int64)
    if not len(forward) or not len(backward):
        return found
    made = _last_begun(events, forward)
    module_of_row = ranges.at(events.thread[made], events.start_ns[made])
    index = np.minimum(np.searchsorted(events.sequence[made], events.sequence[backward]), len(made) - 1)
    module = np.where(events.sequence[made][index] == events.sequence[backward], module_of_row[index], _NONE)
    for thread in distinct(events.thread[backward]):
        on_thread = events.thread[backward] == thread
        order = np.argsort(events.start_ns[backward[on_thread]], kind="stable")
        rows, codes = backward[on_thread][order], module[on_thread][order]
        mine = launch.known & (events.thread[launch.row] == thread)
        last = np.searchsorted(events.start_ns[rows], launch.start_ns[mine], side="right") - 1
        within = (last >= 0) & (events.end_ns(rows)[np.maximum(last, 0)] >= launch.start_ns[mine])
        found[mine] = np.where(within, codes[np.maximum(last, 0)], _NONE)
    return found


def _last_begun(events: Columns, rows: Int64s) -> Int64s:
    """Return, of the rows of each sequence number, the one that began last; in order of the number."""
    ordered = rows[np.lexsort((events.start_ns[rows], events.sequence[rows]))]
    numbers = events.sequence[ordered]
    last: Int64s = ordered[np.append(numbers[1:] != numbers[:-1], True)]
    return last


def _summed(names: Sequence[str], module: Int64s, duration_ns: Int64s, backward: NDArray[np.bool_]) -> tuple[ModuleTime, ...]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    codes, index, counts = np.unique(module, return_inverse=True, return_counts=True)
    times_ns = np.zeros((len(codes), 2), dtype=np.int64)
    np.add.at(times_ns, (index, backward.astype(np.int64)), duration_ns)
    for code, *parts in zip(codes.tolist(), counts.tolist(), *times_ns.T.tolist(), strict=True):
        own = sums[NO_MODULE if code == _NONE else names[code]]
        own[:] = [one + other for one, other in zip(own, parts, strict=True)]
    longest = sorted(sums, key=lambda name: -sum(sums[name][1:]))
    for name in longest[_MAX_MODULES:]:
        sums[OTHERS] = [one + other for one, other in zip(sums[OTHERS], sums.pop(name), strict=True)]
    found = [ModuleTime(name=name, count=own[0], forward_ns=own[1], backward_ns=own[2]) for name, own in sums.items()]
    return tuple(sorted(found, key=lambda own: -own.total_ns))
