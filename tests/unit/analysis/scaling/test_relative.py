"""Other numbers of ranks without a row of one: anchors at any N, on a node and across nodes, with known answers."""

import math
from dataclasses import replace

import pytest

from commprof.analysis.scaling.extrapolate import extrapolate
from commprof.analysis.scaling.power_law import growth
from commprof.analysis.scaling.series import Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.commbench.errors import UnusableData
from tests.unit.analysis.scaling.rows import at, scaled, series, told


def test_anchors_at_any_ranks_are_counted_from_the_smallest() -> None:
    """350M, FSDP on nodes of 8 A100, 16, 32, 64 ranks: 0.6652, 0.6851, 0.6996 s; 128 took 0.7098 s."""
    one = series({16: 0.6652, 32: 0.6851, 64: 0.6996}, measure="step_s")
    answer = extrapolate(one, [128], scaling="weak")
    low, value, high = told(answer.predictions[0])
    assert value == pytest.approx(0.7098, rel=0.01)
    assert low < 0.7098 < high
    assert (answer.base, answer.mix) == (16, {})
    assert answer.predictions[0].speedup == pytest.approx(8 * 0.6652 / value)
    assert answer.predictions[0].overhead == pytest.approx(value / 0.6652 - 1)


def test_the_slope_is_drawn_towards_what_series_have_in_common() -> None:
    """Three rows, 4 % a doubling: v = .015^2 + .04^2, S_xx = 2, w = v/(v + .08^2/2) = 0.3632; s = w .04 + (1-w) .015."""
    found = growth({16: 1.0, 32: math.exp(0.04), 64: math.exp(0.08)}, 8)
    weight = (0.015**2 + 0.04**2) / (0.015**2 + 0.04**2 + 0.08**2 / 2)
    assert weight == pytest.approx(0.3632, abs=1e-4)
    assert found.across.value == pytest.approx(weight * 0.04 + (1 - weight) * 0.015)
    assert found.at(256).log_cost == pytest.approx(0.08 + 2 * found.across.value)


def test_the_first_hop_counts_as_two_doublings() -> None:
    """8 to 16 ranks cost 60 %, so much that the prior hardly matters: 32 cost half of its logarithm more, as for a ring."""
    found = growth({8: 1.0, 16: 1.6, 32: 1.6 * math.sqrt(1.6)}, 8)
    assert found.at(64).log_cost - found.at(32).log_cost == pytest.approx(math.log(1.6) / 2, rel=0.1)


def test_the_nodes_boundary_is_learnt_from_rows_on_both_sides() -> None:
    inside = {2: 1.0, 4: 1.01, 8: 1.02}
    steep, flat = (scaled(inside | {16: cost}) for cost in (1.5, 1.03))
    assert told(at(steep, 32))[1] < told(at(flat, 32))[1]
    assert not any("no row beyond" in note for note in at(steep, 32).notes)


def test_rows_on_one_side_alone_widen_the_interval_and_say_so() -> None:
    inside, both = scaled({4: 1.0, 8: 1.01}), scaled({4: 1.0, 8: 1.01, 16: 1.04})
    low, value, high = told(at(inside, 32))
    lower, valued, higher = told(at(both, 32))
    assert (high - low) / value > 1.5 * (higher - lower) / valued
    assert any("no row beyond a node of 8" in note and "add one" in note for note in at(inside, 32).notes)


def test_rows_of_one_rank_and_a_node_are_carried_across_nodes() -> None:
    (series_,) = [scaled({1: 0.9, 8: 1.0})]
    one = at(series_, 16)
    low, value, high = told(one)
    assert low < value < high
    assert one.speedup == pytest.approx(value / series_.values[1])


@pytest.mark.parametrize("measure", ["throughput", "throughput_per_rank", "mfu", "step_s"])
@pytest.mark.parametrize("scaling", ["weak", "strong"])
def test_measures_of_one_training_agree(measure: Measure, scaling: ScalingKind) -> None:
    """The same costs as throughput, per rank, MFU or step time have the same speedup."""
    costs = {16: 1.0, 32: 1.03, 64: 1.08}
    one = Series(name="", measure=measure, values={}, ranks_per_node=8)
    values = {n: one.at_cost(cost, n, scaling) for n, cost in costs.items()}
    found = at(replace(one, values=values), 256, scaling=scaling)
    same = at(scaled(costs), 256, scaling=scaling)
    assert found.speedup == pytest.approx(same.speedup)
    assert found.overhead == pytest.approx(same.overhead)
    low, value, high = told(found)
    assert low < value < high


def test_strong_scaling_keeps_the_work() -> None:
    """T_N = 8/N s exactly: half the step on twice the ranks but for the typical growth; overhead T_N/T_b - b/N."""
    one = series({8: 1.0, 16: 0.5, 32: 0.25}, measure="step_s")
    found = at(one, 64, scaling="strong")
    _, value, _ = told(found)
    assert value == pytest.approx(0.125, rel=0.02)
    assert found.overhead == pytest.approx(value - 1 / 8)


def test_below_the_smallest_row_nothing_follows() -> None:
    one = scaled({16: 1.0, 32: 1.02})
    with pytest.raises(UnusableData, match="--world-sizes 8: below the smallest row, 16 ranks"):
        at(one, 8)
    eight, more = extrapolate(one, [8, 64], scaling="weak").predictions
    assert (eight.value, more.value is None) == (None, False)
    assert "withheld (below the smallest row, 16 ranks" in eight.notes[0]


def test_inside_a_node_only_nvlink_is_carried_without_one_rank() -> None:
    one = scaled({2: 1.0, 4: 1.05})
    assert at(replace(one, interconnect="nvlink"), 8).value is not None
    for link in ("pcie", "unknown"):
        refused = at(replace(one, interconnect=link), 8)  # type: ignore[arg-type]
        assert refused.value is None
        assert "no row of 1 rank" in refused.notes[0]


def test_a_node_that_is_not_given_is_said() -> None:
    one = at(scaled({8: 1.0, 16: 1.1, 32: 1.12}, node=None), 64)
    assert told(one)
    assert one.notes == ("ranks on a node not given: taken as 8 (--gpus-per-node)",)


def test_a_row_that_is_much_faster_than_the_one_before_is_doubted() -> None:
    """1B, FSDP on 32, 64 A100: 1.3166 and 1.0778 s; 128 took 1.0983 s."""
    one = at(series({32: 1.3166, 64: 1.0778}, measure="step_s"), 128)
    low, value, high = told(one)
    assert "64 ranks do 22% more each than 32" in one.notes[0]
    assert value == pytest.approx(1.0983, rel=0.02)
    assert low < 1.0983 < high


def test_rows_between_which_a_rank_gains_over_half_do_not_compare() -> None:
    """7B on 4, 12 and 32 H100 with a setting of its own for each: a rank does 2.3 times as much on 12, and then less."""
    refused = at(scaled({4: 1.0, 12: 0.434}, 4), 32)
    assert refused.value is None
    assert "withheld (the rows of 4 and 12 ranks do not compare: more than their number differs" in refused.notes[-1]
    assert told(at(scaled({4: 1.0, 12: 0.7}, 4), 32))


def test_between_two_rows_it_is_the_line_through_them() -> None:
    low, value, high = told(at(scaled({8: 1.0, 32: 1.21}), 16))
    assert value == pytest.approx(16 / 1.1)
    assert low < value < high


def test_without_a_row_beyond_the_node_the_hop_is_a_multiple_of_what_is_lost_inside() -> None:
    """log u 20 % apart in a doubling: w = v/(v + .08^2/.5), v = .01^2 + .2^2; the hop counts 2 times 2 slopes."""
    found = growth({4: 1.0, 8: math.exp(0.2)}, 8)
    weight = (0.01**2 + 0.2**2) / (0.01**2 + 0.2**2 + 0.08**2 / 0.5)
    inside = weight * 0.2 + (1 - weight) * 0.01
    assert found.inside.value == pytest.approx(inside)
    assert found.at(16).log_cost == pytest.approx(0.2 + 4 * inside)
    assert (found.at(16).reach, found.at(8).reach) == ("hop", "between")


def test_far_beyond_the_rows_it_says_that_nobody_tried() -> None:
    one = scaled({8: 1.0, 16: 1.02})
    assert at(one, 512).notes == ()
    assert at(one, 2048).notes == ("7.0 doublings beyond the largest row; the intervals were tried up to 5",)
