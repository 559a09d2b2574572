"""What a change saves is the difference of two runs, each with a pace of its own."""

import numpy as np
import pytest

from commprof.analysis.step.estimate import PACE_ERROR, saved


@pytest.mark.parametrize(("drift", "between"), [(0.0, 0.0), (0.06, 0.0), (0.0, 0.06), (0.03, 0.04)])
def test_a_change_that_does_nothing_saves_nothing_give_or_take_the_pace_of_two_runs(drift: float, between: float) -> None:
    step_s = np.full(4001, 0.2)
    saved_s = saved(step_s, step_s, drift, between)
    assert saved_s[0] == 0.0
    assert np.mean(saved_s) == pytest.approx(0.0, abs=0.001)
    assert np.std(saved_s) == pytest.approx(np.sqrt(2) * np.hypot(PACE_ERROR, np.hypot(drift, between)) * 0.2, rel=0.05)


def test_what_the_draws_share_falls_out_of_the_difference() -> None:
    pace = np.exp(0.5 * np.random.default_rng(0).standard_normal(4001))
    pace[0] = 1.0
    saved_s = saved(0.3 * pace, 0.1 * pace, 0.0, 0.0)
    assert saved_s[0] == pytest.approx(0.2)
    assert np.std(saved_s / pace) == pytest.approx(PACE_ERROR * np.hypot(0.3, 0.1), rel=0.05)
