"""What ended the ranks is one line, and no wait for them is longer than its time; on made-up ranks and clocks."""

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.ranks.keeper import HOST, Rank, Watch, explain, rank_environments


def ranks(*codes: int | None, killed: tuple[int, ...] = ()) -> list[Rank]:
    return [Rank(number=n, pid=-1, pidfd=-1, code=code, killed=n in killed) for n, code in enumerate(codes)]


def watch(**known: Any) -> Watch:  # noqa: ANN401
    return Watch(timeout_s=10.0, deadline_s=30.0, late="did not come up within 30 s", **known)


@pytest.mark.parametrize(
    ("ended", "known", "line"),
    [
        (ranks(0, 0), watch(), ""),
        (ranks(1, -9), watch(), "rank 1 was killed (SIGKILL)"),
        (ranks(1, -15), watch(), "rank 1 was killed (SIGTERM)"),
        (ranks(-9, 3, killed=(0,)), watch(), "rank 1 failed with exit code 3"),
        (ranks(130, 1), watch(), "rank 0 was stopped (SIGINT)"),
        (ranks(-15, -15), watch(asked=[signal.SIGTERM]), "stopped by SIGTERM"),
        (ranks(-1, 130), watch(asked=[signal.SIGHUP, signal.SIGTERM]), "stopped by SIGHUP"),
        (ranks(-9, -9, killed=(0, 1)), watch(overdue=[0, 1]), "ranks 0, 1 did not come up within 30 s"),
    ],
)
def test_what_ended_the_ranks_is_one_line(ended: list[Rank], known: Watch, line: str) -> None:
    assert explain(ended, known) == line


def test_ranks_that_have_met_may_take_as_long_as_they_want_until_one_has_ended() -> None:
    known = watch()
    known.note_up()
    assert known.deadline_s == float("inf")
    known.note_end(0, now_s=100.0)
    assert (known.deadline_s, known.late) == (110.0, "did not end within 10 s of the others")
    known.note_end(0, now_s=105.0)
    assert known.deadline_s == 110.0, "the first end counts"
    known.note_end(1, now_s=106.0)
    assert known.deadline_s == 108.5, "a failure leaves the others a quarter of the timeout, four seconds at most"


@given(st.lists(st.tuples(st.sampled_from(["up", "end 0", "end 1", "end -9", "signal"]), st.floats(0.0, 5.0)), max_size=12))
def test_once_a_rank_has_ended_or_was_asked_to_the_deadline_only_comes_nearer(events: list[tuple[str, float]]) -> None:
    known, now_s, bound = watch(), 0.0, float("inf")
    for event, pause_s in events:
        now_s += pause_s
        before_s = known.deadline_s
        if event == "up":
            known.note_up()
        elif event == "signal":
            known.note_signal(signal.SIGTERM, now_s)
            bound = min(bound, now_s + 30.0)
        else:
            known.note_end(int(event.split()[1]), now_s)
            bound = min(bound, now_s + known.timeout_s)
        if event != "up":
            assert known.deadline_s <= before_s
        assert known.deadline_s <= max(bound, 30.0) or bound == float("inf")


def test_each_rank_gets_torchruns_variables_and_the_loopback_address() -> None:
    first, second = rank_environments(2, 4321, {"HOME": "/root", "RANK": "7"})
    assert (first["RANK"], second["RANK"], second["LOCAL_RANK"], second["WORLD_SIZE"]) == ("0", "1", "1", "2")
    assert {(own["MASTER_ADDR"], own["MASTER_PORT"], own["HOME"]) for own in (first, second)} == {(HOST, "4321", "/root")}
