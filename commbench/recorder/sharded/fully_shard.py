"""The units of fully_shard: a module each, whose collectives a tap can stand in for.

Its own places for collectives (set_custom_all_gather, set_custom_reduce_scatter) are taken by a tap that does what stood there
before.
"""

import sys
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, Final

from torch import Tensor, nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.collective_tap import CollectiveTap, collective_of
from commprof.commbench.recorder.sharded.marks import Direction, Unit, UnitRecorder
from commprof.commbench.timing import Clock

_COMMS: Final = {"_all_gather_comm": "set_custom_all_gather", "_reduce_scatter_comm": "set_custom_reduce_scatter"}


class FullyShardRecorder(UnitRecorder):
    """Marks the modules that fully_shard was called on and that have parameters of their own, the root first."""

    def __init__(self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork) -> None:
        units = [Unit(name=name, outer=each, inner=each) for name, each in fully_sharded(model) if _own_parameters(each)]
        super().__init__(units, rank, clock, own_work)
        self._as_shards = [_own_parameters(unit.outer) for unit in units]
        self._earlier: list[tuple[Any, str, Any]] = []

    def attach(self) -> None:
        super().attach()
        for number, unit in enumerate(self._units):
            for place, setter in _COMMS.items():
                earlier = collective_of(unit.outer, place)
                if earlier is not None:
                    tap = CollectiveTap(earlier, partial(self.mark, unit=number), gathers=place == "_all_gather_comm")
                    tap.told = partial(self._note_reduction, number)
                    getattr(unit.outer, setter)(tap)
                    self._earlier.append((unit.outer, setter, earlier))

    def release(self) -> None:
        """Take every hook off and give the collectives back their earlier places."""
        super().release()
        while self._earlier:
            module, setter, earlier = self._earlier.pop()
            getattr(module, setter)(earlier)

    def _hook(self, number: int) -> None:
        super()._hook(number)

        def kept(_parameter: Tensor) -> None:
            self.mark("reduced", number)
            self.mark("kept", number)

        trained: list[Any] = [parameter for parameter in self._as_shards[number].values() if parameter.requires_grad]
        self._hooks += [parameter.register_post_accumulate_grad_hook(kept) for parameter in trained]

    def _is_sharded(self, number: int, ahead: Direction) -> bool:
        present = _own_parameters(self._units[number].outer)
        return any(present.get(name) is parameter for name, parameter in self._as_shards[number].items())

    def _look_at_whole(self, number: int) -> None:
        whole = _own_parameters(self._units[number].outer)
        if "gather_dtype" not in self._known.get(number, {}) and whole:
            self._note_gather(number, sum(map(_num_bytes, whole.values())), next(iter(whole.values())).dtype)

    def _parameters(self, number: int) -> Sequence[int]:
        return [_num_bytes(parameter) for parameter in self._as_shards[number].values()]

    def _mesh(self) -> tuple[int, int]:
        some: Any = next(iter(self._as_shards[0].values()), None) if self._as_shards[0] else None
        mesh = getattr(some, "device_mesh", None)
        sizes = (1,) if mesh is None else tuple(mesh.shape)
        return int(sizes[-1]), prod(map(int, sizes[:-1]))


def fully_sharded(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the modules that fully_shard was called on, by name, the root first; none where it was never imported."""
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return [] if known is None else [(name, module) for name, module in model.named_modules() if isinstance(module, known)]


def _own_parameters(unit: nn.Module) -> dict[str, Any]:
    """Return a unit's parameters without those of the units inside it, as they are at present."""
    inner = [name for name, _ in fully_sharded(unit) if name]
    return {
        name: parameter
        for name, parameter in unit.named_parameters()
        if not any(name.startswith(f"{prefix}.") for prefix in inner)
    }


def _num_bytes(parameter: Tensor) -> int:
    return parameter.numel() * parameter.element_size()
