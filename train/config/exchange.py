"""How may a training be shared out over ranks? What can be asked for, and BadInput for what does not go together."""

from dataclasses import dataclass

from commprof.commbench.errors import BadInput
from commprof.commbench.records.buckets import CAP_BYTES, FIRST_CAP_BYTES

STRATEGIES = ("ddp", "fsdp", "hsdp")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedConfig:
    """`threads_per_rank` 0 shares the host's cores among its ranks.

    `bucket_cap_mb` null keeps DDP's 1 then 25 MiB; a number is the cap of all buckets, the first one's being
    `first_bucket_mb` where that is set (MiB, as DDP counts).
    `communication_hook` none sends gradients as they are, fp16 and bf16 in two bytes, powersgd as matrices of rank
    `powersgd_rank` from step `powersgd_start` on. `gradient_as_bucket_view`, `static_graph` and `find_unused_parameters` are
    DDP's own.

    `synchronisation` normal overlaps communication with backward as DDP does; delayed sends all buckets once backward has
    made the last one; compute_only sends nothing after its first passes: each rank keeps its gradients, or copies where
    fully_shard would send, and does all the rest of a step; on the host the ranks meet and wait where they would exchange.

    `strategy` ddp; fsdp, which shards parameters, gradients and optimizer over all ranks (fully_shard, a unit a block); hsdp,
    `replicas` copies of such shards. `reshard_after_forward` frees a unit's parameters between its passes,
    `reshard_after_backward` from one micro-batch to the next; `prefetch` asks for the next unit's before this one has computed.
    A unit computes in `gather_dtype`, in which its parameters are gathered, and its gradients are reduced in `reduce_dtype`.
    """

    backend: str = "auto"
    strategy: str = "ddp"
    replicas: int = 2
    reshard_after_forward: bool = True
    reshard_after_backward: bool = True
    gather_dtype: str = "float32"
    reduce_dtype: str = "float32"
    prefetch: bool = True
    threads_per_rank: int = 0
    bucket_cap_mb: float | None = None
    first_bucket_mb: float | None = None
    gradient_as_bucket_view: bool = False
    static_graph: bool = False
    find_unused_parameters: bool = False
    communication_hook: str = "none"
    powersgd_rank: int = 1
    powersgd_start: int = 1000
    synchronisation: str = "normal"
    timeout_s: float = 120.0

    @property
    def bucket_caps_bytes(self) -> tuple[int, int]:
        """The caps of the first bucket and of the others."""
        cap_bytes = CAP_BYTES if self.bucket_cap_mb is None else int(self.bucket_cap_mb * 2**20)
        if self.first_bucket_mb is not None:
            return int(self.first_bucket_mb * 2**20), cap_bytes
        return (FIRST_CAP_BYTES if self.bucket_cap_mb is None else cap_bytes), cap_bytes


def check_exchange(distributed: DistributedConfig, *, accumulation: int, saves: bool, precision: str, compiles: bool) -> None:
    """Raise BadInput for a strategy, a hook and a training that do not go together, naming what would.

    `saves`: checkpoints are kept. `compiles`: the model runs through torch.compile.
    """
    _check_powersgd(distributed, saves)
    if distributed.static_graph and accumulation > 1:
        raise BadInput(
            f"distributed.static_graph=true cannot go with training.accumulation={accumulation}: DDP learns "
            "its graph from a first backward that sends; drop one of them"
        )
    if distributed.strategy != "ddp":
        _check_sharded(distributed, precision, compiles)
        return
    for name in ("gather_dtype", "reduce_dtype"):
        if (value := getattr(distributed, name)) != "float32":
            raise BadInput(f"distributed.{name}={value} is of sharded trainings; add distributed.strategy=fsdp or drop it")


def check_replicas(distributed: DistributedConfig, world_size: int) -> None:
    """Raise BadInput where the ranks of an HSDP training do not divide into its copies."""
    if distributed.strategy == "hsdp" and world_size > 1 and world_size % distributed.replicas:
        raise BadInput(
            f"distributed.replicas={distributed.replicas} does not divide {world_size} ranks; use a divisor of {world_size}"
        )


def _check_sharded(distributed: DistributedConfig, precision: str, compiles: bool) -> None:
    strategy = f"distributed.strategy={distributed.strategy}"
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
    if precision == "float16":
        raise BadInput(f"training.precision=float16 scales its loss, which is not offered with {strategy}; use bfloat16")
    if compiles:
        raise BadInput(f"training.compile=true is not offered with {strategy}; drop one of them")


def _check_powersgd(distributed: DistributedConfig, saves: bool) -> None:
    if distributed.communication_hook != "powersgd":
        return
    if distributed.powersgd_start < 2:
        raise BadInput(
            f"distributed.powersgd_start={distributed.powersgd_start} is too early: "
            "DDP lays its buckets out anew after the first step; use 2 or more"
        )
    if saves:
        raise BadInput(
            "training.checkpoint_every saves no state of distributed.communication_hook=powersgd, whose errors and factors are "
            "each rank's own; set checkpoint_every=null or take another hook"
        )
