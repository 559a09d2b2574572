"""A recorded step of a DeepSpeed engine -> the operations of its step on other numbers of ranks.

Read in DeepSpeed 0.19, for gloo, whose calls end before the host goes on unless they were made asynchronously:

    buckets     gradients fill a bucket of reduce_bucket_size elements as they come, a larger one is a bucket by itself; what
                does not fit any more reduces the bucket first. Stage 1 does so behind backward and once a step (with
                overlap_comm within it), stages 2 and 3 within it and for every micro-batch; the last one goes behind it.
    reductions  stages 1 and 2 make the bucket one message (reduce_scatter true copies it, false does not), all-reduce it whole,
                and each rank keeps its part. Stage 3 copies it into parts by rank and reduce-scatters it, with
                contiguous_gradients and reduce_scatter false it all-reduces it. A copy of another type where that is sent.
    update      an overflow's flag (fp16, bf16 if asked) and the squared norm of each parameter group are all-reduced, then the
                shard is updated: one flat tensor in fp32 of its own, copied into what the model computes with.
    gathers     stages 1 and 2 gather each parameter group behind the update, whole (allgather_bucket_size means nothing to a
                torch that gathers into one tensor). Stage 3 asks for a module's parameters as it is called, then for the next
                ones of last step's trace (prefetch_bucket_size, within max_live_parameters), and waits for its own; whether
                they are freed in between depends on max_reuse_distance. What is below param_persistence_threshold is gathered
                behind the update, parameter by parameter.

None of it depends on the number of ranks but the bytes that a rank keeps: the order is the profile's. Its seconds are left
as they are but for

    a shard's work        what lies between the update's marks, and what a rank keeps of a bucket: in parts of 1 / shards
    a collective          by the wire, in place of what it took one rank
    stage 3's gathers     a copy of the shard into the message and one out of it, which one rank does not make: the seconds a
                          byte of its own copy of a bucket into a message, half of which are the average's
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from commprof.analysis.strategies.program import Program, samples_of
from commprof.analysis.strategies.schedule import Operation
from commprof.commbench.records.sharding import ShardedSpan, ShardingTimeline

_OF_COPY: Final = 0.5  # of a bucket's way into its message, which is also divided by the number of ranks


def engine_program(timeline: ShardingTimeline, *, num_shards: int) -> Program:
    """Return the step of a rank among `num_shards`."""
    making = _Making(timeline, num_shards)
    for place, span in enumerate(timeline.spans):
        making.add(place, span)
    making.put(Operation(what="finish"))
    return Program(
        operations=tuple(making.operations),
        span=tuple(making.span),
        share=tuple(making.share),
        updates=None,
        by_shard=tuple(making.by_shard),
    )


class _Making:
    def __init__(self, timeline: ShardingTimeline, num_shards: int) -> None:
        assert timeline.zero is not None
        self._timeline, self._num_shards = timeline, num_shards
        self._copies = timeline.zero.stage == 3 and timeline.num_shards == 1 < num_shards
        self._copied = _longest_copy(timeline)
        self._updating = begins_in_update(timeline.spans)
        self._asked: set[int] = set()
        self.operations: list[Operation] = []
        self.span: list[int] = []
        self.share: list[float] = []
        self.by_shard: list[int] = []

    def put(self, operation: Operation, span: int = -1, share: float = 0.0) -> None:
        self.operations.append(operation)
        self.span.append(span)
        self.share.append(share)

    def add(self, place: int, span: ShardedSpan) -> None:
        if span.until == "reduce_landed":
            self.put(Operation(what="reduce", unit=span.unit, direction="backward"))
        elif span.until == "gather_landed":
            self._land(span.unit)
        else:
            self._compute(place, by_shard=self._updating or span.until == "kept")
            if span.until == "gather_sent":
                self._ask(span.unit)
            elif span.until in ("update_begun", "update_ended"):
                self._updating = span.until == "update_begun"

    def _compute(self, place: int, *, by_shard: bool) -> None:
        if by_shard:
            self.by_shard.append(len(self.operations))
        self.put(Operation(what="compute"), place, 1.0)

    def _ask(self, unit: int | None) -> None:
        assert unit is not None
        self._copy(unit, 1 / self._num_shards)
        self.put(Operation(what="ask", unit=unit))
        self._asked.add(unit)

    def _land(self, unit: int | None) -> None:
        assert unit is not None
        if unit not in self._asked:  # asked for before the step began
            self._ask(unit)
        self._asked.discard(unit)
        self.put(Operation(what="wait", unit=unit))
        self._copy(unit, 1.0)

    def _copy(self, unit: int, share: float) -> None:
        """Put the copy of a share of a gather's bytes, where one rank did not make it."""
        if self._copies and self._copied is not None:
            place, num_bytes = self._copied
            whole = self._timeline.units[unit].gather_bytes / num_bytes
            self.put(Operation(what="compute"), place, _OF_COPY * share * whole)


def begins_in_update(spans: Sequence[ShardedSpan]) -> bool:
    """Say whether the step began while the optimizer was at work: a recorded script's does, behind the update itself."""
    return next((span.until == "update_ended" for span in spans if span.until in ("update_begun", "update_ended")), False)


def _longest_copy(timeline: ShardingTimeline) -> tuple[int, int] | None:
    """Return the span in which the largest bucket is made one message, and its bytes; None where none is."""
    medians_s = np.median(samples_of(timeline), axis=0)
    made = [
        (timeline.units[span.unit].reduce_bytes, float(medians_s[place]), place)
        for place, span in enumerate(timeline.spans)
        if span.until == "reduce_sent" and span.unit is not None and timeline.spans[place - 1].until == "reduce_begun"
    ]
    return (max(made)[2], max(made)[0]) if made else None
