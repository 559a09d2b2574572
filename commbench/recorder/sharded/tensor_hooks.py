"""Hooks on whatever tensors a module was given or gave, and hooks that torch.compile is to leave alone."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor


def as_it_is(hook: Callable[..., None]) -> Callable[..., None]:
    """Keep a hook out of what is compiled, where that is loaded: its clock cannot be traced, and the job would be told."""
    return torch.compiler.disable(hook) if "torch._dynamo" in sys.modules else hook  # type: ignore[no-untyped-call]


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)


def hook_gradients(value: object, told: Callable[[], None]) -> None:
    """Have `told` called as the gradient of each tensor in tuples, lists and dicts is there."""
    for tensor in _tensors(value):
        any_tensor: Any = tensor
        if tensor.requires_grad:
            any_tensor.register_hook(partial(_tell, told))


def _tell(told: Callable[[], None], _gradient: Tensor) -> None:
    told()
