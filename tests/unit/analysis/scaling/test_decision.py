"""How many ranks to use, from speedups and their intervals worked out on paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.runs.interval import Interval
from commprof.analysis.scaling.decision import Candidate, decide


def measured(n: int, speedup: float, within: tuple[float, float] | None = None, **fields: str) -> Candidate:
    low, high = within or (0.98 * speedup, 1.02 * speedup)
    return Candidate(
        world_size=n,
        speedup=speedup,
        within=Interval(low=low, high=high),
        measured=True,
        predicted=1.92,
        interval=Interval(low=1.79, high=2.06),
        **fields,
    )


def predicted(n: int, speedup: float, low: float, high: float, **fields: str) -> Candidate:
    span = Interval(low=low, high=high)
    return Candidate(world_size=n, speedup=speedup, within=span, predicted=speedup, interval=span, **fields)


def test_the_sentence_of_a_gain_and_of_none() -> None:
    because = "communication takes 80 ms of each 200 ms step"
    found = decide([measured(4, 1.79, (1.75, 1.83), because=because), measured(2, 1.84)])
    assert str(found) == (
        "Use 2 ranks. 2: yes, 1.84x (predicted 1.92, 1.79 to 2.06). 4: no, 1.79x (predicted 1.92, 1.79 to 2.06): it adds "
        "nothing to 2 ranks here, because communication takes 80 ms of each 200 ms step."
    )


@pytest.mark.parametrize(
    ("candidates", "answers", "advice"),
    [
        ([measured(2, 1.9), measured(4, 3.5)], ["yes", "yes"], "Use 4 ranks"),
        ([measured(2, 0.46)], ["no"], "Stay with one rank"),
        ([measured(2, 1.9), measured(4, 1.2)], ["yes", "no"], "Use 2 ranks"),
        ([measured(2, 0.6), measured(4, 1.3)], ["no", "yes"], "Use 4 ranks"),
        ([predicted(2, 1.05, 0.95, 1.15)], ["perhaps"], "Stay with one rank until a gain is sure"),
        ([measured(2, 1.9, unknown="disturbed")], ["unknown"], "How many ranks to use cannot be told"),
        ([measured(2, 1.9), measured(4, 3.0, no_gain="cores are shared")], ["yes", "unknown"], "Use 2 ranks"),
        ([measured(2, 1.9), measured(4, 1.2, no_gain="cores are shared")], ["yes", "no"], "Use 2 ranks"),
        ([measured(2, 1.9), measured(4, 1.9, (1.8, 2.0))], ["yes", "perhaps"], "Use 2 ranks"),
        (
            [Candidate(world_size=4, speedup=None, within=None, unknown="these runs are not comparable")],
            ["unknown"],
            "How many",
        ),
        ([], [], "How many ranks to use cannot be told"),
    ],
)
def test_each_number_of_ranks_is_judged_against_fewer(candidates: list[Candidate], answers: list[str], advice: str) -> None:
    found = decide(candidates)
    assert [own.answer for own in found.answers] == answers
    assert found.advice.startswith(advice)


def test_a_reason_that_several_have_is_given_once() -> None:
    found = decide([measured(2, 1.9, unknown="others ran"), measured(4, 2.5, unknown="others ran")])
    told = "2 and 4: cannot be told: others ran (2: 1.90x, predicted 1.92; 4: 2.50x, predicted 1.92)."
    assert str(found) == f"How many ranks to use cannot be told. {told}"


SPEEDUPS = st.floats(0.1, 20)


@given(st.lists(st.tuples(st.integers(2, 64), SPEEDUPS, SPEEDUPS, SPEEDUPS), max_size=6, unique_by=lambda own: own[0]))
def test_what_is_advised_is_surely_faster_than_one_rank_and_no_fewer_are_surely_better(
    known: list[tuple[int, float, float, float]],
) -> None:
    made = [predicted(n, *[sorted(three)[k] for k in (1, 0, 2)]) for n, *three in known]
    found = decide(made)
    if found.best is None:
        assert not any(own.answer == "yes" for own in found.answers)
        return
    best = found.best.candidate
    assert best.within is not None and best.speedup is not None and best.within.low > 1
    fewer = [own.candidate for own in found.answers if own.answer == "yes" and own.candidate.world_size < best.world_size]
    assert all(own.speedup is not None and own.speedup < best.speedup for own in fewer)
    assert found == decide(reversed(made))


def test_without_one_rank_the_fewest_known_take_its_place() -> None:
    found = decide([predicted(32, 0.9, 0.8, 0.95), predicted(64, 1.1, 0.9, 1.3)], base=16)
    assert str(found).startswith("Stay with 16 ranks until a gain is sure. 32: no, 0.90x predicted (0.80 to 0.95): it adds")
    assert str(found).endswith("64: perhaps, 1.10x predicted (0.90 to 1.30): too close to 16 ranks to tell.")
    assert decide([predicted(32, 0.9, 0.8, 0.95)], base=16).advice == "Stay with 16 ranks"


def test_what_was_not_asked_for_counts_and_is_not_told() -> None:
    found = decide([measured(2, 1.9), predicted(4, 1.2, 1.1, 1.3)])
    assert found.said_of([4]) == "Use 2 ranks. 4: no, 1.20x predicted (1.10 to 1.30): it adds nothing to 2 ranks here."
