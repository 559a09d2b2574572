"""Which module is trained? The outermost one that holds all the parameters of the optimizer that took a step."""

import gc

import torch
from torch import nn


def trained_module(optimizer: torch.optim.Optimizer) -> nn.Module | None:
    """Return the outermost module with the optimizer's parameters, of several the smallest; None where there is none."""
    wanted = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    modules = [value for value in gc.get_objects() if issubclass(type(value), nn.Module)]
    holding = [module for module in modules if wanted <= {id(parameter) for parameter in module.parameters()}]
    inner = {id(inside) for module in holding for inside in module.modules() if inside is not module}
    outermost = [module for module in holding if id(module) not in inner]
    return min(outermost, key=lambda module: sum(p.numel() for p in module.parameters()), default=None)


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
