"""Who has waited too long? A rank that looked on, and not one that was stopped itself."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from commprof.commbench import timing
from commprof.commbench.ranks import deadline
from commprof.commbench.ranks.deadline import Deadline
from commprof.commbench.timing import HostWait

LIMIT_S = 20.0  # a look a second


class Looks:
    """In place of the event that a deadline waits for: each wait takes the next of these seconds, and after them it is set."""

    def __init__(self, taken_s: Sequence[float], then: Callable[[float], object]) -> None:
        self.now_s, self._taken_s, self._then = 0.0, list(taken_s), then

    def wait(self, _timeout_s: float) -> bool:
        if not self._taken_s:
            return True
        self.now_s += self._taken_s.pop(0)
        self._then(self.now_s)
        return False


def watched(
    monkeypatch: pytest.MonkeyPatch, taken_s: Sequence[float], then: Callable[[HostWait, float], object]
) -> list[float]:
    """Return when a rank is ended that began to wait at second 0 and looks after so many seconds each time."""
    wait, ended_s = HostWait(), []  # type: ignore[var-annotated]
    looks = Looks(taken_s, lambda now_s: then(wait, now_s))
    clock = SimpleNamespace(monotonic=lambda: looks.now_s)
    for module in (timing, deadline):
        monkeypatch.setattr(module, "time", clock)
    roll: Any = SimpleNamespace(doing="the train run", call=lambda: {0: "the train run", 1: None})
    own = Deadline(roll, LIMIT_S, wait=wait, end=lambda _code: ended_s.append(looks.now_s))
    own._over = looks  # type: ignore[assignment]
    with wait:
        own._watch()
    return ended_s


def nothing(_wait: HostWait, _now_s: float) -> None:
    """The rank goes on waiting."""


def test_a_wait_ends_at_the_first_look_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [1.0] * 40, nothing) == [21.0]


def test_looks_that_a_busy_machine_holds_up_a_little_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [1.9] * 40, nothing) == [pytest.approx(20.9)]


def test_a_rank_that_was_stopped_has_the_whole_limit_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = [*[1.0] * 5, 600.0, *[1.0] * 40]
    assert watched(monkeypatch, stopped, nothing) == [626.0]


def test_a_job_that_was_stopped_and_goes_on_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def goes_on(wait: HostWait, now_s: float) -> None:
        if now_s > 605.5:
            wait.since_s = now_s

    assert watched(monkeypatch, [*[1.0] * 5, 600.0, *[1.0] * 40], goes_on) == []
