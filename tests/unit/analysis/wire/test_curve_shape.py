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

    (switch,) = log(switching, lambda size: 1.05 * switching(size)).switches
    assert (switch.previous_bytes, switch.message_bytes) == (2 * MIB, 4 * MIB)
    assert switch.factor == pytest.approx(factor)
    assert log(switching, None).switches == ()  # nothing shows it a second time


def test_a_jump_makes_no_second_switch_beside_it() -> None:
    """The line back from a jump leads below zero at the step before it, where the curve is only flat."""
    seconds = dict(zip(SIZES[-6:], (1.21e-3, 1.86e-3, 1.95e-3, 6.5e-3, 8.1e-3, 11.8e-3), strict=True))
    measured = [collective(s, [k * t], in_place=k == 1) for s, t in seconds.items() for k in (1, 1.01)]
    (switch,) = fit_cost(measured).switches
    assert (switch.message_bytes, switch.factor) == (64 * MIB, pytest.approx(6.5 / (1.95 + 2 * 0.09), rel=1e-3))


def test_a_bend_in_one_placement_alone_is_no_switch() -> None:
    assert log(halved, line).switches == ()


@pytest.mark.parametrize("num_samples", [1, 5])
def test_noise_is_no_switch_but_a_real_one_stands_out_of_it(num_samples: int) -> None:
    """With noise of 20 to 40 % steps happen in both placements now and then, a halving is one among them."""

    def fitted(time: Callable[[int], float], spread: float, seed: int) -> CostModel:
        rng = np.random.default_rng(seed)
        samples = [(s, p, time(s) * np.exp(spread * rng.standard_normal(num_samples))) for s in SIZES for p in (True, False)]
        return fit_cost([collective(s, seconds, in_place=place) for s, place, seconds in samples])

    false = [len(fitted(line, spread, seed).switches) for spread in (0.02, 0.1, 0.2, 0.4) for seed in range(10)]
    assert sum(false) <= 1  # of 40 sweeps, 16 steps each
    (switch,) = fitted(halved, 0.02, 0).switches
    assert switch.message_bytes == 4 * MIB


def test_a_curve_whose_own_sizes_do_not_follow_from_each_other_is_not_sound() -> None:
    """64 KiB to 4 MiB take five times as long: left out, the sizes at the edge of that range are off by half and more."""

    def slow_range(size: int) -> float:
        return line(size) * (5 if 64 * 2**10 <= size <= 4 * MIB else 1)

    assert log(slow_range, slow_range).verdict.startswith("not sound: a size left out is met within 24% only, in the mean")
    assert log(line, line).verdict == "sound"


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
