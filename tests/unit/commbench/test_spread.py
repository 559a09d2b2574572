import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.spread import median_interval, quantile, relative_half_width

SAMPLES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50)


@given(samples=SAMPLES, q=st.floats(0, 1))
def test_quantiles_are_numpys(samples: list[float], q: float) -> None:
    assert quantile(samples, q) == pytest.approx(np.quantile(samples, q), rel=1e-9)


@given(samples=SAMPLES)
def test_the_interval_holds_the_median_and_ignores_order(samples: list[float]) -> None:
    low, high = median_interval(samples)
    assert min(samples) <= low <= quantile(samples, 0.5) <= high <= max(samples)
    assert median_interval(samples[::-1]) == (low, high)


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for count in (20, 101):
        draws = rng.lognormal(0.0, 1.0, size=(2000, count))
        inside = [low <= 1.0 <= high for low, high in map(median_interval, draws.tolist())]
        assert 0.93 < np.mean(inside) < 0.99


def test_known_half_widths() -> None:
    assert relative_half_width([1.0] * 5) == float("inf")
    assert relative_half_width([2.0] * 6) == 0
    # 100 samples: ranks 50 -+ 9.8, so the order statistics 40 and 59 of 0..99, around 49.5.
    assert relative_half_width([float(i) for i in range(100)]) == pytest.approx((59 - 40) / 2 / 49.5)
