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
"""

from dataclasses import dataclass
from typing import Annotated, Literal

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
]  # fmt: skip
UNITS_FILE = "units.json"
_MAX_UNITS, _MAX_SPANS = 100_000, 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedUnit:
    """One unit. `num_bytes` of its parameters as they are kept, over all shards; what is gathered and reduced may be of
    another type, and holds the rows by which fully_shard fills up what its ranks do not divide.
    `resharded`: its parameters were freed between its passes. `activation_bytes`: what autograd held for backward
    as its forward ended beyond what it did as that began, None where nobody told. The root, if it has parameters of its own,
    has the name "" and comes first, the others follow as the model has them."""

    name: str
    num_bytes: BytesAboveZero
    num_tensors: CountAboveZero
    gather_bytes: NumBytes
    gather_dtype: str
    reduce_bytes: NumBytes
    reduce_dtype: str
    resharded: bool
    activation_bytes: NumBytes | None = None


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
    nothing met at every collective, and spans hold what they waited there for the last to come.
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

    def __post_init__(self) -> None:
        """Raise ValueError for spans of units that there are none of, and of different numbers of steps."""
        for span in self.spans:
            if span.unit is not None and span.unit >= len(self.units):
                raise ValueError(f"`unit` is {span.unit}, of {len(self.units)} units")
            same_length(samples_s=self.spans[0].samples_s, each=span.samples_s)
