"""Sharded steps worked out on paper, and the laws that every one of them keeps."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.strategies.schedule import Operation, Played, play


@dataclass(frozen=True)
class Case:
    operations: tuple[Operation, ...]
    seconds: np.ndarray


def case(*parts: tuple[str, int, float], backward_from: int | None = None) -> Case:
    """Operations as (what, unit, seconds); those from `backward_from` on are of the backward pass."""
    first = len(parts) if backward_from is None else backward_from
    operations = tuple(
        Operation(what=what, unit=unit, direction="forward" if place < first else "backward")  # type: ignore[arg-type]
        for place, (what, unit, _) in enumerate(parts)
    )
    return Case(operations, np.array([[seconds for *_, seconds in parts]]))


def played(own: Case, *, blocking: bool = False, prefetch: bool = True, all_reduce_s: float | None = None) -> Played:
    copies = None
    if all_reduce_s is not None:
        copies = np.array([[all_reduce_s if each.what == "reduce" else 0.0 for each in own.operations]])
    return play(own.operations, own.seconds, blocking=blocking, prefetch=prefetch, all_reduce_s=copies)


def times(found: Played, what: str) -> list[tuple[int, float, float]]:
    return [(e.unit, float(e.start_s[0]), float(e.done_s[0])) for e in found.exchanges if e.what == what]


TWO_UNITS = case(
    ("gather", 0, 2.0), ("compute", 0, 3.0), ("gather", 1, 2.0), ("compute", 1, 3.0),
    ("gather", 1, 2.0), ("compute", 1, 6.0), ("hold", 1, 0.0), ("reduce", 1, 4.0),
    ("gather", 0, 2.0), ("compute", 0, 6.0), ("hold", 0, 0.0), ("reduce", 0, 4.0), ("finish", 0, 0.0),
    ("compute", 0, 1.0), backward_from=4,
)  # fmt: skip


def test_blocking_collectives_add_up() -> None:
    found = played(TWO_UNITS, blocking=True)
    assert found.end_s[0] == pytest.approx(2 + 3 + 2 + 3 + 2 + 6 + 4 + 2 + 6 + 4 + 1)
    assert found.compute_s[0] == pytest.approx(19)
    assert times(found, "gather") == [(0, 0, 2), (1, 5, 7), (1, 10, 12), (0, 22, 24)]


def test_streams_hide_what_the_prefetch_limit_lets_them() -> None:
    """Worked out by hand.

    Gathers 0 and 1 go at once; 0 computes from 2 to 5, 1 (there at 4) to 8. Backward's first waits for one gather to be
    consumed, 5, and lands at 7; its computation ends at 14. The next was asked for as that one was consumed, at 8: 8 to 10,
    and stands before the reduction, 14 to 18. Unit 0 computes from 14 to 20, is reduced from 20 to 24; the update ends at 25.
    """
    found = played(TWO_UNITS)
    assert times(found, "gather") == [(0, 0, 2), (1, 2, 4), (1, 5, 7), (0, 8, 10)]
    assert times(found, "reduce") == [(1, 14, 18), (0, 20, 24)]
    assert found.end_s[0] == pytest.approx(25)


def test_forward_has_two_gathers_ahead() -> None:
    """The third is asked for as the first was consumed, not the second, which waits five seconds for unit 0 to compute."""
    own = case(*(part for unit in range(3) for part in (("gather", unit, 1.0), ("compute", unit, 5.0))))
    assert times(played(own), "gather") == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]
    assert times(played(own, prefetch=False), "gather") == [(0, 0, 1), (1, 1, 2), (2, 6, 7)]


def test_without_prefetch_a_gather_stands_behind_the_reduction() -> None:
    found = played(TWO_UNITS, prefetch=False)
    assert times(found, "reduce")[0] == (1, 14, 18)
    assert times(found, "gather")[-1] == (0, 18, 20)
    assert found.end_s[0] == pytest.approx(20 + 6 + 4 + 1)


def test_a_reduction_holds_the_next_until_it_has_landed() -> None:
    own = case(
        ("compute", 1, 1.0), ("hold", 1, 0.0), ("reduce", 1, 5.0),
        ("compute", 0, 1.0), ("hold", 0, 0.0), ("compute", 0, 1.0), ("reduce", 0, 5.0), ("finish", 0, 0.0),
        backward_from=0,
    )  # fmt: skip
    found = played(own)
    assert times(found, "reduce") == [(1, 1, 6), (0, 7, 12)]
    assert found.end_s[0] == pytest.approx(12)


def test_copies_are_all_reduced_behind_their_reduction_in_a_queue_of_their_own() -> None:
    own = case(("compute", 1, 1.0), ("reduce", 1, 2.0), ("compute", 0, 1.0), ("reduce", 0, 2.0), ("finish", 0, 0.0))
    found = played(own, all_reduce_s=3.0)
    assert times(found, "reduce") == [(1, 1, 3), (0, 3, 5)]
    assert times(found, "all_reduce") == [(1, 3, 6), (0, 6, 9)]
    assert found.end_s[0] == pytest.approx(9)
    assert played(own, all_reduce_s=3.0, blocking=True).end_s[0] == pytest.approx(2 + 4 + 6)


SECONDS = st.floats(0, 10)


@st.composite
def any_step(draw: st.DrawFn) -> Case:
    """A step of a few units, micro-batches and any times."""
    units = draw(st.integers(1, 4))
    parts: list[tuple[str, int, float]] = []
    for _ in range(draw(st.integers(1, 2))):
        for unit in range(units):
            parts += [("gather", unit, draw(SECONDS)), ("compute", unit, draw(SECONDS))]
    backward = len(parts)
    for unit in reversed(range(units)):
        if draw(st.booleans()):
            parts.append(("gather", unit, draw(SECONDS)))
        parts += [("compute", unit, draw(SECONDS)), ("hold", unit, 0.0), ("reduce", unit, draw(SECONDS))]
    parts += [("finish", 0, 0.0), ("compute", 0, draw(SECONDS))]
    return case(*parts, backward_from=backward)


@given(any_step(), st.booleans(), st.booleans(), st.none() | SECONDS)
def test_a_step_lies_between_computation_alone_and_everything_in_turn(
    own: Case, blocking: bool, prefetch: bool, all_reduce_s: float | None
) -> None:
    found = played(own, blocking=blocking, prefetch=prefetch, all_reduce_s=all_reduce_s)
    reduced = sum(each.what == "reduce" for each in own.operations)
    serial_s = own.seconds.sum() + (all_reduce_s or 0.0) * reduced
    assert found.compute_s[0] - 1e-9 <= found.end_s[0] <= serial_s + 1e-9
    if blocking:
        assert found.end_s[0] == pytest.approx(serial_s)
    for what in ("gather", "reduce", "all_reduce"):
        spans = times(found, what)
        assert all(done <= start + 1e-9 for (_, _, done), (_, start, _) in pairwise(spans)), "one queue"


@given(any_step(), st.booleans(), st.floats(1, 3))
def test_a_slower_wire_makes_no_step_shorter(own: Case, prefetch: bool, factor: float) -> None:
    slower = own.seconds * np.array([factor if each.what in ("gather", "reduce") else 1.0 for each in own.operations])
    found, then = played(own, prefetch=prefetch), played(Case(own.operations, slower), prefetch=prefetch)
    assert then.end_s[0] >= found.end_s[0] - 1e-9


@given(any_step(), st.booleans())
def test_draws_are_played_side_by_side(own: Case, blocking: bool) -> None:
    two = play(own.operations, np.vstack([own.seconds, 2 * own.seconds]), blocking=blocking)
    assert two.end_s[1] == pytest.approx(2 * two.end_s[0])


def test_what_was_asked_for_lands_beside_computation_even_where_other_collectives_block() -> None:
    """By hand: 0 goes from 0 to 2, and 1 behind it to 5, while 0 computes from 2 to 7; the reduction holds the host to 11.

    2 is asked for at 11 and needed at once, 12.
    """
    own = case(
        ("ask", 0, 2.0), ("compute", 0, 1.0), ("ask", 1, 3.0), ("wait", 0, 0.0), ("compute", 0, 5.0), ("wait", 1, 0.0),
        ("reduce", 1, 4.0), ("ask", 2, 1.0), ("wait", 2, 0.0), ("finish", 0, 0.0),
    )  # fmt: skip
    found = played(own, blocking=True)
    assert times(found, "gather") == [(0, 0, 2), (1, 2, 5), (2, 11, 12)]
    assert times(found, "reduce") == [(1, 7, 11)]
    assert found.end_s[0] == pytest.approx(12)


def test_a_reduction_that_blocks_waits_for_gathers_under_way() -> None:
    own = case(("ask", 0, 5.0), ("compute", 0, 1.0), ("reduce", 1, 2.0), ("wait", 0, 0.0), ("finish", 0, 0.0))
    assert played(own, blocking=True).end_s[0] == pytest.approx(7)
