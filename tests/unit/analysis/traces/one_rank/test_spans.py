"""Interval arithmetic against sets of whole numbers: [2, 5) is {2, 3, 4}."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.one_rank.spans import Intervals, common, complement, length_ns, merged, union, without

POINTS = st.integers(-30, 30)
PAIRS = st.lists(st.tuples(POINTS, POINTS), max_size=12)


def made(pairs: list[tuple[int, int]]) -> Intervals:
    return union([start for start, _ in pairs], [end for _, end in pairs])


def points(intervals: Intervals) -> set[int]:
    assert intervals.shape[1:] == (2,)
    assert intervals.dtype == np.int64
    assert (intervals[:, 0] < intervals[:, 1]).all()
    assert (intervals[1:, 0] > intervals[:-1, 1]).all()
    return {point for start, end in intervals.tolist() for point in range(start, end)}


@given(PAIRS, PAIRS, st.randoms(use_true_random=False))
def test_intervals_are_sets_of_instants(first: list[tuple[int, int]], second: list[tuple[int, int]], random: Random) -> None:
    a, b = made(first), made(second)
    covered = [{point for start, end in pairs for point in range(start, end)} for pairs in (first, second)]
    assert [points(a), points(b)] == covered
    assert points(common(a, b)) == covered[0] & covered[1]
    assert points(without(a, b)) == covered[0] - covered[1]
    assert points(merged(a, b)) == covered[0] | covered[1]
    assert points(complement(a, -10, 10)) == set(range(-10, 10)) - covered[0]
    assert length_ns(a) == length_ns(common(a, b)) + length_ns(without(a, b)) == len(covered[0])
    shuffled = list(first)
    random.shuffle(shuffled)
    assert (made(shuffled) == a).all()


def test_nanoseconds_since_1970_stay_exact() -> None:
    now = 1_782_967_788_000_000_001
    a, b = union([now, now + 5], [now + 3, now + 9]), union([now + 2], [now + 6])
    assert common(a, b).tolist() == [[now + 2, now + 3], [now + 5, now + 6]]
    assert without(a, b).tolist() == [[now, now + 2], [now + 6, now + 9]]
