"""Which recorder of units fits a model, of whom shards it? And may its ranks send nothing?"""

from torch import nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.parallelism import deepspeed_engine, training_kind
from commprof.commbench.recorder.sharded.flat_units import FlatUnitRecorder, flat_units
from commprof.commbench.recorder.sharded.fully_shard import FullyShardRecorder, may_send_nothing
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.recorder.sharded.zero_engine import ZeroRecorder
from commprof.commbench.timing import Clock


def unit_recorder(model: nn.Module, rank: int, clock: Clock, own_work: OwnWork, *, alone: bool = False) -> UnitRecorder:
    """Return what marks the units of a model that is sharded; of another it marks nothing. `alone`: nothing is to be sent."""
    engine = deepspeed_engine(model)
    if engine is not None and 1 <= int(engine.zero_optimization_stage()) <= 3:
        return ZeroRecorder(engine, rank, clock, own_work)
    if flat_units(model):
        return FlatUnitRecorder(model, rank, clock, own_work)
    return FullyShardRecorder(model, rank, clock, own_work, alone=alone and may_send_nothing(model))


def may_be_alone(model: nn.Module) -> bool:
    """Whether a model's ranks can be kept from sending and do all else: DDP's, and fully_shard's."""
    kind = training_kind(model, exchanged=False)
    return kind == "ddp" or (kind in ("fsdp2", "hsdp") and may_send_nothing(model))
