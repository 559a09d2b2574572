"""The units of FullyShardedDataParallel: a module that it wraps each, with one flat parameter.

Its reductions are seen from its own place for a communication hook, taken by one that does what torch does without. torch's
setter gives that place to the first who asks, and ends the job of who asks later: so each unit's is taken as its forward pass
begins and given back as the step ends, and a script may register a hook of its own between its steps. Gathers have no such
place: they lie between a unit's marks `before` and `ready`. Over copies of shards (HYBRID_SHARD) torch takes no hook, and on
ranks that are to send nothing gathers are kept back as well: all is seen there where it is sent (flat_collectives.py). On one
rank torch shards nothing, and units are marked as they were asked for.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from commprof.commbench.recorder.element_counts import numels_of
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.flat_collectives import FlatCollectives, can_be_seen, copies_of
from commprof.commbench.recorder.sharded.marks import Direction, Unit, UnitRecorder
from commprof.commbench.timing import Clock

_WRAPPED: Final = "_fsdp_wrapped_module"
_RESHARDING: Final = ("FULL_SHARD", "HYBRID_SHARD", "NO_SHARD")  # on one rank torch turns all of them into the last


class FlatUnitRecorder(UnitRecorder):
    """Marks the modules that FullyShardedDataParallel wraps and that have a flat parameter, the root first.

    With `alone` nothing is sent, of a model of which `sends_because` has nothing to say.
    """

    def __init__(self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork, *, alone: bool = False) -> None:
        units = flat_units(model)
        untold = _untold(units)
        super().__init__([] if untold else units, rank, clock, own_work)
        self._untold = untold
        self._standing: dict[int, Callable[..., None]] = {}
        outers = [unit.outer for unit in self._units]
        self.meets = alone and outers[0].compute_device.type == "cpu" and max(self._mesh()) > 1
        self._alone = alone
        self._collectives: FlatCollectives | None = None
        if alone or any(map(copies_of, outers)):
            self._collectives = FlatCollectives(outers, self.mark, own_work, alone=alone)
            self._collectives.told = self._note_reduction

    def attach(self) -> None:
        super().attach()
        if self._collectives is not None:
            self._collectives.put()

    def begin_step(self) -> None:
        super().begin_step()
        if self._collectives is not None:
            self._collectives.in_step = True

    def end_step(self) -> None:
        super().end_step()
        self._give_back()
        if self._collectives is not None:
            self._collectives.in_step = False

    def release(self) -> None:
        super().release()
        self._give_back()
        if self._collectives is not None:
            self._collectives.in_step = True  # with `alone`, for nobody tells of steps any more
            if not self._alone:
                self._collectives.release()

    def detach(self) -> None:
        super().detach()
        if self._collectives is not None:
            self._collectives.release()

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
            if self._collectives is None:
                self._own_work.do(self._stand, number, outer)
        elif present is not self._standing.get(number):
            self._marks, self._marking = [], False
            if self._alone and self._collectives is not None:  # what a hook of the script's own sends is its own
                self._collectives.release()
                self._send_again("a communication hook")

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
        return ahead == "forward" or (not outer._is_root and outer.sharding_strategy.name in _RESHARDING)

    def gathered_bytes(self, ahead: Direction) -> int:
        return 0 if self._mesh() == (1, 1) else super().gathered_bytes(ahead)  # one rank has no copy of what it has whole

    def _parameters(self, number: int) -> Sequence[int]:
        flat = self._units[number].outer._handle.flat_param
        return [elements * flat.element_size() for elements in numels_of(flat)]

    def _mesh(self) -> tuple[int, int]:
        return _shape(self._units[0].outer)


def flat_units(model: nn.Module) -> list[Unit]:
    """Return the modules that FullyShardedDataParallel wraps and that have a flat parameter, the root first."""
    known: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    return [
        Unit(name=_plain(name), outer=module, inner=module.module)
        for name, module in model.named_modules()
        if isinstance(module, known) and getattr(getattr(module, "_handle", None), "flat_param", None) is not None
    ]


def sends_because(model: nn.Module) -> str:
    """Say why the ranks of a model in flat units cannot be kept from sending; empty where they can."""
    units = flat_units(model)
    if any(getattr(unit.outer, "_comm_hook", unit) is not None for unit in units):
        return "its reductions go through a communication hook of the script's own"
    if any(unit.outer._handle._fsdp_extension is not None for unit in units):
        return "its parameters are shared out by more than FullyShardedDataParallel, as under tensor parallelism"
    if not can_be_seen():
        return "this torch sends its shards from another place than is known"
    return _untold(units)


def _untold(units: Sequence[Unit]) -> str:
    """Say why reductions cannot be seen, or are not those of one group that shards; empty where they can."""
    strategies = {unit.outer.sharding_strategy.name for unit in units}
    shapes = {_shape(unit.outer) for unit in units}
    if any("HYBRID" in name for name in strategies) and not can_be_seen():
        return "this torch reduces over copies of shards in another place than is known"
    if len(shapes) > 1:
        return "units are sharded over different numbers of ranks"
    if shapes != {(1, 1)} and "NO_SHARD" in strategies:
        return "FullyShardedDataParallel was told to shard nothing (NO_SHARD)"
    return ""


def _shape(outer: Any) -> tuple[int, int]:  # noqa: ANN401
    """Return over how many ranks a unit is sharded, and how many copies of the shards there are."""
    copies = copies_of(outer)
    return outer.process_group.size(), 1 if copies is None else copies.size()


def _plain(name: str) -> str:
    """Return a module's name as its author knows it."""
    return ".".join(word for word in name.split(".") if word != _WRAPPED)


def _state(outer: Any) -> object:  # noqa: ANN401
    """Return what torch's default hook needs of a unit: units inside each other may have process groups of their own."""
    from torch.distributed.algorithms._comm_hooks import default_hooks

    return default_hooks.DefaultState(outer.process_group)
