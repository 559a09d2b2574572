import threading

import pytest
from torch.distributed import HashStore

from commprof.commbench.ranks import rollcall
from commprof.commbench.ranks.rollcall import RollCall, explain


@pytest.mark.parametrize(
    ("answers", "line"),
    [
        ({0: "x", 1: None}, "rank 1 died or stalls in x"),
        ({0: "x", 1: None, 2: "y", 3: None}, "ranks 1, 3 died or stalls in x"),
        ({0: "x", 1: "y"}, "rank 1 did not come to x, but is in y"),
        ({0: "x", 1: "x"}, "the ranks lost each other in x: reset"),
    ],
)
def test_the_missing_are_named_then_those_elsewhere(answers: dict[int, str | None], line: str) -> None:
    assert explain("x", answers, "reset") == line


class Shared(HashStore):
    """Several connections to one store, as TCPStore's clones are."""

    def clone(self) -> "Shared":
        return self


def test_a_rank_answers_while_it_waits_and_a_dead_one_does_not() -> None:
    store = Shared()
    here, there, gone = (RollCall(rank, 4, store, wait_s=0.3) for rank in (0, 1, 2))
    gone.dismiss()
    here.doing = there.doing = "all_reduce of 4 MiB"
    assert here.call() == {0: "all_reduce of 4 MiB", 1: "all_reduce of 4 MiB", 2: None, 3: None}
    for thread in (here._thread, there._thread, gone._thread):
        thread.join(5)
        assert not thread.is_alive()


class Late(Shared):
    """A store that calls ranks so late that the time for all of it is over: whoever asks had no core."""

    def set(self, key: str, value: str) -> None:
        if key.startswith("roll/"):
            threading.Event().wait(0.4)
        super().set(key, value)


def test_who_is_missing_is_told_though_a_busy_machine_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollcall, "_STORE_S", 1.0)
    store = Late()
    here, there = (RollCall(rank, 3, store, wait_s=0.05) for rank in (0, 1))
    here.doing = there.doing = "all_reduce of 4 MiB"
    assert here.call() == {0: "all_reduce of 4 MiB", 1: "all_reduce of 4 MiB", 2: None}


class Silent(Shared):
    """A store whose holder was stopped: whoever asks it waits without end."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def set(self, key: str, value: str) -> None:
        self.stopped.wait()


@pytest.mark.parametrize(
    ("held_by_rank_0", "answers"),
    [(True, {1: "all_reduce of 4 MiB", 0: None}), (False, {1: "all_reduce of 4 MiB"})],
)
def test_a_store_that_is_silent_is_not_waited_for(held_by_rank_0: bool, answers: dict[int, str | None]) -> None:
    store = Silent()
    roll = RollCall(1, 3, store, wait_s=0.1, held_by_rank_0=held_by_rank_0)
    roll.doing = "all_reduce of 4 MiB"
    assert roll.call() == answers
    store.stopped.set()


def test_who_leaves_does_not_wait_for_a_silent_store() -> None:
    store = Silent()
    leaving = RollCall(1, 2, store, wait_s=0.1)
    leaving.dismiss()
    store.stopped.set()
