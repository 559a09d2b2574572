"""When does each unit of a sharded model gather, compute and reduce? Marks of one step after the other, from public hooks.

Hooks of modules and tensors stand before and behind those of what shards; records/sharding.py says what every mark means.
Nothing is marked outside of a step. How a collective is seen and what a unit holds is in fully_shard.py and flat_units.py.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from commprof.commbench.errors import RunFailed
from commprof.commbench.recorder.own_work import OwnWork
from commprof.commbench.recorder.sharded.tensor_hooks import as_it_is, hook_gradients
from commprof.commbench.records.rundir import write_document
from commprof.commbench.records.sharding import UNITS_FILE, Mark, ShardedSpan, ShardedUnit, ShardingTimeline
from commprof.commbench.timing import Clock

_KEPT_STEPS: Final = 64  # of each order of marks, the last ones: bounds the file and what is drawn from it
_MAX_ORDERS: Final = 4

Direction = Literal["forward", "backward"]
Place = tuple[Mark, int | None, bool]  # a mark, its unit, and whether that was sharded when the span before it began
Marks = list[tuple[Place, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A module that is sharded as one: its parameters are gathered before `inner` computes, within a call of `outer`. Of
    several modules that are sharded together these are the first, and `last` is the last one."""

    name: str
    outer: Any
    inner: Any
    last: Any = None


class UnitRecorder:
    """Marks units in each step while attached; of a model without any it marks nothing. `meets`: ranks that send nothing
    wait for each other at every collective. `sends_again`: ranks that sent nothing do since a step that has ended."""

    meets = sends_again = False

    def __init__(self, units: Sequence[Unit], rank: int, clock: Clock, own_work: OwnWork) -> None:
        self._units, self._rank, self._clock, self._own_work = tuple(units), rank, clock, own_work
        self._told: dict[str, Any] = {}
        self.held_bytes: Callable[[], int] | None = None  # what is held now, while somebody counts it
        self._hooks: list[Any] = []
        self._marks: Marks = []
        self._known: dict[int, dict[str, Any]] = {}
        self._samples: dict[tuple[Place, ...], deque[tuple[float, ...]]] = {}
        self._others, self._marking = 0, False
        self._untold = ""  # why nothing is told of units that there are
        self._has_written = False

    def attach(self) -> None:
        for number in range(len(self._units)):
            self._hook(number)

    def release(self) -> None:
        """Take off all that can go without the other ranks: what stands for collectives that are not sent stays."""
        while self._hooks:
            self._hooks.pop().remove()
        self._marking = False

    def detach(self) -> None:
        """Take off all of it, on all ranks."""
        self.release()

    def begin_step(self) -> None:
        self._marks = []
        self._marking = bool(self._hooks) and not self.sends_again

    def end_step(self) -> None:
        self.mark("ended")
        self._marking = False

    def mark(self, name: Mark, unit: int | None = None, *, sharded: bool = False) -> None:
        if self._marking:
            self._own_work.do(self._note, (name, unit, sharded))

    def gathered_bytes(self, ahead: Direction) -> int:
        """Return the bytes of parameters that are whole at present, the pass `ahead` being next."""
        known = self._known.items()
        return sum(each.get("gather_bytes", 0) for number, each in known if not self._is_sharded(number, ahead))

    def take_step(self) -> Marks:
        """Return the marks of the step just ended: the next one may begin."""
        taken, self._marks = self._marks, []
        return taken

    def keep(self, start: object, marks: Marks) -> None:
        """Add a step that counts."""
        if not marks:
            return
        order = tuple(place for place, _ in marks)
        if order not in self._samples and len(self._samples) >= _MAX_ORDERS:
            self._others += 1
            return
        ends = [start, *(mark for _, mark in marks)]
        spans_s = tuple(max(0.0, self._clock.seconds(a, b)) for a, b in pairwise(ends))
        self._samples.setdefault(order, deque(maxlen=_KEPT_STEPS)).append(spans_s)

    def tell(
        self, *, optimizer_bytes: int | None = None, activation_bytes: int | None = None, peak_bytes: int | None = None
    ) -> None:
        """Note what hooks cannot see and a training loop may know, of this rank; what is None stays as it was told."""
        told = {"optimizer_bytes": optimizer_bytes, "activation_bytes": activation_bytes, "peak_bytes": peak_bytes}
        self._told |= {name: num_bytes for name, num_bytes in told.items() if num_bytes is not None}

    def write(self, folder: Path) -> None:
        """Write rank 0's steps so far, or take away those that do not hold any more; raise RunFailed where the disk refuses."""
        timeline = self.timeline() if self._rank == 0 else None
        path = folder / UNITS_FILE
        try:
            if timeline is not None:
                write_document(path, timeline)
            elif self._has_written:
                path.unlink(missing_ok=True)
            self._has_written = timeline is not None
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}; make room, the steps are kept") from None

    @property
    def has_steps(self) -> bool:
        """Whether a step was seen with all its units."""
        return bool(self._samples) and not self._untold and not self._never_called

    @property
    def _never_called(self) -> list[str]:
        return [unit.name for number, unit in enumerate(self._units) if number not in self._known]

    @property
    def sends_all_the_same(self) -> bool:
        """Whether ranks that were to send nothing do."""
        return self.sends_again

    def unseen(self) -> Iterator[str]:
        """Yield, in words, why the units of a model that has some are not told."""
        if self._untold:
            yield f"no units are told: {self._untold}"
        elif self._samples and self._never_called:
            yield f"no units are told: never seen to be called: {', '.join(self._never_called[:3])}"

    def timeline(self) -> ShardingTimeline | None:
        """Return the steps that most went through alike; None where none was seen, or of a unit its reduction was not."""
        if not self.has_steps:
            return None
        order, kept = max(self._samples.items(), key=lambda each: len(each[1]))
        shards, replicas = self._mesh()
        numbers: list[int | None] = [*self._numbers_in(order)]
        return ShardingTimeline(
            rank=self._rank,
            num_shards=shards,
            num_replicas=replicas,
            num_steps=len(kept),
            num_others=self._others + sum(len(each) for each in self._samples.values()) - len(kept),
            waits=self.meets,
            units=tuple(self._unit(number) for number in numbers if number is not None),
            spans=tuple(
                ShardedSpan(
                    until=name, unit=None if unit is None else numbers.index(unit), gathers=sharded, samples_s=samples_s
                )
                for (name, unit, sharded), samples_s in zip(order, zip(*kept, strict=True), strict=True)
            ),
            **self._told,
        )

    def _send_again(self, what: str) -> None:
        """Drop the step under way and all before it: what the script has put where collectives are kept back sends."""
        self._marks, self._marking = [], False
        self.meets, self.sends_again = False, True
        self._untold = (
            f"{what} of the script's own came to ranks that were to send nothing: they exchange as ever from there on, and the "
            "steps before are left out"
        )

    def _numbers_in(self, _order: Sequence[Place]) -> Sequence[int]:
        """Return the numbers of the units in steps that went through these marks."""
        return range(len(self._units))

    def _note(self, place: Place) -> None:
        name, unit, _ = place
        if name in ("back_before", "back_ready", "back_done", "reduced") and self._marked_last(name, unit):
            return  # of several tensors of one unit the first tells
        if name == "kept" and self._marks and self._marks[-1][0][:2] == ("kept", unit):
            self._marks.pop()  # the last parameter tells
        self._marks.append((place, self._clock.mark()))

    def _marked_last(self, name: Mark, unit: int | None) -> bool:
        """Say whether a unit's mark stands already in the pass under way."""
        for (other, owner, _), _ in reversed(self._marks):
            if (other, owner) == (name, unit):
                return True
            if owner == unit and other in ("before", "reduce_landed", "reduce_filled", "done", "back_before"):
                return False
        return False

    def _hook(self, number: int) -> None:
        unit = self._units[number]

        @as_it_is
        def looked(look: Callable[[int, object], None], _module: nn.Module, arguments: object, *output: object) -> None:
            if self._marking:
                self._own_work.do(self._look, look, number, output[0] if output else arguments)

        self._hooks += [
            unit.outer.register_forward_pre_hook(partial(looked, self._before), prepend=True),
            unit.inner.register_forward_pre_hook(partial(looked, self._ready)),
            (unit.last or unit.inner).register_forward_hook(partial(looked, self._done), prepend=True),
            (unit.last or unit.outer).register_forward_hook(partial(looked, self._after)),
        ]

    def _look(self, look: Callable[[int, object], None], number: int, value: object) -> None:
        """Mark a forward pass, but not one that backward does again for its activations (torch.utils.checkpoint)."""
        last = next((name for (name, unit, _), _ in reversed(self._marks) if unit == number), None)
        if torch._C._current_graph_task_id() == -1 or last not in ("back_before", "back_ready"):
            look(number, value)

    def _before(self, number: int, _arguments: object) -> None:
        self.mark("before", number, sharded=self._is_sharded(number, "forward"))

    def _ready(self, number: int, arguments: object) -> None:
        self.mark("ready", number, sharded=self._was_sharded("before", number))
        self._note_held(number, "held_before_bytes")
        self._look_at_whole(number)
        self._on_gradient(arguments, partial(self.mark, "back_done", number))

    def _done(self, number: int, output: object) -> None:
        self.mark("done", number)
        self._note_held(number, "held_after_bytes")
        self._on_gradient(output, lambda: self.mark("back_before", number, sharded=self._is_sharded(number, "backward")))

    def _after(self, number: int, output: object) -> None:
        self.mark("after", number)
        self._known.setdefault(number, {})["resharded"] = self._is_sharded(number, "backward")
        self._on_gradient(output, lambda: self.mark("back_ready", number, sharded=self._was_sharded("back_before", number)))

    def _on_gradient(self, value: object, told: Callable[[], None]) -> None:
        if torch.is_grad_enabled():
            hook_gradients(value, partial(self._own_work.do, told))

    def _is_sharded(self, number: int, ahead: Direction) -> bool:
        """Say whether a unit's parameters are shards at present, the pass `ahead` being next."""
        raise NotImplementedError

    def _parameters(self, number: int) -> Sequence[int]:
        """Return the bytes of each of a unit's parameters, over all shards."""
        raise NotImplementedError

    def _mesh(self) -> tuple[int, int]:
        """Return over how many ranks parameters are sharded, and how many groups hold the same ones."""
        raise NotImplementedError

    def _look_at_whole(self, number: int) -> None:
        """Note what is known of a unit while its parameters are whole."""

    def _was_sharded(self, name: Mark, number: int) -> bool:
        return next((sharded for (other, unit, sharded), _ in reversed(self._marks) if (other, unit) == (name, number)), False)

    def _note_gather(self, number: int, num_bytes: int, dtype: torch.dtype) -> None:
        known = self._known.setdefault(number, {})
        known.update(gather_bytes=num_bytes, gather_dtype=str(dtype).removeprefix("torch."))

    def _note_held(self, number: int, when: str) -> None:
        if self.held_bytes is not None and self._marking and torch.is_grad_enabled():
            self._known.setdefault(number, {})[when] = self.held_bytes()

    def _note_reduction(self, number: int, num_bytes: int, dtype: torch.dtype) -> None:
        known = self._known.setdefault(number, {})
        known.update(reduce_bytes=num_bytes, reduce_dtype=str(dtype).removeprefix("torch."))

    def _unit(self, number: int) -> ShardedUnit:
        own, known = self._parameters(number), self._known[number]
        return ShardedUnit(
            name=self._units[number].name,
            num_bytes=sum(own),
            num_tensors=len(own),
            gather_bytes=known.get("gather_bytes", 0),
            gather_dtype=known.get("gather_dtype", "unknown"),
            reduce_bytes=known.get("reduce_bytes", 0),
            reduce_dtype=known.get("reduce_dtype", "unknown"),
            resharded=known.get("resharded", False),
            activation_bytes=_held_bytes(known),
        )


def _held_bytes(known: dict[str, Any]) -> int | None:
    """Return what autograd held more as a unit's forward ended than as it began."""
    after_bytes = known.get("held_after_bytes")
    return None if after_bytes is None else max(0, after_bytes - known["held_before_bytes"])
