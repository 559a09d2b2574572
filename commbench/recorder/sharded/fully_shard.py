"""The units of fully_shard: a module each, or several sharded together, whose collectives a tap can stand in for.

Its own places for collectives (set_custom_all_gather, set_custom_reduce_scatter) are taken by a tap that does what stood there
before or, on ranks that are to send nothing, what stands for it. For the all-reduce of copies of shards there is no such place.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Final

from torch import Tensor, nn

from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.parallelism import shard_dimensions
from commprof.commbench.recorder.sharded.collective_tap import CollectiveTap, collective_of, reduces_by_hook, sharded_as
from commprof.commbench.recorder.sharded.marks import Direction, Unit, UnitRecorder
from commprof.commbench.recorder.sharded.unsent import UnsentAmongCopies, UnsentGather, UnsentReduction
from commprof.commbench.records.sharding import MAX_ROW_COUNTS, ShardedRows, ShardedUnit, filled_up
from commprof.commbench.timing import Clock

_COMMS: Final = {"_all_gather_comm": "set_custom_all_gather", "_reduce_scatter_comm": "set_custom_reduce_scatter"}

_SENT: Final = (
    "its ranks exchanged as ever among copies of the shards: this torch reduces there by another function than "
    "torch.distributed.all_reduce, which alone can be kept back"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a module has a parameter, and the shard (a DTensor) that is there between a unit's passes."""

    module: nn.Module
    name: str
    shard: Any

    @property
    def present(self) -> Any:  # noqa: ANN401  the shard, or the whole parameter
        return self.module._parameters[self.name]


@dataclass(frozen=True, slots=True)
class _Tap:
    """What stands in a module's place for a collective, and what stood there."""

    module: Any
    place: str
    earlier: Any
    own: CollectiveTap

    @property
    def stands(self) -> bool:
        return collective_of(self.module, self.place) is self.own

    def remove(self) -> None:
        """Give the place back, where nobody has put something else there since."""
        if self.stands:
            getattr(self.module, _COMMS[self.place])(self.earlier)


class FullyShardRecorder(UnitRecorder):
    """Marks what fully_shard was called on and has parameters of its own that are sharded, the root first.

    With `alone` nothing is sent, of a model of which `sends_because` has nothing to say.
    """

    def __init__(self, model: nn.Module, rank: int, clock: Clock, own_work: OwnWork, *, alone: bool = False) -> None:
        self._alone = alone
        owned = _sharded(model)
        unlike = _unlike([place.shard for _, places in owned for place in places])
        sharded = [] if unlike else owned
        self._places = [places for _, places in sharded]
        units = [Unit(name=group[0][0], outer=group[0][1], inner=group[0][1], last=group[-1][1]) for group, _ in sharded]
        super().__init__(units, rank, clock, own_work)
        self.meets = alone and owned[0][1][0].shard.device.type == "cpu" and max(self._mesh()) > 1
        self._untold = unlike
        self._copies: UnsentAmongCopies | None = None
        self._taps: list[_Tap] = []

    def attach(self) -> None:
        super().attach()
        unsent = [self._tap(number, place) for number in range(len(self._units)) for place in _COMMS]
        reductions = [own for own in unsent if isinstance(own, UnsentReduction)]
        if reductions and self._mesh()[1] > 1:
            self._copies = UnsentAmongCopies(reductions)
            self._copies.put()

    @property
    def sends_all_the_same(self) -> bool:
        """Whether copies were to send nothing, and nothing of theirs was kept back in any step."""
        sent = self._copies is not None and self.has_steps and self._copies.num_kept == 0
        return sent or super().sends_all_the_same

    def unseen(self) -> Iterator[str]:
        yield from super().unseen()
        if self.sends_all_the_same and not self.sends_again:
            yield _SENT

    def _tap(self, number: int, place: str) -> Any:  # noqa: ANN401  what stands in a collective's place
        """Put a tap into a unit's place for a collective, before what is there or what stands for it; return that."""
        module = self._units[number].outer
        earlier, gathers = collective_of(module, place), place == "_all_gather_comm"
        if earlier is None:
            return None
        stands: Any = earlier if not self._alone else UnsentGather() if gathers else UnsentReduction()
        tap = CollectiveTap(stands, partial(self.mark, unit=number), gathers=gathers, stood=earlier)
        tap.told = partial(self._note_reduction, number)
        getattr(module, _COMMS[place])(tap)
        self._taps.append(_Tap(module, place, earlier, tap))
        return stands

    def release(self) -> None:
        super().release()
        if not self._alone:
            self._give_back()

    def detach(self) -> None:
        super().detach()
        self._give_back()

    def _give_back(self) -> None:
        """Give the collectives back their earlier places."""
        if self._copies is not None:
            self._copies.release()
        while self._taps:
            self._taps.pop().remove()

    def _before(self, number: int, arguments: object) -> None:
        module = self._units[number].outer
        own = (tap for tap in self._taps if tap.module is module)
        if self._alone and (reduces_by_hook(module) or not all(tap.stands for tap in own)):
            self._give_back()
            self._send_again("a collective")
        super()._before(number, arguments)

    def _hook(self, number: int) -> None:
        super()._hook(number)

        def kept(_parameter: Tensor) -> None:
            self.mark("reduced", number)
            self.mark("kept", number)

        trained = [place.shard for place in self._places[number] if place.shard.requires_grad]
        self._hooks += [parameter.register_post_accumulate_grad_hook(kept) for parameter in trained]

    def _is_sharded(self, number: int, ahead: Direction) -> bool:
        place = self._places[number][0]
        present = place.present
        if ahead == "backward" and present is not place.shard and _is_shared_out(present, place.shard):
            self._untold = "units keep shards of fewer ranks from forward to backward (reshard_after_forward as a number)"
        return present is place.shard

    def _look_at_whole(self, number: int) -> None:
        places = self._places[number]
        if "gather_dtype" not in self._known.get(number, {}):
            dtype = places[0].present.dtype
            self._note_gather(number, sum(_padded_bytes(place.present, place.shard) for place in places), dtype)
            self._known[number]["by_rows"] = _by_rows(places)

    def _parameters(self, number: int) -> Sequence[int]:
        return [_num_bytes(place.shard) for place in self._places[number]]

    def _unit(self, number: int) -> ShardedUnit:
        return with_rows(super()._unit(number), self._known[number].get("by_rows", {}), self._mesh()[0])

    def _mesh(self) -> tuple[int, int]:
        sizes = [size for size, _ in shard_dimensions(self._places[0][0].shard)]
        return sizes[-1], prod(sizes[:-1])


def fully_sharded(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the modules that fully_shard was called on, by name, the root first; none where it was never imported."""
    known = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return [] if known is None else [(name, module) for name, module in model.named_modules() if isinstance(module, known)]


def sends_because(model: nn.Module) -> str:
    """Say why the ranks of a model under fully_shard cannot be kept from sending; empty where all goes through known places."""
    owned = _sharded(model)
    modules = [group[0][1] for group, _ in owned]
    if any(map(reduces_by_hook, modules)):
        return "its reductions go through an all-reduce hook of the script's own"
    if not owned or any(collective_of(module, place) is None for module in modules for place in _COMMS):
        return "this torch sends its shards from another place than is known"
    return _unlike([place.shard for _, places in owned for place in places])


def _sharded(model: nn.Module) -> list[tuple[list[tuple[str, Any]], list[_Place]]]:
    """Return what was sharded together and has parameters of its own: its modules by name, and where the shards lie.

    A root that an evaluation left whole is freed first: the next pass gathers it, as it would after any backward pass.
    """
    groups = _groups(model)
    for (_, module), *_ in groups:
        module.reshard()
    inside = {id(module) for group in groups for _, module in group}
    known: set[int] = set()
    owned = [(group, _places([module for _, module in group], inside, known)) for group in groups]
    return [(group, places) for group, places in owned if places]


def _groups(model: nn.Module) -> list[list[tuple[str, Any]]]:
    """Return the modules of each call of fully_shard, by name: one that was given a list shards all of it together."""
    groups: dict[int, list[tuple[str, Any]]] = {}
    for name, module in fully_sharded(model):
        groups.setdefault(sharded_as(module), []).append((name, module))
    return list(groups.values())


def _places(modules: Sequence[nn.Module], inside: set[int], known: set[int]) -> list[_Place]:
    """Return where shards lie in modules, without those of units inside them (`inside`) and without `known` ones, which grow:
    a parameter that several modules share is one, and what fully_shard was told to ignore is none."""
    found: list[_Place] = []
    for module in modules:
        for name, parameter in module._parameters.items():
            if hasattr(parameter, "device_mesh") and id(parameter) not in known:
                known.add(id(parameter))
                found.append(_Place(module, name, parameter))
        inner = [child for child in module.children() if id(child) not in inside]
        found += _places(inner, inside, known)
    return found


def _unlike(shards: Sequence[Any]) -> str:
    """Say why the units are not those of one group of ranks that shards, in copies or not; empty where they are."""
    meshes = [shard_dimensions(shard) for shard in shards]
    if any(not placement.is_replicate() for mesh in meshes for _, placement in mesh[:-1]):
        return "parameters are shared out by more than fully_shard, as under tensor parallelism"
    if any(mesh[-1][1].is_replicate() for mesh in meshes):
        return "every rank keeps all parameters, as under replicate()"
    if len({tuple(size for size, _ in mesh) for mesh in meshes}) > 1:
        return "units are sharded over different numbers of ranks"
    return ""


def _is_shared_out(parameter: Any, shard: Any) -> bool:  # noqa: ANN401  a tensor or a DTensor, and the DTensor between passes
    """Say whether several ranks have a part each of what a unit computes with."""
    if not hasattr(parameter, "device_mesh"):
        return False
    parts = (size > 1 and not placement.is_replicate() for size, placement in shard_dimensions(parameter))
    return parameter.device_mesh == shard.device_mesh or any(parts)


def _padded_bytes(whole: Tensor, shard: Any) -> int:  # noqa: ANN401  the DTensor between passes
    """Return what is gathered of a parameter: fully_shard fills up the dimension that it cuts, so that all shards are alike."""
    *_, (num_shards, _) = shard_dimensions(shard)
    rows = _num_rows(shard)
    return _num_bytes(whole) // rows * filled_up(rows, num_shards) if rows else _num_bytes(whole)


def _num_rows(shard: Any) -> int:  # noqa: ANN401
    """Return the size of the dimension that fully_shard cuts; 0 of a parameter that it does not."""
    *_, (_, placement) = shard_dimensions(shard)
    return int(shard.shape[placement.dim]) if shard.ndim and not placement.is_replicate() else 0


def _by_rows(places: Sequence[_Place]) -> dict[int, tuple[int, int]]:
    """Return, by their number, the bytes of one row of a unit's parameters while they are whole, and of those trained the
    elements."""
    found: dict[int, tuple[int, int]] = {}
    for place in places:
        rows = _num_rows(place.shard)
        num_bytes, trained = found.get(rows, (0, 0))
        more = place.shard.numel() // rows if rows and place.shard.requires_grad else 0
        found[rows] = num_bytes + _num_bytes(place.present) // max(1, rows), trained + more
    return found


def with_rows(unit: ShardedUnit, by_rows: Mapping[int, tuple[int, int]], num_shards: int) -> ShardedUnit:
    """Return a unit with what `_by_rows` told, where that adds up to what was sent: a parameter may have had no gradient."""
    trained = sum(filled_up(rows, num_shards) * elements for rows, (_, elements) in by_rows.items())
    width, rest = divmod(unit.reduce_bytes, trained) if trained else (0, unit.reduce_bytes)
    gathered = sum(filled_up(rows, num_shards) * num_bytes for rows, (num_bytes, _) in by_rows.items())
    if rest or gathered != unit.gather_bytes or 0 in by_rows or len(by_rows) > MAX_ROW_COUNTS:
        return unit
    told = [
        ShardedRows(rows=rows, gather_bytes=num_bytes, reduce_bytes=width * elements)
        for rows, (num_bytes, elements) in sorted(by_rows.items())
    ]
    return replace(unit, rows=tuple(told))


def _num_bytes(parameter: Tensor) -> int:
    return parameter.numel() * parameter.element_size()
