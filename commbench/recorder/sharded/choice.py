"""Which recorder of units fits a model, of whom shards it? And may its ranks send nothing?"""

from torch import nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.parallelism import deepspeed_engine, training_kind
from commprof.commbench.recorder.sharded import flat_units, fully_shard
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.recorder.sharded.zero_engine import ZeroRecorder
from commprof.commbench.timing import Clock


def unit_recorder(model: nn.Module, rank: int, clock: Clock, own_work: OwnWork, *, alone: bool = False) -> UnitRecorder:
    """Return what marks the units of a model that is sharded; of another it marks nothing. `alone`: nothing is to be sent."""
    engine = deepspeed_engine(model)
    if engine is not None and 1 <= int(engine.zero_optimization_stage()) <= 3:
        return ZeroRecorder(engine, rank, clock, own_work)
    if flat_units.flat_units(model):
        return flat_units.FlatUnitRecorder(model, rank, clock, own_work, alone=alone and not flat_units.sends_because(model))
    return fully_shard.FullyShardRecorder(model, rank, clock, own_work, alone=alone and not fully_shard.sends_because(model))


def sends_because(model: nn.Module) -> str:
    """Say why a model's ranks cannot be kept from sending and do all else; empty where they can."""
    if flat_units.flat_units(model):
        return flat_units.sends_because(model)
    kind = training_kind(model, exchanged=False)
    if kind in ("fsdp2", "hsdp"):
        return fully_shard.sends_because(model)
    return "" if kind == "ddp" else "it is neither DDP's nor sharded in a way that is known"
