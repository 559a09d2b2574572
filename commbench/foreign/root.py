"""Which module is trained? The outermost one that holds all the parameters of the optimizer that took a step."""

import gc

import torch
from torch import nn

from commprof.commbench.recorder.element_counts import own_shard
from commprof.commbench.recorder.parallelism import num_engines


def trained_module(optimizer: torch.optim.Optimizer) -> nn.Module | None:
    """Return the outermost module with the optimizer's parameters, of several the smallest; None where there is none.

    Some optimizers have copies: a library trains in half precision, or shards the optimizer's state. What they train is then
    the one module with trained parameters that there is.
    """
    wanted = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    modules = [value for value in gc.get_objects() if issubclass(type(value), nn.Module)]
    holding = _outermost([module for module in modules if wanted <= {id(parameter) for parameter in module.parameters()}])
    if holding:
        return min(holding, key=lambda module: sum(p.numel() for p in module.parameters()))
    trained = _outermost([module for module in modules if any(p.requires_grad for p in module.parameters())])
    return trained[0] if len(trained) == 1 else None


def why_none() -> str:
    """Say why no module is known to be trained by the optimizer that took a step."""
    if num_engines() > 1:  # an engine's optimizer has copies, of no one's parameters
        return (
            "there are several DeepSpeed engines, and one alone that trains can be recorded; freeze the model of an engine "
            "that only infers before deepspeed.initialize (requires_grad_(False)), or record a script for each"
        )
    return "no module holds the parameters of the optimizer that took the first step"


def trains_all(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    """Whether an optimizer has all of a model's parameters that are trained; asked while sharded ones are shards."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return all(id(p) in own for p in model.parameters() if p.requires_grad)


def kept_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return what an optimizer keeps on this rank beside parameters and gradients."""
    kept = (each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor))
    return sum(own_shard(each).nbytes for each in kept)


def _outermost(modules: list[nn.Module]) -> list[nn.Module]:
    inner = {id(inside) for module in modules for inside in module.modules() if inside is not module}
    return [module for module in modules if id(module) not in inner]


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile has the module's call: hooks that come later are not called, or compiled into it."""
    return getattr(module, "_compiled_call_impl", None) is not None or any(
        hasattr(inside, "_orig_mod") for inside in module.modules()
    )


def batch_size(args: tuple[object, ...], kwargs: dict[str, object]) -> int | None:
    """Return the first dimension of the first tensor that a module was called with; None without one."""
    tensors = (value for value in _values([*args, *kwargs.values()]) if isinstance(value, torch.Tensor) and value.ndim > 0)
    first = next(tensors, None)
    return None if first is None else int(first.shape[0])


def _values(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return [inner for each in value for inner in _values(each)]
    if isinstance(value, dict):
        return [inner for each in value.values() for inner in _values(each)]
    return [value]
