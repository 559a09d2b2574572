"""Which rank is missing? Asked when a collective fails, because its own error names no one.

Every rank has a thread that waits at the store for the roll to be called and answers for it with what the rank is doing: also
while the rank itself waits inside a collective for a peer. A rank that died or was stopped cannot answer. The store is
torchrun's, or the first rank's; each thread has a connection of its own, since a waiting one blocks its connection.
A store that does not answer in time, because the rank or launcher that holds it was stopped, is not waited for: torch would.
A rank that ends dismisses its thread, and the first rank leaves last: the store may go with it, and torch aborts a process
whose thread still waits there.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch.distributed import DistError

from commprof.commbench.ranks.launched import named

_FOREVER = timedelta(days=365)
_POLL_S = 0.05
_LEAVE_S = 1.0  # for ranks that end together
_STORE_S = 1.0  # for the store's answers


class RollCall:
    """One rank's part. `doing` is what this rank is at, in words; set it before each piece of work."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        store: Any,  # noqa: ANN401  torch's store
        wait_s: float,
        *,
        held_by_rank_0: bool = False,
    ) -> None:
        self.doing = "starting"
        self.on_loss: list[Callable[[str], None]] = []  # who is told, before the process ends without an exception
        self._held_by_rank_0 = held_by_rank_0 and rank != 0
        self.rank, self._world_size, self._wait_s = rank, world_size, wait_s
        self._held = store  # rank 0's may be the store itself, which destroying the process group would end
        self._own, self._watched = store.clone(), store.clone()
        self._called = self._dismissed = False
        self._thread = threading.Thread(target=self._answer, name="commprof-roll", daemon=True)
        self._thread.start()

    def call(self) -> dict[int, str | None]:
        """Return what every rank is doing, None for one that does not answer within the time.

        Where the store is silent or gone, no one is heard: then only this rank is in it, and rank 0 if that held the store.
        """
        self._called = True
        answers: dict[int, str | None] = dict.fromkeys(range(self._world_size))
        if _answered(lambda: self._ask(answers), self._wait_s + _STORE_S, speaks=lambda: answers[self.rank] is not None):
            return answers
        return {self.rank: self.doing} | ({0: None} if self._held_by_rank_0 else {})

    def _ask(self, answers: dict[int, str | None]) -> None:
        self._own.set(f"here/{self.rank}", self.doing)
        answers[self.rank] = self.doing
        if self._own.add("callers", 1) == 1:  # one caller is enough: N of them would ask N^2 times
            for rank in answers:
                self._own.set(f"roll/{rank}", "called")
        end_s = time.monotonic() + self._wait_s
        while None in answers.values() and time.monotonic() < end_s:
            for rank in (rank for rank, answer in answers.items() if answer is None):
                if self._own.check([f"here/{rank}"]):
                    answers[rank] = self._own.get(f"here/{rank}").decode()
            time.sleep(_POLL_S)

    def dismiss(self) -> None:
        """End the thread of this rank; on rank 0 wait a moment for the others to have done the same.

        After a roll call there is nothing to do: the thread has answered it, and a missing rank would be waited for in vain.
        """
        if self._called:
            return
        self._dismissed = True
        _answered(self._leave, 2 * _LEAVE_S + _STORE_S)

    def _leave(self) -> None:
        self._own.set(f"roll/{self.rank}", "dismissed")
        self._thread.join(_LEAVE_S)
        num_left = self._own.add("left", 1)
        end_s = time.monotonic() + _LEAVE_S
        while self.rank == 0 and num_left < self._world_size and time.monotonic() < end_s:
            time.sleep(_POLL_S)
            num_left = self._own.add("left", 0)

    def _answer(self) -> None:
        try:
            self._watched.wait([f"roll/{self.rank}"], _FOREVER)
            if not self._dismissed:
                self._watched.set(f"here/{self.rank}", self.doing)
        except (DistError, RuntimeError):
            return  # the store is gone: the run is over


def _answered(ask: Callable[[], None], wait_s: float, *, speaks: Callable[[], bool] = lambda: False) -> bool:
    """Say whether the store has answered all that is asked of it; one that is stopped never will.

    One that `speaks` is given as long again: on a busy machine the thread that asks may be the late one.
    """
    heard: list[bool] = []

    def run() -> None:
        with suppress(DistError, RuntimeError):  # the store went with whoever held it
            ask()
            heard.append(True)

    asking = threading.Thread(target=run, name="commprof-asking", daemon=True)
    asking.start()
    asking.join(wait_s)
    if not heard and speaks():
        asking.join(wait_s)
    return bool(heard)


def explain(doing: str, answers: Mapping[int, str | None], error: str) -> str:
    """Say in one line who is missing, or who was elsewhere, or else what the collective's own error was."""
    missing = [rank for rank, answer in answers.items() if answer is None]
    if 0 < len(missing) < len(answers):
        return f"{named(missing)} died or stalls in {doing}"
    elsewhere = [rank for rank, answer in answers.items() if answer != doing]
    if elsewhere:
        return f"{named(elsewhere)} did not come to {doing}, but is in {answers[elsewhere[0]]}"
    return f"the ranks lost each other in {doing}: {error}"
