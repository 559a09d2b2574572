"""What a sharded training run writes of its units: units.json, a step from mark to mark as rank 0 went through it.

A unit is a module under fully_shard or FullyShardedDataParallel. Its marks, in the order of one micro-batch:

    before, ready       its forward begins; its parameters are whole: between them lies its all-gather, with its copies
    done, after         its forward is computed; its parameters are freed again, where it reshards
    ...                 the same before and after backward computes it: back_before, back_ready, back_done
    reduce_begun        fully_shard has freed its parameters and takes memory for the reduction's input
    reduce_filled       its gradients are copied there
    reduce_sent, reduce_landed    the call of reduce-scatter, on several shards
    reduced, kept       the first and the last of its parameters has its gradient's shard
    gather_sent, gather_landed    the call of all-gather, wherever fully_shard makes it

and of the whole step: fetched (the batch is there), passes (between forward and backward), passed, updated, ended.

Of DeepSpeed's ZeRO stages a unit is what is sent as one: a bucket of gradients, parameters that are gathered together, a flag
or a norm. Its marks are

    reduce_begun, reduce_sent     a full bucket is made one message; the collective is called
    reduce_landed, kept           it has ended; this rank's part of it is where its optimizer expects it
    gather_sent, gather_awaited, gather_landed    a gather was asked for; is waited for, where others go on meanwhile; has ended

and update_begun, update_ended of the whole step: between them the optimizer works on this rank's shard alone.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta

from commprof.commbench.records.quantities import (
    BytesAboveZero,
    Count,
    CountAboveZero,
    NumBytes,
    Rank,
    Ranks,
    Span,
    same_length,
)

Mark = Literal[
    "before", "ready", "done", "after", "back_before", "back_ready", "back_done",
    "reduce_begun", "reduce_filled", "reduce_sent", "reduce_landed", "reduced", "kept", "gather_sent", "gather_landed",
    "fetched", "passes", "passed", "updated", "ended",
    "gather_awaited", "update_begun", "update_ended",
]  # fmt: skip
ReduceOp = Literal["reduce_scatter", "all_reduce"]
UNITS_FILE = "units.json"
_MAX_UNITS, _MAX_SPANS = 100_000, 2_000_000
MAX_ROW_COUNTS: Final = 1000  # of a unit


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedRows:
    """The parameters of a unit that have so many rows along the dimension that is cut: the bytes of one row of all of them, as
    they are gathered and reduced."""

    rows: CountAboveZero
    gather_bytes: NumBytes
    reduce_bytes: NumBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedUnit:
    """One unit. `num_bytes` of its parameters as they are kept, over all shards; what is gathered and reduced may be of
    another type, and holds the rows by which fully_shard fills up what its ranks do not divide. `rows` tell how many those are
    on other numbers of shards; empty where nobody told, and of a flat parameter, which takes an element a rank at most.
    `resharded`: its parameters were freed between its passes. `activation_bytes`: what autograd held for backward
    as its forward ended beyond what it did as that began, None where nobody told. The root, if it has parameters of its own,
    has the name "" and comes first, the others follow as the model has them. `reduce_op` carries a reduction out;
    `num_messages`: of so many messages, one after the other, its gather or reduction consists."""

    name: str
    num_bytes: BytesAboveZero
    num_tensors: CountAboveZero
    gather_bytes: NumBytes
    gather_dtype: str
    reduce_bytes: NumBytes
    reduce_dtype: str
    resharded: bool
    activation_bytes: NumBytes | None = None
    reduce_op: ReduceOp = "reduce_scatter"
    num_messages: CountAboveZero = 1
    rows: Annotated[tuple[ShardedRows, ...], Meta(max_length=MAX_ROW_COUNTS)] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for rows that hold more than was sent."""
        for held, sent in ((self.gathered_bytes(1), self.gather_bytes), (self.reduced_bytes(1), self.reduce_bytes)):
            if held > sent:
                raise ValueError(f"`rows` hold {held} bytes, of {sent} that were sent")

    def gathered_bytes(self, num_shards: int) -> int:
        """Return what is gathered of the unit over so many shards; as recorded where its rows are not known."""
        filled = sum(filled_up(each.rows, num_shards) * each.gather_bytes for each in self.rows)
        return filled if self.rows else self.gather_bytes

    def reduced_bytes(self, num_shards: int) -> int:
        """Return likewise what is reduced."""
        filled = sum(filled_up(each.rows, num_shards) * each.reduce_bytes for each in self.rows)
        return filled if self.rows else self.reduce_bytes

    def kept_bytes(self, num_shards: int) -> int:
        """Return what so many shards keep of the unit, each as much as the first: rows that are missing take memory too."""
        whole = self.gathered_bytes(1)
        return -(-self.num_bytes * self.gathered_bytes(num_shards) // whole) if self.rows and whole else self.num_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroEngine:
    """What a DeepSpeed engine of a ZeRO stage keeps, over all shards.

    `parameter_bytes` as the model computes with them, `master_bytes` the optimizer's own copy of them. `gradient_bytes` as
    they are accumulated. `bucket_bytes`: the buffers that a rank takes for buckets, whole on every rank. `overlaps`: reductions
    run beside backward, where there are streams. `persistent_bytes` are of parameters too small to be freed (stage 3), of which
    a rank keeps at most `persistence_limit_bytes` over the number of shards; None without a limit.
    """

    stage: Literal[1, 2, 3]
    parameter_bytes: BytesAboveZero
    master_bytes: NumBytes
    gradient_bytes: NumBytes
    bucket_bytes: NumBytes
    overlaps: bool
    persistent_bytes: NumBytes = 0
    persistence_limit_bytes: NumBytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedSpan:
    """From the mark before to the mark `until`, in each step kept: seconds, of all spans the same steps in the same order.

    `unit` is the mark's, None of a mark of the whole step. `gathers`: at the span's begin its unit was sharded, so that its
    parameters were gathered in it, or had been asked for before.
    """

    until: Mark
    unit: Count | None
    gathers: bool
    samples_s: Annotated[tuple[Span, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardingTimeline:
    """units.json. Over `num_shards` ranks each parameter is sharded, and `num_replicas` groups of them hold the same.

    `optimizer_bytes` is what this rank's optimizer keeps besides parameters and gradients, None where nobody told.
    `activation_bytes`: the most that autograd held of one micro-batch for its backward, parameters left out; None likewise.
    `peak_bytes`: the most that all tensors took in a step beyond what there was as it began; None likewise.
    `num_steps` went through the marks in the same order, out of `num_others` more that did not. `waits`: ranks that sent
    nothing met at every collective, and spans hold what they waited there for the last to come. `zero`: a DeepSpeed engine
    shards, by a schedule of its own.
    """

    rank: Rank
    num_shards: Ranks
    num_replicas: Ranks
    num_steps: CountAboveZero
    num_others: Count
    units: Annotated[tuple[ShardedUnit, ...], Meta(min_length=1, max_length=_MAX_UNITS)]
    spans: Annotated[tuple[ShardedSpan, ...], Meta(min_length=1, max_length=_MAX_SPANS)]
    optimizer_bytes: NumBytes | None = None
    activation_bytes: NumBytes | None = None
    peak_bytes: NumBytes | None = None
    waits: bool = False
    zero: ZeroEngine | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for spans of units that there are none of, and of different numbers of steps."""
        for span in self.spans:
            if span.unit is not None and span.unit >= len(self.units):
                raise ValueError(f"`unit` is {span.unit}, of {len(self.units)} units")
            same_length(samples_s=self.spans[0].samples_s, each=span.samples_s)


def filled_up(rows: int, num_shards: int) -> int:
    """Return how many rows fully_shard makes of so many, for all shards to have the same."""
    return -(-rows // num_shards) * num_shards
