"""What one rank trains: the model as configured (compiled, under DDP, with its hook), its optimizer and loss scaler."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.recorder.element_counts import own_shard
from commprof.commbench.timing import host_wait
from commprof.train.config.exchange import DistributedConfig
from commprof.train.config.types import TrainConfig
from commprof.train.hooks import keep_gradients, register_hook
from commprof.train.model import TextClassifier
from commprof.train.sharding import is_sharded, put_back, sending_shards, sharded, whole_states
from commprof.train.text.dataset import NUM_CLASSES

States = tuple[dict[str, Any], dict[str, Any]]  # of the model, of the optimizer

_LOW_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _no_scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", enabled=False)


@contextmanager
def naming_failed_compilation(rank: int) -> Iterator[None]:
    """Turn torch.compile's error, such as for a compiler that is missing, into RunFailed, which says how to go without."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:200]
        raise RunFailed(f"rank {rank}: torch.compile failed ({reason}); mend it or set training.compile=false") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """The model (under DDP or sharded where there are peers), its optimizer and what float16's loss is scaled with.

    `reshards`: a sharded model frees its parameters between micro-batches.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    scaler: torch.amp.GradScaler = field(default_factory=_no_scaler)
    low_precision: torch.dtype | None = None
    reshards: bool = True

    @property
    def module(self) -> nn.Module:
        """The model itself, out of DDP."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def states(self) -> States:
        """Return the model's and the optimizer's states, whole on rank 0; sharded ranks take part, all of them."""
        if is_sharded(self.model):
            return whole_states(self.model, self.optimizer)
        return self.module.state_dict(), self.optimizer.state_dict()

    def put_back(self, states: States) -> None:
        """Load what `states` returned; raises what torch raises where it does not fit."""
        if is_sharded(self.model):
            put_back(self.model, self.optimizer, *states)
            return
        self.module.load_state_dict(states[0])
        self.optimizer.load_state_dict(states[1])

    def optimizer_bytes(self) -> int:
        """Return what this rank's optimizer keeps by itself: of sharded tensors its own shard."""
        kept = (each for state in self.optimizer.state.values() for each in state.values() if isinstance(each, Tensor))
        return sum(each.numel() * each.element_size() for each in map(own_shard, kept))

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute what follows in the configured precision."""
        return nullcontext() if self.low_precision is None else torch.autocast(self.device.type, self.low_precision)

    def sending(self, wanted: bool) -> AbstractContextManager[Any]:
        """Let the forward and backward that follow send gradients, or not (DDP's no_sync)."""
        if is_sharded(self.model):
            return sending_shards(self.model, wanted, reshards=self.reshards)
        return nullcontext() if wanted or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()


def build_trainee(config: TrainConfig, device: torch.device) -> Trainee:
    """Build model and optimizer, alike on every rank; wrap or shard the model where a process group is open."""
    training = config.training
    torch.manual_seed(training.seed)
    plain = TextClassifier(config.model, NUM_CLASSES).to(device)
    model: nn.Module = plain
    if training.compile:
        model.compile()  # in place, so that parameters keep their names
    with host_wait:  # the ranks compare their parameters, and take rank 0's
        if dist.is_initialized() and config.distributed.strategy == "ddp":
            model = _distributed(model, config.distributed, device)
        elif dist.is_initialized():
            model = sharded(plain, config.distributed, device)
    return Trainee(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay),
        device=device,
        scaler=torch.amp.GradScaler(device.type, enabled=training.precision == "float16"),
        low_precision=_LOW_PRECISION.get(training.precision),
        reshards=config.distributed.reshard_after_backward,
    )


def check_first_bucket(distributed: DistributedConfig) -> None:
    """Raise BadInput where this torch gives the first bucket no cap of its own."""
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    if distributed.first_bucket_mb is not None and "bucket_cap_mb_list" not in known:
        raise BadInput(
            f"distributed.first_bucket_mb={distributed.first_bucket_mb} needs a torch whose DDP knows bucket_cap_mb_list; "
            f"torch {torch.__version__} does not, leave it out"
        )


def _distributed(model: nn.Module, distributed: DistributedConfig, device: torch.device) -> DistributedDataParallel:
    """Wrap the model in DDP; in a compute-only run each rank soon keeps its gradients, and does all but the sending."""
    wrapped = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=distributed.gradient_as_bucket_view,
        static_graph=distributed.static_graph,
        find_unused_parameters=distributed.find_unused_parameters,
        **_bucket_options(distributed),
    )
    register_hook(wrapped, distributed)
    if distributed.synchronisation == "compute_only":
        keep_gradients(wrapped, distributed)
    return wrapped


def _bucket_options(distributed: DistributedConfig) -> dict[str, Any]:
    if distributed.first_bucket_mb is None:
        return {"bucket_cap_mb": distributed.bucket_cap_mb}
    return {"bucket_cap_mb_list": [cap_bytes / 2**20 for cap_bytes in distributed.bucket_caps_bytes]}  # the last one repeats
