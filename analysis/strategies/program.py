"""A recorded sharded step -> the operations of a step on other numbers of shards, and the seconds of each.

Kept is what a rank does by itself: computation, and the copies and bookkeeping of fully_shard as they were measured, cold. Left
out is what stood for the wire: on one shard fully_shard's own copy of the reduction's input, priced here again where a rank of
several copies its shard into the gather's buffer,

    copy in = that copy's seconds / shards

while ranks side by side that sent nothing have measured theirs. Of what a compute-only rank copies in a collective's stead the
time is kept: it is memory that nobody had touched before, which a bench's warm buffers do not show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.strategies.schedule import Operation
from commprof.commbench.records.sharding import ShardedSpan, ShardingTimeline

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Operations and, for those that compute, which span's seconds they take: `span` [operations], -1 of the others.

    `share` [operations] of those seconds; `updates` is where the optimizer works, `by_shard` all places where a rank works on
    its shard alone.
    """

    operations: tuple[Operation, ...]
    span: tuple[int, ...]
    share: tuple[float, ...]
    updates: int | None
    by_shard: tuple[int, ...] = ()


def samples_of(timeline: ShardingTimeline) -> Floats:
    """Return the seconds of every span in every step kept [steps, spans]."""
    return np.array([span.samples_s for span in timeline.spans]).T


def program_of(timeline: ShardingTimeline, *, num_shards: int, resharded: bool) -> Program:
    """Return the step of a rank among `num_shards`. `resharded`: units free their parameters between their passes."""
    making = _Making(timeline, num_shards, resharded)
    for place, span in enumerate(timeline.spans):
        making.add(place, span)
    if not any(operation.what == "finish" for operation in making.operations):
        making.put(Operation(what="finish"))
    return Program(
        operations=tuple(making.operations), span=tuple(making.span), share=tuple(making.share), updates=making.updates
    )


def freed_units(timeline: ShardingTimeline) -> frozenset[int]:
    """Return the units that free their parameters where units do: those that were seen to, else all but the root."""
    seen = frozenset(number for number, unit in enumerate(timeline.units) if unit.resharded)
    return seen or frozenset(number for number, unit in enumerate(timeline.units) if unit.name)


class _Making:
    def __init__(self, timeline: ShardingTimeline, num_shards: int, resharded: bool) -> None:
        self._own_shards, self._num_shards, self._resharded = timeline.num_shards, num_shards, resharded
        self._freed = freed_units(timeline)
        self._copies = _places(timeline.spans, "reduced")
        self._wholes = _places(timeline.spans, "ready")
        self.operations: list[Operation] = []
        self.span: list[int] = []
        self.share: list[float] = []
        self.updates: int | None = None

    def put(self, operation: Operation, span: int = -1, share: float = 0.0) -> None:
        self.operations.append(operation)
        self.span.append(span)
        self.share.append(share)

    def compute(self, span: int, share: float = 1.0) -> None:
        self.put(Operation(what="compute"), span, share)

    def add(self, place: int, span: ShardedSpan) -> None:
        unit = span.unit
        if span.until == "ready" and span.gathers:
            self._gather(place, unit, "forward")
        elif span.until == "back_ready":
            self._whole_again(place, span)
        elif span.until == "reduced":
            self.put(Operation(what="reduce", unit=unit, direction="backward"))
            if self._own_shards > 1:
                self.compute(place)
        elif span.until == "updated":
            self.updates = len(self.operations)
            self.compute(place)
        else:
            self.compute(place)
            if span.until == "reduce_begun":
                self.put(Operation(what="hold", unit=unit, direction="backward"))
            elif span.until == "passed":
                self.put(Operation(what="finish"))

    def _whole_again(self, place: int, span: ShardedSpan) -> None:
        """Gather a unit for its backward where it is freed, whatever the profile did."""
        assert span.unit is not None
        if span.gathers and (self._resharded or span.unit not in self._freed):
            self._gather(place, span.unit, "backward")
        elif not span.gathers:
            if self._resharded and span.unit in self._freed and span.unit in self._wholes:
                self._gather(self._wholes[span.unit], span.unit, "backward")
            self.compute(place)

    def _gather(self, place: int, unit: int | None, direction: str) -> None:
        assert unit is not None
        if self._own_shards == 1 and unit in self._copies:
            self.compute(self._copies[unit], 1 / self._num_shards)
        self.put(Operation(what="gather", unit=unit, direction="forward" if direction == "forward" else "backward"))
        self.compute(place)


def _places(spans: Sequence[ShardedSpan], until: str) -> dict[int, int]:
    """Return each unit's last span that ends with this mark."""
    return {span.unit: place for place, span in enumerate(spans) if span.until == until and span.unit is not None}
