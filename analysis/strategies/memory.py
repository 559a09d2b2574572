"""How many bytes does a rank hold at a step's peak? Counted from the units, as fully_shard and DDP keep them.

    parameters   B / shards                              DDP: B
    gradients    the same
    optimizer    as measured on one rank, / shards       DDP: whole
    unsharded    the most that is whole at once, the root always among it:
                 reshards       a unit and its gradient, the gather of the next if it is asked for ahead, a reduction's input
                 ZeRO-2         all units, and the rest as above
    buckets      none                                    DDP: B, which gradients that are views of buckets do not take again
    activations  as measured on one rank

B is the bytes of all parameters. What libraries take for themselves is in none of it.
"""

from commprof.analysis.strategies.program import freed_units
from commprof.analysis.strategies.results import Memory
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.sharding import ShardingTimeline


def sharded_memory(timeline: ShardingTimeline, num_shards: int, *, resharded: bool, prefetch: bool = True) -> Memory:
    """Return a rank's memory among `num_shards`; raise UnusableData where the optimizer's was not told."""
    whole = sum(unit.num_bytes for unit in timeline.units)
    return Memory(
        parameters=-(-whole // num_shards),
        gradients=-(-whole // num_shards),
        optimizer=-(-_optimizer_bytes(timeline) // num_shards),
        unsharded=_unsharded_bytes(timeline, num_shards, resharded=resharded, prefetch=prefetch),
        buckets=0,
        activations=timeline.activation_bytes,
    )


def ddp_memory(timeline: ShardingTimeline, *, bucket_view: bool) -> Memory:
    """Return a rank's memory under DDP; raise UnusableData where the optimizer's was not told."""
    whole = sum(unit.num_bytes for unit in timeline.units)
    return Memory(
        parameters=whole,
        gradients=whole,
        optimizer=_optimizer_bytes(timeline),
        unsharded=0,
        buckets=0 if bucket_view else whole,
        activations=timeline.activation_bytes,
    )


def _optimizer_bytes(timeline: ShardingTimeline) -> int:
    """Return what the optimizer keeps for all parameters."""
    if timeline.optimizer_bytes is None:
        raise UnusableData("the profile does not tell what its optimizer keeps")
    return timeline.optimizer_bytes * timeline.num_shards


def _unsharded_bytes(timeline: ShardingTimeline, num_shards: int, *, resharded: bool, prefetch: bool) -> int:
    """Return the most that is whole at once, as a unit's gradient goes into the reduction's input.

    The root's gradient is whole until backward ends, for it is reduced last.
    """
    units = timeline.units
    freed = freed_units(timeline) if resharded else frozenset()
    kept = sum(unit.gather_bytes for number, unit in enumerate(units) if number not in freed)
    root_gradient = sum(unit.reduce_bytes for unit in units if not unit.name)
    peaks = []
    for number, unit in enumerate(units):
        own = unit.gather_bytes if number in freed else 0
        ahead = number - 1  # backward goes through them from the last on
        following = units[ahead].gather_bytes if prefetch and ahead in freed else 0
        reducing = unit.reduce_bytes * (1 + 1 / num_shards)
        held = root_gradient if unit.name else 0
        peaks.append(own + following + unit.reduce_bytes + reducing + held)
    return kept + round(max(peaks))
