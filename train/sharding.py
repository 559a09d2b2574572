"""How is the model sharded over ranks? By fully_shard, a unit for each block of the encoder and one for what is left.

    fsdp    one shard a rank: mesh [N]
    hsdp    `replicas` copies of N/replicas shards: mesh [replicas, N/replicas]

With `reshard_after_forward` off a unit stays whole from its forward to its backward: gradients and optimizer are sharded, the
parameters of a step are not (ZeRO-2). Compute-only ranks do all but the sending: the recorder keeps that from happening.

What loads torch's sharding, a second of a core, is imported by who shards: DDP goes without.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from commprof.train.config.exchange import DistributedConfig
from commprof.train.model import TextClassifier

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def is_sharded(model: nn.Module) -> bool:
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return known is not None and isinstance(model, known)


def sharded(model: TextClassifier, distributed: DistributedConfig, device: torch.device) -> nn.Module:
    """Shard the model's blocks and then what is left of it, in place, over all ranks of the open process group."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    types = {name: getattr(torch, own) for name, own in _types(distributed).items()}
    options: dict[str, Any] = {"mesh": _mesh(distributed, device), "mp_policy": MixedPrecisionPolicy(**types)}
    for block in model.encoder.layers:
        fully_shard(block, reshard_after_forward=distributed.reshard_after_forward, **options)
    whole: Any = fully_shard(model, reshard_after_forward=False, **options)  # needed again at once, as backward begins
    units: list[Any] = [module for module in whole.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        if not distributed.prefetch:
            unit.set_modules_to_backward_prefetch([unit])  # what is there already
    if distributed.prefetch:
        for unit, following in pairwise(units):
            unit.set_modules_to_forward_prefetch([following])
    module: nn.Module = whole
    return module


def _types(distributed: DistributedConfig) -> dict[str, str]:
    """Return what fully_shard is to compute and reduce in where that is not the parameters' own type."""
    wanted = {"param_dtype": distributed.gather_dtype, "reduce_dtype": distributed.reduce_dtype}
    return wanted if any(own != "float32" for own in wanted.values()) else {}


@contextmanager
def sending_shards(model: nn.Module, wanted: bool, *, reshards: bool = True) -> Iterator[None]:
    """Let the backward that follows reduce gradients, or only add them up whole, parameters too without `reshards`."""
    any_model: Any = model
    any_model.set_requires_gradient_sync(wanted)
    any_model.set_reshard_after_backward(wanted or reshards)
    yield


def whole_states(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the model's and the optimizer's states, unsharded, on rank 0; empty elsewhere. Every rank takes part."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options), get_optimizer_state_dict(model, optimizer, options=options)


def put_back(model: nn.Module, optimizer: torch.optim.Optimizer, own: dict[str, Any], of_optimizer: dict[str, Any]) -> None:
    """Shard whole states, which every rank has, into model and optimizer."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, own, options=options)
    set_optimizer_state_dict(model, optimizer, of_optimizer, options=options)


def _mesh(distributed: DistributedConfig, device: torch.device) -> "DeviceMesh":
    """Return the ranks as shards, or as copies of shards."""
    from torch.distributed.device_mesh import init_device_mesh

    ranks = dist.get_world_size()
    if distributed.strategy == "fsdp" or ranks == 1:
        return init_device_mesh(device.type, (ranks,), mesh_dim_names=("shard",))
    shape = (distributed.replicas, ranks // distributed.replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))
