"""The gradients of what a module is called with, or puts out: each tells when it is there."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor


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
    """Have the gradient of each tensor in a value, whatever holds it, tell when it is there."""
    for tensor in _tensors(value):
        any_tensor: Any = tensor
        if tensor.requires_grad:
            any_tensor.register_hook(partial(_tell, told))


def _tell(told: Callable[[], None], _gradient: Tensor) -> None:
    told()
