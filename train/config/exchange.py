"""Which ways of sharing a training out over ranks can be asked for together? Raises BadInput for those that cannot."""

from typing import TYPE_CHECKING

from commprof.commbench.errors import BadInput

if TYPE_CHECKING:
    from commprof.train.config.types import DistributedConfig, TrainConfig

STRATEGIES = ("ddp", "fsdp", "hsdp")


def check_exchange(config: "TrainConfig") -> None:
    """Raise BadInput for a strategy, a hook or an accumulation that do not go together, naming what would."""
    _check_powersgd(config)
    if config.distributed.static_graph and config.training.accumulation > 1:
        raise BadInput(
            f"distributed.static_graph=true cannot go with training.accumulation={config.training.accumulation}: DDP learns "
            "its graph from a first backward that sends; drop one of them"
        )
    if config.distributed.strategy != "ddp":
        _check_sharded(config)


def check_replicas(distributed: "DistributedConfig", world_size: int) -> None:
    """Raise BadInput where the ranks of an HSDP training do not divide into its copies."""
    if distributed.strategy == "hsdp" and world_size > 1 and world_size % distributed.replicas:
        raise BadInput(
            f"distributed.replicas={distributed.replicas} does not divide {world_size} ranks; use a divisor of {world_size}"
        )


def _check_sharded(config: "TrainConfig") -> None:
    distributed, strategy = config.distributed, f"distributed.strategy={config.distributed.strategy}"
    of_ddp = {
        "bucket_cap_mb": None,
        "first_bucket_mb": None,
        "gradient_as_bucket_view": False,
        "static_graph": False,
        "find_unused_parameters": False,
        "communication_hook": "none",
    }
    for name, default in of_ddp.items():
        if (value := getattr(distributed, name)) != default:
            raise BadInput(f"distributed.{name}={value} is DDP's and means nothing with {strategy}; drop one of them")
    if distributed.synchronisation == "delayed":
        raise BadInput(f"distributed.synchronisation=delayed delays DDP's buckets, and {strategy} has none; use normal")
    if config.training.precision == "float16":
        raise BadInput(f"training.precision=float16 scales its loss, which is not offered with {strategy}; use bfloat16")
    if config.training.compile:
        raise BadInput(f"training.compile=true is not offered with {strategy}; drop one of them")


def _check_powersgd(config: "TrainConfig") -> None:
    if config.distributed.communication_hook != "powersgd":
        return
    if config.distributed.powersgd_start < 2:
        raise BadInput(
            f"distributed.powersgd_start={config.distributed.powersgd_start} is too early: "
            "DDP lays its buckets out anew after the first step; use 2 or more"
        )
    if config.training.checkpoint_every is not None:
        raise BadInput(
            "training.checkpoint_every saves no state of distributed.communication_hook=powersgd, whose errors and factors are "
            "each rank's own; set checkpoint_every=null or take another hook"
        )
