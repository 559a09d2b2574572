"""How many bytes does a rank of a DeepSpeed engine hold, at most, in a step? What each stage keeps, and its buffers.

                  stages 1 and 2                                  stage 3
    parameters    all of them, and the shard's own copy           the shard, and its own copy
    gradients     stage 1: all, and the shard's; 2: the shard's   the shard's
    optimizer     as measured, / shards                           as measured, / shards
    whole units   none                                            persistent ones, and all that is asked for and not freed
    buckets       the buffers, and the largest as a message       the buffer, and the largest as a message

The buffers are reduce_bucket_size elements on every rank, however small the model; a host hands out what is touched of them.
Stage 3's parameters are counted as asked for and not there yet, the last that came, and those that stay for a reuse: where
none is gathered in backward, all.
"""

from commprof.analysis.strategies.results import Memory
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.sharding import ShardingTimeline


def engine_memory(timeline: ShardingTimeline, num_shards: int) -> Memory:
    """Return a rank's memory among `num_shards`; raise UnusableData where the optimizer's was not told."""
    zero = timeline.zero
    assert zero is not None
    if timeline.optimizer_bytes is None:
        raise UnusableData("the profile does not tell what its optimizer keeps")
    shard = zero.gradient_bytes // num_shards
    largest = max(unit.reduce_bytes for unit in timeline.units)
    parameters = zero.parameter_bytes if zero.stage < 3 else -(-zero.parameter_bytes // num_shards)
    return Memory(
        parameters=parameters + -(-zero.master_bytes // num_shards),
        gradients=shard + (zero.gradient_bytes if zero.stage == 1 else 0),
        optimizer=-(-timeline.optimizer_bytes * timeline.num_shards // num_shards),
        unsharded=_whole_bytes(timeline) if zero.stage == 3 else 0,
        buckets=zero.bucket_bytes + largest,
        activations=timeline.activation_bytes,
    )


def _whole_bytes(timeline: ShardingTimeline) -> int:
    """Return the most that is whole at once of what stage 3 gathers."""
    zero, units = timeline.zero, timeline.units
    assert zero is not None
    in_flight: dict[int, int] = {}
    most = backward = landed = 0
    behind = False
    for span in timeline.spans:
        behind |= span.until == "passes"
        if span.unit is None or not span.until.startswith("gather_"):
            continue
        in_flight[span.unit] = units[span.unit].gather_bytes
        if span.until == "gather_landed":
            landed = in_flight.pop(span.unit)
        backward += behind and span.until == "gather_sent"
        most = max(most, landed + sum(in_flight.values()))
    return zero.parameter_bytes if not backward else min(zero.parameter_bytes, zero.persistent_bytes + most)
