"""How many elements has a parameter, wherever they lie? Shards tell their own; what is counted is the whole model's.

fully_shard's parameters (DTensor) count themselves whole, DeepSpeed's of stage 3 keep their number beside them, and those of
FullyShardedDataParallel are views into a shard of a flat one, which has the numbers of all.
"""

import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def element_counts(model: nn.Module) -> dict[str, int]:
    """Return the elements of each of a model's parameters by name, of all shards together."""
    flattened = flattened_counts(model)
    return {name: flattened.get(id(parameter), num_elements(parameter)) for name, parameter in model.named_parameters()}


def num_elements(parameter: Tensor) -> int:
    """Return how many elements a parameter has; one of DeepSpeed's stage 3 lies elsewhere between passes and tells itself."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def num_rows(parameter: Tensor) -> int | None:
    """Return a parameter's first dimension; None of one that has none, or whose elements lie elsewhere."""
    is_whole = parameter.ndim > 0 and 0 < parameter.numel() == num_elements(parameter)
    return int(parameter.shape[0]) if is_whole else None


def num_bytes(parameter: Tensor) -> int:
    return num_elements(parameter) * parameter.element_size()


def own_shard(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor, which is all of one that is not sharded."""
    known = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if known is None or not isinstance(tensor, known):
        return tensor
    spread: Any = tensor
    own: Tensor = spread.to_local()
    return own


def numels_of(flat: Any) -> Sequence[int]:  # noqa: ANN401
    """Return the elements of each parameter in a flat one of FullyShardedDataParallel's, over all shards; none where this torch
    does not keep them, so that a shard counts as what it is."""
    return tuple(getattr(flat, "_numels", None) or ())


def flattened_counts(model: nn.Module) -> dict[int, int]:
    """Return the elements of what FullyShardedDataParallel flattened, by the parameters' identity: those that it kept, if it
    was told to, and the flat ones."""
    known: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    counts: dict[int, int] = {}
    for module in model.modules():
        any_module: Any = module
        flat: Any = getattr(getattr(any_module, "_handle", None), "flat_param", None) if isinstance(module, known) else None
        numbers = numels_of(flat)
        if numbers:
            counts[id(flat)] = sum(numbers)
            counts |= {id(own): number for own, number in zip(flat._params or (), numbers, strict=False)}
    return counts
