"""Which recorder of units fits a model: that of fully_shard, or of FullyShardedDataParallel?"""

from torch import nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.flat_units import FlatUnitRecorder, flat_units
from commprof.commbench.recorder.sharded.fully_shard import FullyShardRecorder
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.timing import Clock


def unit_recorder(model: nn.Module, rank: int, clock: Clock, own_work: OwnWork) -> UnitRecorder:
    """Return what marks the units of a model that is sharded; of another it marks nothing."""
    kind = FlatUnitRecorder if flat_units(model) else FullyShardRecorder
    return kind(model, rank, clock, own_work)
