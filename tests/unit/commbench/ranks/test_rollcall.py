import threading

import pytest
from torch.distributed import HashStore

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
    answering = [thread for thread in threading.enumerate() if thread.name == "commprof-roll"]
    for thread in answering:
        thread.join(5)
        assert not thread.is_alive()


class Silent(Shared):
    """A store whose process was stopped: it takes what it is told and answers nothing."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self.over = over

    def set(self, key: str, value: str) -> None:
        self.over.wait(60)

    def wait(self, *keys: object) -> None:
        self.over.wait(60)


@pytest.mark.parametrize(("launchers", "line"), [(False, "rank 0 died or stalls in x"), (True, "lost each other in x: late")])
def test_a_store_that_answers_nobody_is_told_as_its_holder(monkeypatch: pytest.MonkeyPatch, launchers: bool, line: str) -> None:
    monkeypatch.setattr("commprof.commbench.ranks.rollcall._STORE_S", 0.05)
    over = threading.Event()
    roll = RollCall(1, 3, Silent(over), wait_s=0.05, held_by_rank_0=not launchers)
    roll.doing = "x"
    assert line in explain("x", roll.call(), "late")
    over.set()
