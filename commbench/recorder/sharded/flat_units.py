"""The units of FullyShardedDataParallel: a module that it wraps each, with one flat parameter.

Its reductions are seen from its own place for a communication hook, taken by one that does what torch does without. torch's
setter gives that place to the first who asks, and ends the job of who asks later: so each unit's is taken as its forward pass
begins and given back as the step ends, and a script may register a hook of its own between its steps. Gathers have no such
place: they lie between a unit's marks `before` and `ready`. On one rank torch shards nothing, and units are marked as they were
asked for.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from commprof.commbench.recorder.element_counts import numels_of
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.marks import Direction, Unit, UnitRecorder
from commprof.commbench.timing import Clock

_WRAPPED = "_fsdp_wrapped_module"


class FlatUnitRecorder(UnitRecorder):
    """Marks the modules that FullyShardedDataParallel wraps and that have a flat parameter, the root first."""

    def __init__(self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork) -> None:
        units = flat_units(model)
        untold = _untold(units)
        super().__init__([] if untold else units, rank, clock, own_work)
        self._untold = untold
        self._standing: dict[int, Callable[..., None]] = {}

    def end_step(self) -> None:
        super().end_step()
        self._give_back()

    def release(self) -> None:
        super().release()
        self._give_back()

    def _hook(self, number: int) -> None:
        super()._hook(number)
        outer = self._units[number].outer
        flat = outer._handle.flat_param
        dtype = outer.mixed_precision.param_dtype or flat.dtype
        self._note_gather(number, sum(numels_of(flat)) * dtype.itemsize, dtype)
        self._hooks.append(outer.register_forward_pre_hook(partial(self._take_place, number)))

    def _take_place(self, number: int, outer: Any, _arguments: object) -> None:  # noqa: ANN401
        """Stand in a unit's place for a hook. A step in which a user's own stands there is dropped: it hides reductions."""
        if not self._marking or not torch.is_grad_enabled():
            return
        present = getattr(outer, "_comm_hook", self)  # a torch that keeps it elsewhere has a hook, for all that is known
        if present is None:
            self._own_work.do(self._stand, number, outer)
        elif present is not self._standing.get(number):
            self._marks, self._marking = [], False

    def _stand(self, number: int, outer: Any) -> None:  # noqa: ANN401
        outer._comm_hook_state = _state(outer)
        outer._comm_hook = self._standing[number] = partial(self._reduce, number)

    def _give_back(self) -> None:
        for number, own in self._standing.items():
            outer = self._units[number].outer
            if outer._comm_hook is own:
                outer._comm_hook = outer._comm_hook_state = None
        self._standing.clear()

    def _reduce(self, number: int, state: Any, gradient: Tensor, *shard: Tensor) -> None:  # noqa: ANN401
        """Reduce a unit's gradients as torch does without a hook, into `shard` where there is one, and mark the call's ends."""
        from torch.distributed.algorithms._comm_hooks import default_hooks

        mark = partial(self.mark, unit=number)
        self._note_reduction(number, gradient.numel() * gradient.element_size(), gradient.dtype)
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
        # It knows from its first pass on whether it is a root; torch's function, asked sooner, would settle it there and then.
        return ahead == "forward" or (not outer._is_root and outer.sharding_strategy.name in ("FULL_SHARD", "NO_SHARD"))

    def gathered_bytes(self, ahead: Direction) -> int:
        return 0 if self._mesh() == (1, 1) else super().gathered_bytes(ahead)  # one rank has no copy of what it has whole

    def _parameters(self, number: int) -> Sequence[int]:
        flat = self._units[number].outer._handle.flat_param
        return [elements * flat.element_size() for elements in numels_of(flat)]

    def _mesh(self) -> tuple[int, int]:
        return self._units[0].outer.process_group.size(), 1


def flat_units(model: nn.Module) -> list[Unit]:
    """Return the modules that FullyShardedDataParallel wraps and that have a flat parameter, the root first."""
    known: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    return [
        Unit(name=_plain(name), outer=module, inner=module.module)
        for name, module in model.named_modules()
        if isinstance(module, known) and getattr(getattr(module, "_handle", None), "flat_param", None) is not None
    ]


def _untold(units: Sequence[Unit]) -> str:
    """Say why reductions cannot be seen: torch takes no hook over copies of shards; empty where they can."""
    strategies = {unit.outer.sharding_strategy.name for unit in units}
    sizes = {unit.outer.process_group.size() for unit in units}
    if any("HYBRID" in name for name in strategies):
        return "FullyShardedDataParallel takes no hook over copies of shards; on one rank, where it makes none, they are seen"
    if len(sizes) > 1:
        return "units are sharded over different numbers of ranks"
    if sizes != {1} and "NO_SHARD" in strategies:
        return "FullyShardedDataParallel was told to shard nothing (NO_SHARD)"
    return ""


def _plain(name: str) -> str:
    """Return a module's name as its author knows it."""
    return ".".join(word for word in name.split(".") if word != _WRAPPED)


def _state(outer: Any) -> object:  # noqa: ANN401
    """Return what torch's default hook needs of a unit: units inside each other may have process groups of their own."""
    from torch.distributed.algorithms._comm_hooks import default_hooks

    return default_hooks.DefaultState(outer.process_group)
