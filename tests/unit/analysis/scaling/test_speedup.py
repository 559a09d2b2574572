import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.scaling.speedup import Scaling, amdahl_step_s, karp_flatt, scalings_of, work_s
from commprof.analysis.wire.cli import parse_times
from commprof.commbench.errors import BadInput


@pytest.mark.parametrize(
    ("single_s", "parallel_s", "speedup", "efficiency", "ratio"),
    [(19.53, 42.34, "0.46", "11.5%", "0.52"), (99.94, 124.95, "0.80", "20.0%", "1.00")],
)
def test_the_case_that_started_it_all(single_s: float, parallel_s: float, speedup: str, efficiency: str, ratio: str) -> None:
    """Published times of a 1.93 M and a 10 M parameter model on 1 and 4 GPUs (AG News, 120,000 samples)."""
    (scaling,) = scalings_of({1: single_s, 4: parallel_s})
    assert f"{scaling.speedup:.2f}" == speedup
    assert f"{scaling.efficiency:.1%}" == efficiency
    assert f"{scaling.ratio_compute_to_comm:.2f}" == ratio
    assert not scaling.amdahl_possible
    words = scaling.explain()
    assert f"speedup {speedup}x, efficiency {efficiency}" in words
    assert f"= {ratio}, and a gain needs R > N/(N-1) = 1.33" in words
    assert "No Amdahl fraction can describe this" in words
    assert "slower on 4 ranks" in words


@given(st.floats(0.01, 0.99), st.integers(2, 64))
def test_karp_flatt_reads_back_the_fraction_amdahl_put_in(serial: float, world_size: int) -> None:
    speedup = 1 / (serial + (1 - serial) / world_size)
    assert karp_flatt(speedup, world_size) == pytest.approx(serial)
    assert "Amdahl's law fits" in Scaling(world_size=world_size, single_s=1.0, parallel_s=1 / speedup).explain()


@given(st.floats(1.01, 1000), st.integers(2, 64))
def test_a_speedup_above_one_needs_the_break_even_ratio(ratio: float, world_size: int) -> None:
    scaling = Scaling(world_size=world_size, single_s=1.0, parallel_s=1 / world_size + 1 / ratio)
    assert scaling.ratio_compute_to_comm == pytest.approx(ratio)
    assert (scaling.speedup > 1) == (ratio > scaling.break_even_ratio) or ratio == pytest.approx(scaling.break_even_ratio)


def test_three_times_as_much_computation_gives_the_rule_of_thumb() -> None:
    assert Scaling(world_size=4, single_s=3.0, parallel_s=0.75 + 1.0).speedup == pytest.approx(1.714, abs=1e-3)


def test_perfect_scaling_has_no_ratio_to_fear() -> None:
    assert Scaling(world_size=4, single_s=4.0, parallel_s=1.0).ratio_compute_to_comm == float("inf")


def test_a_fixed_batch_per_rank_counts_samples() -> None:
    assert work_s(0.1, 4, "weak") / 0.2 == pytest.approx(2)
    assert work_s(0.1, 4, "strong") / 0.2 == pytest.approx(0.5)
    assert amdahl_step_s(0.1, 0.5, 3) == pytest.approx(0.2)
    assert amdahl_step_s(0.3, 0.5, 3, "strong") == pytest.approx(0.2)


def test_times_are_read_from_the_command_line() -> None:
    assert parse_times(["1=19.53", "4=42.34"]) == {1: 19.53, 4: 42.34}


@pytest.mark.parametrize("words", [["1"], ["a=2"], ["1=x"], ["=3"]])
def test_a_time_that_is_none_is_refused(words: list[str]) -> None:
    with pytest.raises(BadInput, match="is not N=SECONDS"):
        parse_times(words)


@pytest.mark.parametrize("times", [{1: 1.0}, {2: 1.0, 4: 1.0}, {1: 0.0, 2: 1.0}, {0: 1.0, 1: 1.0}, {1: 1.0, 2: float("nan")}])
def test_times_that_say_nothing_are_refused(times: dict[int, float]) -> None:
    with pytest.raises(BadInput, match="--times needs"):
        scalings_of(times)


@pytest.mark.parametrize(("parallel_s", "said"), [(1.0, True), (1.95, False)])
def test_more_than_n_times_as_fast_is_no_result(parallel_s: float, said: bool) -> None:
    told = Scaling(world_size=2, single_s=4.0, parallel_s=parallel_s).explain()
    assert ("these times are not comparable" in told) == said
    assert ("x, efficiency" in told) != said
