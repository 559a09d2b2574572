"""Which kind of training is this? From its wrappers, its optimizers, where its parameters lie, and whether it sent anything.

Found by names of torch's own public classes where those are imported already: what was never imported wraps nothing. The first
of these that holds is the answer:

    pipeline                   a stage of torch.distributed.pipelining exists
    zero1, zero2, zero3        a DeepSpeed engine of that stage; deepspeed without one
    fsdp1, fsdp2, hsdp         FullyShardedDataParallel, fully_shard, and either of them over copies of shards
    replicate                  the composable replicate()
    tensor_parallel            parameters are DTensors that nothing of the above shards
    zero_redundancy_optimizer  DDP whose optimizer is shared out among the ranks
    ddp                        DistributedDataParallel
    hand_made                  several ranks, none of these, and collectives were called in the steps
    none                       nothing is exchanged
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.records.training_kind import TrainingKind


def training_kind(model: nn.Module, *, exchanged: bool) -> TrainingKind:
    """Return the kind of training of a model; `exchanged`: its group was seen to exchange something in its steps."""
    if _instances("torch.distributed.pipelining.stage", "_PipelineStageBase"):
        return "pipeline"
    return (
        _of_deepspeed(model)
        or _of_shards(model)
        or _of_ddp(model)
        or ("tensor_parallel" if _dtensors(model) else None)
        or ("hand_made" if exchanged else "none")
    )


def wrapper_of(model: nn.Module) -> nn.Module:
    """Return the DDP module that holds all trained parameters of a model, around it or in it; the model itself without one."""
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    for ddp in _instances("torch.nn.parallel.distributed", "DistributedDataParallel"):
        if trained <= {id(parameter) for parameter in ddp.parameters()}:
            found: nn.Module = ddp
            return found
    return model


def deepspeed_engine(model: nn.Module) -> Any:  # noqa: ANN401  a class of DeepSpeed's
    """Return the DeepSpeed engine that a model is, or that there is; None without one."""
    engines = [model, *_instances("deepspeed.runtime.engine", "DeepSpeedEngine")]
    return next((own for own in engines if any(base.__name__ == "DeepSpeedEngine" for base in type(own).__mro__)), None)


def num_engines() -> int:
    """Return how many DeepSpeed engines there are."""
    return len(_instances("deepspeed.runtime.engine", "DeepSpeedEngine"))


def _of_deepspeed(model: nn.Module) -> TrainingKind | None:
    engine = deepspeed_engine(model)
    stages: dict[int, TrainingKind] = {1: "zero1", 2: "zero2", 3: "zero3"}
    return None if engine is None else stages.get(int(engine.zero_optimization_stage()), "deepspeed")


def _of_shards(model: nn.Module) -> TrainingKind | None:
    for module in model.modules():
        any_module: Any = module
        if _is(module, "torch.distributed.fsdp", "FullyShardedDataParallel"):
            return "hsdp" if "HYBRID" in any_module.sharding_strategy.name else "fsdp1"
        if _is(module, "torch.distributed._composable.replicate_with_fsdp", "ReplicateModule"):
            return "replicate"
        if _is(module, "torch.distributed.fsdp", "FSDPModule"):
            return _of_meshes([*_dtensors(model), *_left_whole(model)])
    return None


def shard_dimensions(tensor: Any) -> list[tuple[int, Any]]:  # noqa: ANN401  a DTensor
    """Return sizes and placements along a DTensor's mesh. A last one of size 1 behind one that shards is left out: that of a
    tensor parallelism which is switched off."""
    known = list(zip(map(int, tensor.device_mesh.shape), tensor.placements, strict=True))
    while known[-1][0] == 1 and any(not placement.is_replicate() for _, placement in known[:-1]):
        known.pop()
    return known


def _of_meshes(tensors: list[Any]) -> TrainingKind:
    """Return how fully_shard's parameters lie: over copies it shards the last dimension of a mesh and none before it."""
    meshes = [shard_dimensions(tensor) for tensor in tensors]
    if any(not placement.is_replicate() for mesh in meshes for _, placement in mesh[:-1]):
        return "tensor_parallel"
    return "hsdp" if any(len(mesh) > 1 for mesh in meshes) else "fsdp2"


def _of_ddp(model: nn.Module) -> TrainingKind | None:
    if not any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        return "replicate" if any(map(_is_replicated, model.modules())) else None
    if any(_dtensors(model)):
        return "tensor_parallel"
    shared = _instances("torch.distributed.optim.zero_redundancy_optimizer", "ZeroRedundancyOptimizer")
    return "zero_redundancy_optimizer" if shared else "ddp"


def _is_replicated(module: nn.Module) -> bool:
    """Say whether replicate() of torch.distributed._composable, which leaves the class alone, was called on a module."""
    registry = getattr(sys.modules.get("torch.distributed._composable.contract"), "_get_registry", None)
    return registry is not None and "replicate" in (registry(module) or {})


def _dtensors(model: nn.Module) -> list[Any]:
    return [tensor for tensor in model.parameters() if _is(tensor, "torch.distributed.tensor", "DTensor")]


def _left_whole(model: nn.Module) -> Iterator[Any]:
    """Yield the shards of parameters that fully_shard may leave whole; none where this torch keeps them elsewhere."""
    for module in model.modules():
        any_module: Any = module
        with suppress(AttributeError):
            state = any_module._get_fsdp_state()
            groups = state._fsdp_param_groups if hasattr(state, "_fsdp_param_groups") else [state._fsdp_param_group]
            yield from (own.sharded_param for group in groups if group is not None for own in group.fsdp_params)


def _is(value: object, module: str, name: str) -> bool:
    known = getattr(sys.modules.get(module), name, None)
    return isinstance(known, type) and isinstance(value, known)


def _instances(module: str, name: str) -> list[Any]:
    """Return what there is of a class, nothing where its module was never imported; looks at every object there is.

    At once: a generator that nobody asks to its end would be in its own list of objects, and keep all of them alive.
    """
    known = getattr(sys.modules.get(module), name, None)
    return [value for value in gc.get_objects() if issubclass(type(value), known)] if isinstance(known, type) else []
