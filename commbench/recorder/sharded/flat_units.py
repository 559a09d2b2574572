"""The units of FullyShardedDataParallel: a module that it wraps each, with one flat parameter.

Its reductions are seen from its own place for a communication hook, taken by one that does what torch does without and stays
there, marking nothing, once the recorder has gone. The flat parameter's hook tells whose gradient is next. Gathers have no such
place: they lie between a unit's marks `before` and `ready`. On one rank torch shards nothing, and units are marked as they
were asked for.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor, nn

from commprof.commbench.recorder.element_counts import numels_of
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.marks import Direction, Unit, UnitRecorder
from commprof.commbench.timing import Clock

_WRAPPED = "_fsdp_wrapped_module"


class FlatUnitRecorder(UnitRecorder):
    """Marks the modules that FullyShardedDataParallel wraps and that have a flat parameter, the root first."""

    def __init__(self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork) -> None:
        known: Any = sys.modules["torch.distributed.fsdp"]
        self._fsdp = known.FullyShardedDataParallel
        super().__init__(_units(model), rank, clock, own_work)
        self._roots = list(self._fsdp.fsdp_modules(model, root_only=True))
        self._reducing: int | None = None

    def attach(self) -> None:
        super().attach()
        for root in self._roots:
            with suppress(AssertionError):  # a hook of the user's stands there: what units reduce is not seen, and not written
                root.register_comm_hook(_state(root), self._reduce)

    def _hook(self, number: int) -> None:
        super()._hook(number)
        outer = self._units[number].outer
        flat = outer._handle.flat_param
        dtype = outer.mixed_precision.param_dtype or flat.dtype
        self._note_gather(number, sum(numels_of(flat)) * dtype.itemsize, dtype)
        if flat.requires_grad:
            self._hooks.append(flat.register_post_accumulate_grad_hook(partial(self._is_next, number)))

    def _is_next(self, number: int, _flat: Tensor) -> None:
        self._reducing = number

    def _reduce(self, state: Any, gradient: Tensor, *shard: Tensor) -> None:  # noqa: ANN401
        """Reduce a unit's gradients as torch does without a hook, into `shard` where there is one, and mark the call's ends."""
        from torch.distributed.algorithms._comm_hooks import default_hooks

        mark = partial(self.mark, unit=self._reducing)
        if self._reducing is not None:
            self._note_reduction(self._reducing, gradient.numel() * gradient.element_size(), gradient.dtype)
        mark("reduce_begun")
        mark("reduce_filled")
        if shard:
            mark("reduce_sent")
            default_hooks.reduce_scatter_hook(state, gradient, *shard)
            mark("reduce_landed")
        else:
            default_hooks.allreduce_hook(state, gradient)
        mark("reduced")
        mark("kept")

    def _is_sharded(self, number: int, ahead: Direction) -> bool:
        outer = self._units[number].outer
        return ahead == "forward" or (outer not in self._roots and outer.sharding_strategy.name in ("FULL_SHARD", "NO_SHARD"))

    def _parameters(self, number: int) -> Sequence[int]:
        flat = self._units[number].outer._handle.flat_param
        return [elements * flat.element_size() for elements in numels_of(flat)]

    def _mesh(self) -> tuple[int, int]:
        return self._units[0].outer.process_group.size(), 1


def has_flat_units(model: nn.Module) -> bool:
    """Say whether FullyShardedDataParallel shards a model so that its reductions can be seen: not over copies of shards."""
    units = _units(model)
    shards = all(
        unit.outer.sharding_strategy.name in ("FULL_SHARD", "SHARD_GRAD_OP")
        or (unit.outer.sharding_strategy.name == "NO_SHARD" and unit.outer.process_group.size() == 1)
        for unit in units
    )
    return bool(units) and shards


def _units(model: nn.Module) -> list[Unit]:
    known: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    return [
        Unit(name=_plain(name), outer=module, inner=module.module)
        for name, module in model.named_modules()
        if isinstance(module, known) and getattr(getattr(module, "_handle", None), "flat_param", None) is not None
    ]


def _plain(name: str) -> str:
    """Return a module's name as its author knows it."""
    return ".".join(word for word in name.split(".") if word != _WRAPPED)


def _state(root: Any) -> object:  # noqa: ANN401
    from torch.distributed.algorithms._comm_hooks import default_hooks

    return default_hooks.DefaultState(root.process_group)
