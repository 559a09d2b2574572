"""What holds of every series that is told from its smallest row, whatever its unit, order and noise."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.scaling.extrapolate import extrapolate
from commprof.analysis.scaling.laws import laws
from commprof.analysis.scaling.power_law import GROWTH
from commprof.analysis.scaling.series import Interconnect, Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.commbench.errors import UnusableData
from tests.unit.analysis.scaling.rows import at, scaled, told

costs = st.floats(0.82, 1.2)  # so that neighbouring rows compare


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
