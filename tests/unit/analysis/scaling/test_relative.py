"""Other numbers of ranks without a row of one: anchors at any N, on a node and across nodes, and what to measure next."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.scaling.extrapolate import extrapolate, extrapolate_all
from commprof.analysis.scaling.laws import laws
from commprof.analysis.scaling.power_law import ALONE, GROWTH, Slope, growth
from commprof.analysis.scaling.results import Extrapolated, Refused
from commprof.analysis.scaling.series import Interconnect, Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.cli import main
from commprof.commbench.errors import UnusableData


def series(values: Mapping[int, float], node: int | None = 8, measure: Measure = "throughput", machine: str = "") -> Series:
    return Series(name="s", measure=measure, values=dict(values), ranks_per_node=node, machine=machine)


def scaled(costs: Mapping[int, float], node: int | None = 8) -> Series:
    """Throughput of a series whose ranks need `costs` seconds for what each of them does."""
    return series({n: n / cost for n, cost in costs.items()}, node)


def at(one: Series, world_size: int, *machine: Series, scaling: ScalingKind = "weak") -> Extrapolated:
    found = extrapolate_all(
        [replace(each, machine=each.machine or "m") for each in (one, *machine)], [world_size], scaling=scaling,
        anchors=list(one.values), by_machine=bool(machine),
    )[0]  # fmt: skip
    assert not isinstance(found, Refused), found.reason
    return found.predictions[0]


def told(one: Extrapolated) -> tuple[float, float, float]:
    assert one.value is not None and one.low is not None and one.high is not None, one.notes
    return one.low, one.value, one.high


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


def test_other_series_of_a_machine_tell_the_hop() -> None:
    """Two others lose 30 and 20 % at the hop and 1 % inside, like everybody: 13.1, 9.1 and the usual 2 times as much."""
    machine = [scaled({8: 1.0, 16: cost}) for cost in (1.3, 1.2)]
    factors = [math.log(1.3) / 2 / 0.01, math.log(1.2) / 2 / 0.01, 2]
    alone = scaled({4: 1.0, 8: 1.0})
    one, helped = at(alone, 16), at(alone, 16, *machine)
    inside = growth({4: 1.0, 8: 1.0}, 8).inside.value
    assert told(helped)[1] == pytest.approx(16 / math.exp(2 * inside * sum(factors) / 3))
    assert told(one)[1] > told(helped)[1]
    assert any("2 other series of this machine" in note for note in helped.notes)


def test_by_machine_takes_series_of_the_same_machine_only() -> None:
    slow = scaled({8: 1.0, 16: 1.5})
    table = [
        replace(scaled({4: 1.0, 8: 1.0}), machine="a"),
        replace(slow, machine="a", name="slow"),
        replace(slow, machine="b", name="elsewhere"),
    ]
    for by_machine, said in ((True, "from 1 other series of this machine and"), (False, "from published")):
        first = extrapolate_all(table, [32], scaling="weak", by_machine=by_machine)[0]
        assert not isinstance(first, Refused)
        assert any(said in note for note in first.predictions[0].notes), first.predictions[0].notes
    table[0] = replace(table[0], machine="")  # not the machine that another one without a name is
    first = extrapolate_all([*table, replace(slow, name="nameless")], [32], scaling="weak", by_machine=True)[0]
    assert not isinstance(first, Refused)
    assert "from published" in " ".join(first.predictions[0].notes)


def test_a_machines_node_is_told_by_one_series_for_all() -> None:
    """The rows of one node do not tell how many ranks it has; another series of the machine has nodes of 4."""
    first = at(scaled({2: 1.0, 4: 1.0}, node=None), 8, scaled({4: 1.0, 8: 1.2}, node=4))
    assert any("no row beyond a node of 4" in note and "1 other series" in note for note in first.notes)
    assert not any("not given" in note for note in first.notes)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.integers(0, 8), st.floats(0, 0.3))
def test_a_series_own_factor_is_not_in_its_machines_pool(factors: list[float], index: int, slope: float) -> None:
    own, inside = factors[index % len(factors)], Slope(value=slope, variance=slope**2)
    every, others = (reduce(lambda pool, factor: pool.plus(factor), some, ALONE) for some in (factors, _less(factors, own)))
    one, other = every.plus(own, -1).across(inside, GROWTH), others.across(inside, GROWTH)
    assert (one.value, one.variance) == pytest.approx((other.value, other.variance), abs=1e-9)
    assert other.value == pytest.approx(slope * np.mean([GROWTH.hop, *_less(factors, own)]))


def _less(factors: list[float], own: float) -> list[float]:
    rest = list(factors)
    rest.remove(own)
    return rest


def test_far_beyond_the_rows_it_says_that_nobody_tried() -> None:
    one = scaled({8: 1.0, 16: 1.02})
    assert at(one, 512).notes == ()
    assert at(one, 2048).notes == ("7.0 doublings beyond the largest row; the intervals were tried up to 5",)


def test_the_next_row_to_measure_narrows_the_farthest_answer_most() -> None:
    one = scaled({8: 1.0, 16: 1.1})
    found = extrapolate(one, [32, 256], scaling="weak")
    assert found.next_row is not None and found.next_row.half_width is not None
    assert (found.next_row.world_size, found.next_row.target) == (128, 256)
    low, value, high = told(found.predictions[1])
    assert found.next_row.half_width == pytest.approx((high - low) / 2 / value)
    assert found.next_row.half_width_then < found.next_row.half_width / 2
    grown = told(at(scaled({8: 1.0, 16: 1.1, 128: math.exp(growth({8: 1.0, 16: 1.1}, 8).at(128).log_cost)}), 256))
    assert (grown[2] - grown[0]) / 2 / grown[1] == pytest.approx(found.next_row.half_width_then)


def test_the_next_row_may_bring_an_answer_that_is_withheld() -> None:
    """2 and 4 ranks on an unnamed link are not carried to a node of 8; a row of the whole node would be."""
    found = extrapolate(scaled({2: 1.0, 4: 1.1}), [16], scaling="weak")
    assert found.predictions[0].value is None
    assert found.next_row is not None
    assert (found.next_row.world_size, found.next_row.half_width) == (8, None)


def test_no_row_is_named_where_none_narrows_the_interval() -> None:
    assert extrapolate(scaled({32: 1.0, 16: 1.0, 8: 1.0}), [33], scaling="weak").next_row is None


costs = st.floats(0.5, 2)


@settings(deadline=None)
@given(st.lists(costs, min_size=2, max_size=5), st.floats(1e-6, 1e6), st.sampled_from([8, 16, 4]))
def test_the_unit_does_not_matter(seconds: list[float], unit: float, node: int) -> None:
    one = scaled({8 << index: cost for index, cost in enumerate(seconds)}, node)
    other = replace(one, values={n: value * unit for n, value in one.values.items()})
    assert told(at(other, 512)) == pytest.approx([each * unit for each in told(at(one, 512))], rel=1e-6)


@settings(deadline=None)
@given(st.lists(costs, min_size=2, max_size=5), st.randoms())
def test_the_order_of_rows_does_not_matter(seconds: list[float], random: object) -> None:
    rows = [(8 << index, cost) for index, cost in enumerate(seconds)]
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert told(at(scaled(dict(mixed)), 512)) == told(at(scaled(dict(rows)), 512))


@settings(deadline=None)
@given(st.integers(2, 5), st.sampled_from([1, 2]), st.floats(1e-3, 1e3))
def test_perfect_scaling_is_predicted_but_for_the_growth_that_series_have(count: int, doublings: int, each: float) -> None:
    largest = 8 << count
    low, value, high = told(at(scaled({16 << index: each for index in range(count)}), largest << doublings))
    perfect = (largest << doublings) / each
    assert perfect * math.exp(-GROWTH.across * doublings) <= value * (1 + 1e-9) <= perfect * (1 + 2e-9)
    assert low < perfect <= high


@settings(deadline=None)
@given(costs, st.floats(0, 1), st.floats(0, 1), st.sampled_from([32, 64, 512]))
def test_a_slower_largest_row_never_predicts_more(cost: float, slower: float, more: float, target: int) -> None:
    first, second = (told(at(scaled({8: cost, 16: cost * (1 + loss)}), target))[1] for loss in (slower, slower + more))
    assert second <= first * (1 + 1e-9)


def test_the_verb_answers_without_one_rank_and_says_what_to_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("n_gpus,nodes,tokens_per_second\n16,2,100\n32,4,197\n64,8,385\n")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "256"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "speedup over 16 ranks" in shown and "E_N/T_16" in shown
    assert "next to measure: 128 ranks would narrow the interval on 256" in shown


def test_series_left_out_for_one_reason_share_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"s{index},8,1,1\n" for index in range(40))
    (tmp_path / "t.csv").write_text(f"series,n,nodes,mfu\na,8,1,50\na,16,2,49\n{rows}")
    assert main(["extrapolate", str(tmp_path / "t.csv"), "-n", "32"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "s0, s1, s2 and 37 more: left out: a row of 8 ranks alone tells nothing" in shown


@pytest.mark.parametrize("scaling", ["weak", "strong"])
@pytest.mark.parametrize("name", ["linear", "constant", "ring bandwidth", "ring + latency", "tree", "Amdahl", "USL"])
def test_a_law_counted_from_the_smallest_row_is_that_from_one_rank(scaling: ScalingKind, name: str) -> None:
    """A step of T_1 (share + eps(N)) seconds at 4, 8 and 16 ranks: what the law says of 64 does not need T_1."""
    law = next(law for law in laws(scaling) if law.name == name)

    def step_s(n: int) -> float:
        return (1 if scaling == "weak" else 1 / n) + sum(
            coefficient * shape(n) for coefficient, shape in zip((0.1, 0.002), law.shapes, strict=False)
        )

    one = Series(name="", measure="step_s", values={n: step_s(n) for n in (4, 8, 16)}, ranks_per_node=4)
    found = {each.name: each.values for each in extrapolate(one, [64], scaling=scaling).laws}
    assert found["linear" if (scaling, name) == ("weak", "constant") else name][64] == pytest.approx(step_s(64), rel=1e-6)
    assert "Gustafson" not in found


def test_rows_that_rise_too_steeply_to_be_followed_are_not_followed() -> None:
    one = Series(name="", measure="step_s", values={161: 0.5, 162: 5.0}, interconnect="nvlink")
    (told_of,) = extrapolate(one, [782], scaling="weak").predictions
    assert told_of.value is None
    assert "over 1,000,000 times the smallest row's cost" in told_of.notes[-1]


sizes = st.integers(1, 600)


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(sizes, st.floats(0.1, 10), min_size=1, max_size=6),
    st.lists(st.integers(2, 4000), min_size=1, max_size=3, unique=True),
    st.sampled_from([None, 1, 3, 4, 8, 1000]),
    st.sampled_from(["nvlink", "pcie", "unknown"]),
    st.sampled_from(["throughput", "throughput_per_rank", "mfu", "step_s"]),
    st.sampled_from(["weak", "strong"]),
)
def test_every_table_has_an_answer_or_a_reason(
    rows: dict[int, float], targets: list[int], node: int | None, link: Interconnect, measure: Measure, scaling: ScalingKind
) -> None:
    one = Series(name="", measure=measure, values=dict(sorted(rows.items())), ranks_per_node=node, interconnect=link)
    try:
        found = extrapolate(one, sorted(targets), scaling=scaling).predictions
    except UnusableData:
        found = ()
    for each in found:
        if each.value is None:
            assert each.notes
        else:
            low, value, high = told(each)
            assert 0 < low <= value * (1 + 1e-9)
            assert value <= high * (1 + 1e-9)
