"""What stands in a unit's place for a collective of fully_shard's? A tap, that does what stood there before and marks its ends.

The place is taken by torch's own setters. What stood there is read where this torch keeps it; where that is not known the place
is left alone.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from commprof.commbench.records.sharding import Mark


class CollectiveTap:
    """Stands where a collective of fully_shard's `stood`, has it done, and marks its ends."""

    def __init__(
        self,
        does: Any,  # noqa: ANN401  torch's, a user's or what stands for one
        mark: Callable[[Mark], None],
        *,
        gathers: bool,
        stood: Any,  # noqa: ANN401
    ) -> None:
        self._does, self._stood, self._mark, self._gathers = does, stood, mark, gathers
        self._allocated = 0
        self.told: Callable[[int, torch.dtype], None] | None = None

    @property  # type: ignore[misc]  # read alone
    def __class__(self) -> type[Any]:
        """What stood there: torch refuses settings of communication's memory where a collective is not one of its own."""
        return type(self._stood)

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        if not self._gathers:  # fully_shard asks for the input, fills it, and asks for the output
            self._mark("reduce_begun" if self._allocated % 2 == 0 else "reduce_filled")
            if self._allocated % 2 == 0 and self.told is not None:
                self.told(prod(size) * dtype.itemsize, dtype)
            self._allocated += 1
        memory: Tensor = self._does.allocate(size, dtype=dtype, device=device)
        return memory

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  as fully_shard calls it
        self._mark("gather_sent" if self._gathers else "reduce_sent")
        work = self._does(*arguments, **options)
        self._mark("gather_landed" if self._gathers else "reduce_landed")
        return work


def sharded_as(module: nn.Module) -> int:
    """Return what tells the modules apart that were not sharded together: fully_shard gives those of a list one state."""
    any_module: Any = module
    with suppress(AttributeError):
        return id(any_module._get_fsdp_state())
    return id(module)


def reduces_by_hook(module: nn.Module) -> bool:
    """Whether a hook of the script's own is called with what a unit has reduced, to all-reduce it by itself."""
    return collective_of(module, "_all_reduce_hook") is not None


def collective_of(module: nn.Module, place: str) -> Any:  # noqa: ANN401
    """Return what stands in a unit's place for a collective; None where this torch keeps it elsewhere, or has several."""
    with suppress(AttributeError, ValueError, TypeError):
        any_module: Any = module
        state = any_module._get_fsdp_state()
        (group,) = state._fsdp_param_groups if hasattr(state, "_fsdp_param_groups") else [state._fsdp_param_group]
        return getattr(group, place)
    return None
