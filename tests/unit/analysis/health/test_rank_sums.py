"""Mann and Whitney's test on paper, and as scipy has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.health.rank_sums import chance_of_difference, false_discovery_levels

values = st.lists(st.integers(0, 40).map(float), min_size=2, max_size=14)


def test_small_samples_are_counted_out() -> None:
    """Of the 10 orders of 2 and 3 values one has U = 0 and one U = 6; of the 252 of 5 and 5, likewise."""
    assert chance_of_difference([1, 2], [3, 4, 5]) == pytest.approx(0.2)
    assert chance_of_difference([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 252)
    assert chance_of_difference([1, 4], [2, 3]) == 1.0


def test_equal_values_tell_nothing() -> None:
    assert chance_of_difference([3.0] * 10, [3.0] * 10) == 1.0


@given(first=values, second=values)
def test_it_is_scipys(first: list[float], second: list[float]) -> None:
    from scipy.stats import mannwhitneyu  # loaded for the worker that asks, not for all

    assert chance_of_difference(first, second) == pytest.approx(min(1.0, float(mannwhitneyu(first, second).pvalue)), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_levels_are_scipys(chances: list[float]) -> None:
    from scipy.stats import false_discovery_control

    assert false_discovery_levels(chances) == pytest.approx(list(false_discovery_control(chances)), abs=1e-12)
