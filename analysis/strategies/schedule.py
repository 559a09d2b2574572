"""One sharded step as operations in the order that the host asks for them: what waits for which collective, and what hides?

Rules, from torch.distributed.fsdp's fully_shard: a unit's parameters are gathered before its forward and, where it freed them,
before its backward; its gradients are reduced behind its backward; with copies of the shards (HSDP) what was reduced is then
all-reduced among them. The step's end waits for all of it.

    blocking   a collective ends before the host goes on, as gloo's do: T = computation + all collectives
    streams    gathers and reductions of the shards' group go through one queue, all-reduces among copies through another.
               Gather k starts once gather k - ahead was consumed: ahead is 2 in forward, where the copy out of a gather
               overlaps the next, and 1 in backward; gathers asked for ahead stand in the queue before the reduction of the
               unit that computes meanwhile. The host holds before a reduction until the one before has landed, which frees
               its input.

Whatever overlaps costs the computation nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_AHEAD: Final = {"forward": 2, "backward": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`compute` takes the host's time, copies included; `gather` must have landed before it goes on; `reduce` is launched;
    `hold` waits for the reduction before; `finish` waits for all. Where a recording tells when each gather was asked for, an
    `ask` does that, beside what the host computes even where other collectives block, and a `wait` of its unit needs it."""

    what: Literal["compute", "gather", "reduce", "hold", "finish", "ask", "wait"]
    unit: int | None = None
    direction: Literal["forward", "backward"] = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A collective of a unit as it was played: seconds from the step's start, over draws."""

    what: Literal["gather", "reduce", "all_reduce"]
    unit: int
    direction: Literal["forward", "backward"]
    start_s: Floats
    done_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Steps as they were played: each collective, when all was over and what of it was computation [draws]."""

    exchanges: tuple[Exchange, ...]
    end_s: Floats
    compute_s: Floats


def play(
    operations: Sequence[Operation],
    seconds: Floats,
    *,
    blocking: bool,
    prefetch: bool = True,
    all_reduce_s: Floats | None = None,
) -> Played:
    """Play steps, several draws side by side. `seconds` [draws, operations]: what each takes alone, 0 of hold and finish.

    `all_reduce_s` [draws, operations]: what follows each reduction among the copies of the shards; None without copies.
    """
    assert seconds.shape[1] == len(operations)
    computing = np.array([operation.what == "compute" for operation in operations])
    lanes = _Lanes(operations, seconds, all_reduce_s, blocking, prefetch)
    for place in range(len(operations)):
        lanes.go_on(place)
    lanes.finish()
    return Played(exchanges=tuple(lanes.exchanges), end_s=lanes.host_s, compute_s=seconds[:, computing].sum(axis=1))


class _Lanes:
    """The host, which computes, the shards' queue and the copies' queue; when each is free again [draws]."""

    def __init__(
        self, operations: Sequence[Operation], seconds: Floats, all_reduce_s: Floats | None, blocking: bool, prefetch: bool
    ) -> None:
        self.operations, self.seconds, self.all_reduce_s = operations, seconds, all_reduce_s
        self.blocking, self.prefetch = blocking, prefetch
        none = np.zeros(len(seconds))
        self.host_s, self.shards_s, self.copies_s, self.reduced_s = none, none, none, none
        self.gathers = [place for place, each in enumerate(operations) if each.what == "gather"]
        self.exchanges: list[Exchange] = []
        self.landed_s: dict[int, Floats] = {}
        self.awaited_s: dict[int | None, Floats] = {}
        self.consumed_s: list[Floats] = []
        self.asked = 0

    def go_on(self, place: int) -> None:
        operation = self.operations[place]
        if operation.what == "compute":
            self.host_s = self.host_s + self.seconds[:, place]
        elif operation.what == "gather":
            self._gather(place)
        elif operation.what == "reduce":
            self._reduce(place)
        elif operation.what == "ask":
            start_s = np.maximum(self.host_s, self.shards_s)
            self.awaited_s[operation.unit] = self.shards_s = self._sent("gather", place, start_s, self.seconds)
        elif operation.what == "wait":
            self.host_s = np.maximum(self.host_s, self.awaited_s[operation.unit])
        elif operation.what == "hold":
            self.host_s = np.maximum(self.host_s, self.reduced_s)
        else:
            self.finish()

    def finish(self) -> None:
        self.host_s = np.maximum.reduce([self.host_s, self.shards_s, self.copies_s])

    def _gather(self, place: int) -> None:
        """Wait for a gather, ask for those that may follow it, and go on."""
        self._ask(len(self.consumed_s))  # gathers come in their order
        self.host_s = np.maximum(self.host_s, self.landed_s[place])
        self.consumed_s.append(self.host_s)
        if not self.blocking and self.prefetch:
            following = self.gathers[self.asked : self.asked + 1]
            while following and self._may_follow(following[0]):
                self._ask(self.asked)
                following = self.gathers[self.asked : self.asked + 1]

    def _may_follow(self, place: int) -> bool:
        return self.asked - self._ahead(place) < len(self.consumed_s)

    def _ahead(self, place: int) -> int:
        return _AHEAD[self.operations[place].direction] if self.prefetch else 1

    def _ask(self, number: int) -> None:
        """Put every gather up to this number into the queue that is not there yet."""
        while self.asked <= number:
            place = self.gathers[self.asked]
            earlier = self.asked - self._ahead(place)
            free_s = self.host_s if self.blocking else self.consumed_s[earlier] if earlier >= 0 else np.zeros_like(self.host_s)
            self.landed_s[place] = self.shards_s = self._sent("gather", place, np.maximum(free_s, self.shards_s), self.seconds)
            self.asked += 1

    def _reduce(self, place: int) -> None:
        start_s = np.maximum(self.host_s, self.shards_s)
        self.reduced_s = self.shards_s = self._sent("reduce", place, start_s, self.seconds)
        if self.all_reduce_s is not None:
            self.copies_s = self._sent("all_reduce", place, np.maximum(self.shards_s, self.copies_s), self.all_reduce_s)
        if self.blocking:
            self.finish()

    def _sent(self, what: Literal["gather", "reduce", "all_reduce"], place: int, start_s: Floats, seconds: Floats) -> Floats:
        operation = self.operations[place]
        assert operation.unit is not None
        done_s: Floats = start_s + seconds[:, place]
        self.exchanges.append(
            Exchange(what=what, unit=operation.unit, direction=operation.direction, start_s=start_s, done_s=done_s)
        )
        return done_s
