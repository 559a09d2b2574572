from collections.abc import Callable, Sequence

import numpy as np
import pytest

from commprof.analysis.wire.cost import cost_s, fit_cost
from commprof.analysis.wire.curve_shape import leave_one_out
from commprof.analysis.wire.results import CostModel
from tests.factory import MIB, collective

SIZES = [2**k for k in range(10, 29)]


def line(size: int) -> float:
    return 20e-6 + size / 1e10


def log(in_place: Callable[[int], float], out_of_place: Callable[[int], float] | None) -> CostModel:
    """Fit what a log holds: one mean for each size and placement."""
    places = {True: in_place} | ({False: out_of_place} if out_of_place else {})
    return fit_cost([collective(s, [time(s)], in_place=place) for place, time in places.items() for s in SIZES])


def spiked(size: int) -> float:
    return line(size) * (2 if size == MIB else 1)


def halved(size: int) -> float:
    """Another algorithm, twice as fast, from 4 MiB on."""
    return line(size) * (0.5 if size >= 4 * MIB else 1)


def test_a_size_that_is_slow_in_one_placement_is_set_aside_and_the_curve_goes_past_it() -> None:
    cost = log(spiked, lambda size: 1.05 * line(size))
    (size,) = cost.set_aside
    assert (size.message_bytes, size.factor) == (MIB, pytest.approx(2.0))
    assert cost_s(cost, MIB) == pytest.approx(line(MIB))
    assert cost.latency_s == pytest.approx(20e-6)
    assert cost.verdict == "sound"
    assert cost.median_s[SIZES.index(MIB)] == pytest.approx(2 * line(MIB))  # still in the record


def test_what_both_placements_show_is_the_librarys_and_stays_in_the_curve() -> None:
    cost = log(spiked, spiked)
    assert cost.set_aside == ()
    assert cost_s(cost, MIB) == pytest.approx(2 * line(MIB))


def test_a_slow_other_placement_does_not_touch_the_curve() -> None:
    assert log(line, spiked).set_aside == ()


def test_without_a_second_placement_only_what_stands_far_out_on_both_sides_is_set_aside() -> None:
    assert [size.message_bytes for size in log(spiked, None).set_aside] == [MIB]
    assert log(halved, None).set_aside == ()


@pytest.mark.parametrize("factor", [0.35, 1.6])
def test_an_algorithm_that_takes_over_is_found_with_its_size_and_factor(factor: float) -> None:
    def switching(size: int) -> float:
        return line(size) * (factor if size >= 4 * MIB else 1)

    for other in (switching, None):
        cost = log(switching, other)
        (switch,) = cost.switches
        assert (switch.previous_bytes, switch.message_bytes) == (2 * MIB, 4 * MIB)
        assert switch.factor == pytest.approx(factor, rel=0.02)
        explained = other is not None or factor > 1  # time falls by a third; the other placement falls with it
        assert cost.verdict == ("sound" if explained else "noisy: time falls by over 20 % at 1 of 18 steps to a larger size")


def test_a_bend_in_one_placement_alone_is_no_switch() -> None:
    assert log(halved, line).switches == ()


def test_noise_of_repeated_samples_is_no_switch_but_a_real_one_stands_out_of_it() -> None:
    """Noise of 20 %, medians of five: steps of 20 % happen, but a halving alone is three standard errors long."""
    rng = np.random.default_rng(0)
    noise = {size: np.exp(0.2 * rng.standard_normal(5)) for size in SIZES}
    assert fit_cost([collective(s, line(s) * noise[s]) for s in SIZES]).switches == ()
    quiet = {size: np.exp(0.02 * rng.standard_normal(5)) for size in SIZES}
    (switch,) = fit_cost([collective(s, halved(s) * quiet[s]) for s in SIZES]).switches
    assert switch.message_bytes == 4 * MIB


@pytest.mark.parametrize(
    ("in_turns", "reason"),
    [
        ([1, 1, 1.15], "in and out of place are over 1.1x apart at 4 of 11 sizes from 256 KiB up"),
        ([0.92, 1, 1.08], "in and out of place agree to 6 % only from 256 KiB up"),
    ],
)
def test_placements_that_disagree_make_a_curve_noisy(in_turns: Sequence[float], reason: str) -> None:
    cost = log(line, lambda size: line(size) * in_turns[SIZES.index(size) % 3])
    assert cost.verdict == f"noisy: {reason}"


def test_medians_that_are_hardly_known_make_a_curve_noisy() -> None:
    rng = np.random.default_rng(1)
    narrow, wide = (
        fit_cost([collective(s, line(s) * (1 + spread * rng.standard_normal(7))) for s in SIZES]) for spread in (0.02, 0.3)
    )
    assert narrow.verdict == "sound"
    assert wide.verdict.startswith("noisy: a median is known to")


def test_leaving_a_size_out_costs_nothing_on_a_line_and_the_bend_at_a_bend() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    assert leave_one_out(sizes, 3 + sizes) == {2: 0.0, 4: 0.0}
    bent = leave_one_out(sizes, np.array([4.0, 5.0, 7.0, 20.0]))
    assert bent == {2: 0.0, 4: pytest.approx(10 / 7 - 1)}  # between 5 at 2 and 20 at 8, a third of the way: 10
