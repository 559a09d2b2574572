"""Which of a rank's collectives are those of sharded units, for which pass, and were they asked for ahead?

fully_shard marks what it does on the CPU: `FSDP::all_gather (UNIT)` around the launch of a gather, within `FSDP::pre_forward`
or `FSDP::pre_backward` of the unit that needs it, or within `FSDP::forward_prefetch` or `FSDP::backward_prefetch`, ahead of
that; `FSDP::post_backward_reduce (UNIT)` around a reduce-scatter and, among copies of shards, the all-reduce that follows.

gloo carries out a reduce-scatter as an all-reduce and calls it so, and of an all-gather it tells one rank's share: what a
collective is, and its size, are those of the CPU's call in the same range, where there are as many of both. Where nobody marks
ranges (FullyShardedDataParallel, DeepSpeed, a loop of one's own) a reduce-scatter is told by the order of the calls. A GPU's
kernel is found by its launch call. Times are nanoseconds of the rank's own clock.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.bucket_launches import Spans, StepAt, cpu_spans
from commprof.analysis.traces.one_rank.collectives import Collective, Launch
from commprof.analysis.traces.one_rank.columns import Columns, Details
from commprof.analysis.traces.one_rank.kernels import tensor_bytes

Int64s = NDArray[np.int64]
Direction = Literal["forward", "backward"]

_RANGE: Final = re.compile(r"FSDP::(?:all_gather|post_backward_reduce)(?: \((.{0,400})\))?")
_AROUND: Final = re.compile(r"FSDP::(?:pre_(?P<own>forward|backward)(?: \(.*\))?|(?P<ahead>forward|backward)_prefetch for .*)")
_CALLS: Final = {
    "c10d::_allgather_base_": "all_gather",
    "c10d::_reduce_scatter_base_": "reduce_scatter",
    "c10d::allreduce_": "all_reduce",
}
_REDUCING: Final = ("c10d::_reduce_scatter_base_", "c10d::allreduce_", "c10d::allreduce_coalesced_")
ROOT: Final = "(root)"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitExchange:
    """One collective of a unit in a step: its position among the rank's collectives, and the pass that it serves."""

    step: int
    unit: str
    direction: Direction
    prefetched: bool
    collective: int


def unit_exchanges(
    events: Columns, step_at: StepAt, collectives: Sequence[Collective], launched: Launch | None
) -> tuple[tuple[UnitExchange, ...], tuple[Collective, ...]]:
    """Return a rank's collectives of units, in order of time, and all its collectives with theirs named right.

    `launched` are the collectives' launch calls, in their order; None for gloo.
    """
    named = list(collectives) if launched is not None else _scattering(events, collectives)
    found: list[UnitExchange] = []
    ranges = cpu_spans(events, lambda word: _RANGE.fullmatch(word) is not None)
    if ranges:
        around = cpu_spans(events, lambda word: _AROUND.fullmatch(word) is not None)
        calls = cpu_spans(events, _CALLS.__contains__)
        start_ns, thread, position = _starts(events, collectives, launched)
        for own_thread, spans in ranges.items():
            mine = np.ones(len(start_ns), dtype=bool) if thread is None else thread == own_thread
            within = _within(spans, start_ns[mine], position[mine])
            for row, step, inside in zip(spans.row.tolist(), step_at(spans.start_ns).tolist(), within, strict=True):
                direction, prefetched = _pass(events, around.get(own_thread), row)
                if launched is None:
                    _name(events, calls.get(own_thread), row, inside, named)
                unit = _unit(events.names[events.name[row]])
                found += (
                    UnitExchange(step=step, unit=unit, direction=direction, prefetched=prefetched, collective=index)
                    for index in inside
                )
    return tuple(sorted(found, key=lambda own: collectives[own.collective].start_ns)), tuple(named)


def _unit(name: str) -> str:
    marked = _RANGE.fullmatch(name)
    assert marked is not None
    return marked[1] or ROOT


def _starts(
    events: Columns, collectives: Sequence[Collective], launched: Launch | None
) -> tuple[Int64s, Int64s | None, Int64s]:
    """Return, in order of time, when each collective was launched, in which thread (None: not known) and its position."""
    if launched is None:
        start_ns = np.array([own.start_ns for own in collectives], dtype=np.int64)
        order = np.argsort(start_ns, kind="stable")
        return start_ns[order], None, order
    known = np.flatnonzero(launched.known)
    order = known[np.argsort(launched.start_ns[known], kind="stable")]
    return launched.start_ns[order], events.thread[launched.row[order]].astype(np.int64), order


def _within(spans: Spans, start_ns: Int64s, position: Int64s) -> Iterator[list[int]]:
    """Yield, of each range, the positions of the collectives launched in it."""
    first = np.searchsorted(start_ns, spans.start_ns)
    behind = np.searchsorted(start_ns, spans.end_ns, side="right")
    for low, high in zip(first.tolist(), behind.tolist(), strict=True):
        yield position[low:high].tolist()


def _pass(events: Columns, around: Spans | None, row: int) -> tuple[Direction, bool]:
    """Return the pass that a range serves, and whether it was ahead of it; a reduction, in none of these, is backward's."""
    at = None if around is None else around.at(int(events.start_ns[row]))
    if around is None or at is None:
        return "backward", False
    marked = _AROUND.fullmatch(events.names[events.name[around.row[at]]])
    assert marked is not None
    word = marked["ahead"] or marked["own"]
    return ("forward" if word == "forward" else "backward"), marked["ahead"] is not None


def _name(events: Columns, calls: Spans | None, row: int, inside: Sequence[int], named: list[Collective]) -> None:
    """Give gloo's collectives of a range the operation and the size of the calls in it."""
    if calls is None:
        return
    start_ns, end_ns = events.span_ns(row)
    low, high = np.searchsorted(calls.start_ns, [start_ns, end_ns])
    if high - low != len(inside):
        return
    for index, call in zip(inside, calls.row[low:high].tolist(), strict=True):
        op = _CALLS[events.names[events.name[call]]]
        size = named[index].message_bytes if op == "all_reduce" else _largest_bytes(events.details.get(call))
        named[index] = replace(named[index], op=op, message_bytes=size)


def _scattering(events: Columns, collectives: Sequence[Collective]) -> list[Collective]:
    """Return gloo's collectives, its all-reduces that carried out a reduce-scatter named right: the n-th call began the n-th.

    All stay as they are where calls and all-reduces differ in number, one began before its call or is of another size, or no
    sizes tell two kinds of call apart.
    """
    named = list(collectives)
    began = sorted((index for index, own in enumerate(named) if own.op == "all_reduce"), key=lambda own: named[own].start_ns)
    calls = [row for spans in cpu_spans(events, _REDUCING.__contains__).values() for row in spans.row.tolist()]
    calls.sort(key=lambda row: events.start_ns[row])
    if len(calls) != len(began):
        return named
    scattered = [pair for pair in zip(began, calls, strict=True) if events.names[events.name[pair[1]]] == _REDUCING[0]]
    sizes = [_largest_bytes(events.details.get(row)) for _, row in scattered]
    causal = all(events.start_ns[row] <= named[index].start_ns for index, row in zip(began, calls, strict=True))
    alike = all(size == named[index].message_bytes for (index, _), size in zip(scattered, sizes, strict=True))
    if causal and alike and (None not in sizes or len(scattered) == len(calls)):
        for index, _ in scattered:
            named[index] = replace(named[index], op="reduce_scatter")
    return named


def _largest_bytes(details: Details | None) -> int | None:
    """Return the bytes of a call's larger tensor: of a gather and of a reduce-scatter, what all ranks have together."""
    if details is None or not isinstance(details.input_shapes, list) or not isinstance(details.input_types, list):
        return None
    pairs = zip(details.input_shapes, details.input_types, strict=False)
    sizes = [size for shape, kind in pairs if (size := tensor_bytes([shape], [kind])) is not None]
    return max(sizes, default=None)
