"""How many bytes does a rank hold at a step's peak? Counted at each unit's backward, as fully_shard and DDP keep them.

    parameters   B / shards                              DDP: B
    optimizer    as measured on one rank, / shards       DDP: whole
    gradients    of units done B_u / shards, of the unit under way B_u          DDP: of all units so far
    unsharded    the unit under way, the gather of the next if it is asked for ahead, and what is never freed
    buckets      the reduction before, whose input lives until the next begins; or the one under way, input, output
                 and under gloo its own copy of the input                        DDP: B, which views do not take again
    activations  what autograd held of the units not yet gone back through, as measured on one rank
    working      what else the computation took at its peak, as measured on one rank

B is the bytes of all parameters, B_u a unit's, with the rows that fill shards up where they are sharded; of gradients and
buckets only those of trained parameters, of whose elements a reduction tells the number. The root's gradient is counted whole
from its backward on, which is last. The moment with the most counts. What libraries take for themselves is in none of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from commprof.analysis.strategies.program import freed_units
from commprof.analysis.strategies.results import Memory
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import DATA_TYPES
from commprof.commbench.records.sharding import ShardingTimeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a rank keeps units: over so many shards; freed between their passes; the next asked for ahead; gloo's copies."""

    num_shards: int
    resharded: bool
    prefetch: bool = True
    gloo: bool = False


def sharded_memory(timeline: ShardingTimeline, keeping: Keeping) -> Memory:
    """Return a rank's memory; raise UnusableData where the optimizer's was not told."""
    return _peak(_with_working(timeline, _sharded_moments(timeline, keeping)))


def ddp_memory(timeline: ShardingTimeline, *, bucket_view: bool) -> Memory:
    """Return a rank's memory under DDP; raise UnusableData where the optimizer's was not told."""
    return _peak(_with_working(timeline, _ddp_moments(timeline, bucket_view=bucket_view)))


def peak_if_sharded(timeline: ShardingTimeline, peak_bytes: int, *, wrapped: bool, bucket_view: bool) -> int:
    """Return the `peak_bytes` of a rank sharded over itself from that of one that is not, in DDP or not: what else its
    computation takes is the same. Raise UnusableData where the optimizer's memory was not told."""
    plain = _ddp_moments(timeline, bucket_view=bucket_view and wrapped)
    counted = max(each.gradients + (each.buckets if wrapped else 0) + (each.activations or 0) for each in plain)
    own = _peak(list(_sharded_moments(timeline, Keeping(num_shards=1, resharded=True))))
    return max(0, peak_bytes - counted) + own.total - own.parameters - own.optimizer


def _peak(moments: Sequence[Memory]) -> Memory:
    return max(moments, key=lambda moment: moment.total)


def _with_working(timeline: ShardingTimeline, moments: Iterator[Memory]) -> list[Memory]:
    """Return the moments with what the profile's own step took beyond what is counted of it, None where nobody told."""
    if timeline.peak_bytes is None:
        return list(moments)
    frees = any(unit.resharded for unit in timeline.units)
    own = _peak(list(_sharded_moments(timeline, Keeping(num_shards=timeline.num_shards, resharded=frees))))
    working = max(0, timeline.peak_bytes - (own.total - own.parameters - own.optimizer))
    return [replace(moment, working=working) for moment in moments]


def _sharded_moments(timeline: ShardingTimeline, keeping: Keeping) -> Iterator[Memory]:
    """Yield what is held as each unit is gone back through, from the last on: computing, and twice at its reduction."""
    units, shards = timeline.units, keeping.num_shards
    freed = freed_units(timeline) if keeping.resharded else frozenset()
    held, optimizer, trained = _held(timeline), _optimizer_bytes(timeline), _trained_shares(timeline)
    gathered, reduced = [unit.gathered_bytes(shards) for unit in units], [unit.reduced_bytes(shards) for unit in units]
    own_bytes = [unit.kept_bytes(shards) for unit in units]
    parameters, whole = sum(own_bytes), sum(unit.num_bytes for unit in units)

    def moment(number: int, *, gradients: int, unsharded: int, buckets: int, activations: int | None) -> Memory:
        done = sum(share * kept for share, kept in zip(trained[number + 1 :], own_bytes[number + 1 :], strict=True))
        return Memory(
            parameters=-(-parameters // shards),
            gradients=gradients + ceil(done / shards),
            optimizer=-(-optimizer * parameters // (whole * shards)),
            unsharded=unsharded,
            buckets=buckets,
            activations=activations,
        )

    for number in reversed(range(len(units))):
        unit, following = units[number], number - 1
        own = ceil(trained[number] * unit.gathered_bytes(1))
        ahead = gathered[following] if keeping.prefetch and shards > 1 and following in freed else 0
        kept = sum(each for place, each in enumerate(gathered[:number]) if place not in freed)
        before = reduced[number + 1] if number + 1 < len(units) else 0
        yield moment(
            number,
            gradients=own,
            unsharded=kept + gathered[number] + ahead,
            buckets=before,
            activations=held[number],
        )
        left = None if held[number] is None else held[following] if number else 0
        sending = reduced[number] * (2 if keeping.gloo and shards > 1 else 1) + -(-reduced[number] // shards)
        for gradients, buckets in ((own, reduced[number]), (0, sending)):
            yield moment(number, gradients=gradients, unsharded=kept + ahead, buckets=buckets, activations=left)


def _ddp_moments(timeline: ShardingTimeline, *, bucket_view: bool) -> Iterator[Memory]:
    """Yield what is held as each unit's gradients are there, from the last unit on."""
    whole, held = sum(unit.num_bytes for unit in timeline.units), _held(timeline)
    shares = zip(_trained_shares(timeline), timeline.units, strict=True)
    trained = [ceil(share * unit.num_bytes) for share, unit in shares]
    for number in reversed(range(len(timeline.units))):
        made = sum(trained[number:])
        yield Memory(
            parameters=whole,
            gradients=0 if bucket_view else made,
            optimizer=_optimizer_bytes(timeline),
            unsharded=0,
            buckets=sum(trained),
            activations=held[number],
        )


def _trained_shares(timeline: ShardingTimeline) -> list[float]:
    """Return the share of each unit's elements that have gradients: those reduced of those gathered, which fill shards up.

    All of them where no reduction was seen of any unit.
    """
    if not any(unit.reduce_bytes for unit in timeline.units):
        return [1.0] * len(timeline.units)
    gathered = [_elements(unit.gather_bytes, unit.gather_dtype) for unit in timeline.units]
    reduced = [_elements(unit.reduce_bytes, unit.reduce_dtype) for unit in timeline.units]
    return [min(1.0, own / whole) if whole else 1.0 for own, whole in zip(reduced, gathered, strict=True)]


def _elements(num_bytes: int, dtype: str) -> float:
    return num_bytes / DATA_TYPES[dtype].num_bytes if dtype in DATA_TYPES else 0.0


def _held(timeline: ShardingTimeline) -> list[int | None]:
    """Return what autograd holds as backward comes to each unit: of it, of those before it, and what no unit saved.

    All of it throughout where nobody told what of it a unit saved.
    """
    whole, saved = timeline.activation_bytes, [unit.activation_bytes for unit in timeline.units]
    if whole is None:
        return [None] * len(saved)
    told = [each for unit, each in zip(timeline.units, saved, strict=True) if unit.name and each is not None]
    if len(told) < sum(bool(unit.name) for unit in timeline.units):
        return [whole] * len(saved)
    of_units = [each or 0 if unit.name else 0 for unit, each in zip(timeline.units, saved, strict=True)]
    return [whole - sum(of_units[number + 1 :]) for number in range(len(of_units))]


def _optimizer_bytes(timeline: ShardingTimeline) -> int:
    """Return what the optimizer keeps for all parameters."""
    if timeline.optimizer_bytes is None:
        raise UnusableData("the profile does not tell what its optimizer keeps")
    return timeline.optimizer_bytes * timeline.num_shards
