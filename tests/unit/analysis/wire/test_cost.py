from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.wire.cost import cost_s, fit_cost, is_measured
from commprof.analysis.wire.forms import ring_s
from commprof.analysis.wire.line import fit_line
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.types import CollectiveMeasurement
from tests.factory import collective

SIZES = [2**k for k in range(3, 28)]


def sweep(latency_s: float, bandwidth: float, *, world_size: int = 2, noise: float = 0.0) -> list[CollectiveMeasurement]:
    rng = np.random.default_rng(1)
    return [
        collective(size, (latency_s + size / bandwidth) * (1 + noise * rng.standard_normal(20)), world_size=world_size)
        for size in SIZES
    ]


@given(latency_s=st.floats(1e-6, 1e-3), bandwidth=st.floats(1e8, 1e12))
def test_recovers_the_wire_that_made_the_times(latency_s: float, bandwidth: float) -> None:
    sizes = np.array(SIZES, dtype=float)
    latency, fitted = fit_line(sizes, latency_s + sizes / bandwidth)
    assert latency == pytest.approx(latency_s, rel=1e-6)
    assert fitted == pytest.approx(bandwidth, rel=1e-6)


def test_the_intervals_hold_the_truth_and_narrow_with_less_noise() -> None:
    noisy, quiet = (fit_cost(sweep(50e-6, 1e9, noise=noise)) for noise in (0.1, 0.01))
    assert noisy.latency_interval_s.low <= 50e-6 <= noisy.latency_interval_s.high
    assert noisy.bandwidth_interval.low <= 1e9 <= noisy.bandwidth_interval.high

    def width(cost: object) -> float:
        return cost.bandwidth_interval.high - cost.bandwidth_interval.low  # type: ignore[attr-defined,no-any-return]

    assert width(quiet) < width(noisy) / 3


def test_one_slow_large_message_does_not_move_the_latency() -> None:
    sizes = np.array(SIZES, dtype=float)
    times = 20e-6 + sizes / 1e10
    times[-1] *= 1.3
    assert fit_line(sizes, times)[0] == pytest.approx(20e-6, rel=0.05)


def test_prediction_follows_the_measured_curve_where_the_line_is_wrong() -> None:
    """A protocol switch at 1 MiB halves the time; no line can, the curve does."""
    measured = [collective(s, [(50e-6 + s / 1e9) * (0.5 if s >= 2**20 else 1)] * 5) for s in SIZES]
    cost = fit_cost(measured)
    assert cost_s(cost, 2**22) == pytest.approx((50e-6 + 2**22 / 1e9) / 2)
    assert cost_s(cost, 2**18) == pytest.approx(50e-6 + 2**18 / 1e9)


def test_between_sizes_the_cost_is_near_the_truth_and_grows() -> None:
    cost = fit_cost(sweep(50e-6, 1e9))
    between = [1.4 * size for size in SIZES[:-1]]
    costs = [cost_s(cost, size) for size in between]
    assert costs == pytest.approx([50e-6 + size / 1e9 for size in between], rel=1e-9)
    assert costs == sorted(costs)
    assert cost.curve_error == pytest.approx(0, abs=1e-9)


def test_beyond_and_below_the_sweep_the_line_goes_on() -> None:
    cost = fit_cost(sweep(50e-6, 1e9))
    assert cost_s(cost, 10 * SIZES[-1]) == pytest.approx(50e-6 + 10 * SIZES[-1] / 1e9, rel=1e-3)
    assert cost_s(cost, 1) == pytest.approx(50e-6 + 1e-9)
    assert [is_measured(cost, size) for size in (1, SIZES[0], 1000, SIZES[-1], 10 * SIZES[-1])] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_message_below_a_sweep_of_large_ones_costs_what_the_line_says_of_it() -> None:
    """From 512 MiB up on 60 us + S / 179 GB/s with a first size 1 % slow: 25 MiB take 206 us, not the first size's 3 ms."""
    sizes = [2**k for k in range(29, 34)]
    times = [(60e-6 + s / 179e9) * (1.01 if s == sizes[0] else 1) for s in sizes]
    cost = fit_cost([collective(s, [t]) for s, t in zip(sizes, times, strict=True)])
    assert cost_s(cost, 25 * 2**20) == pytest.approx(cost.latency_s + 25 * 2**20 / cost.bandwidth_bytes_per_s, rel=0.02)
    assert cost_s(cost, 25 * 2**20) < 300e-6
    assert cost_s(cost, sizes[0]) == times[0]
    assert cost_s(cost, sizes[0] - 1) == pytest.approx(times[0], rel=1e-6)


def test_a_ring_of_other_size_pays_more_messages_and_more_wire() -> None:
    """alpha 25 us and 1 GB/s links: at p=2 t = 2*25us + S/1e9; at p=4 t = 6*25us + 1.5 S/1e9."""
    cost = fit_cost(sweep(50e-6, 1e9))
    assert ring_s(cost, 2**20, 2) == pytest.approx(50e-6 + 2**20 / 1e9)
    assert ring_s(cost, 2**20, 4) == pytest.approx(150e-6 + 1.5 * 2**20 / 1e9)


def test_a_collective_without_an_in_place_form_is_fitted_out_of_place() -> None:
    measured = [
        replace(m, op="all_to_all", in_place=in_place) for m in sweep(50e-6, 1e9, world_size=4) for in_place in (True, False)
    ]
    cost = fit_cost([m if not m.in_place else replace(m, fastest_rank_s=(1.0,), slowest_rank_s=(1.0,)) for m in measured])
    assert (cost.latency_s, cost.busbw_bytes_per_s) == (pytest.approx(50e-6), pytest.approx(0.75e9))


def test_waiting_for_a_late_rank_is_not_the_wires_cost() -> None:
    late = [
        CollectiveMeasurement(
            **{  # type: ignore[arg-type]
                **{name: getattr(m, name) for name in m.__dataclass_fields__},
                "slowest_rank_s": tuple(t + 0.01 for t in m.fastest_rank_s),
            }
        )
        for m in sweep(50e-6, 1e9)
    ]
    assert fit_cost(late).latency_s == pytest.approx(50e-6)


def test_cores_kept_busy_come_from_the_largest_transfer() -> None:
    measured = [collective(8, [1e-4], cpu_s=1e-4), collective(2**20, [1e-2], cpu_s=6e-3)]
    assert fit_cost(measured).comm_cores == pytest.approx(0.6)
    assert fit_cost(sweep(50e-6, 1e9)).comm_cores == 0


def test_a_curve_that_falls_is_called_noisy() -> None:
    measured = sweep(50e-6, 1e9)
    measured[20] = collective(SIZES[20], [1.0] * 5)
    assert "falls by over 20 % at 1 of 24" in fit_cost(measured).verdict
    assert fit_cost(sweep(50e-6, 1e9)).verdict == "sound"


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ([], "no in-place collective"),
        ([collective(8, [1e-5], in_place=False)], "no in-place collective"),
        ([collective(8, [1e-5], world_size=1), collective(16, [1e-5], world_size=1)], "one rank talks to nobody"),
        ([collective(1024, [1e-5]), collective(1024, [2e-5])], "sweep two or more sizes"),
        ([collective(8, [1e-5]), collective(2**20, [1e-5])], "does not grow with size"),
        ([collective(8, [1e-5]), collective(16, [1e-5], num_wrong=3)], "16 bytes gave wrong values"),
    ],
)
def test_refuses_what_the_data_cannot_give(measured: list[CollectiveMeasurement], message: str) -> None:
    with pytest.raises(UnusableData, match=message):
        fit_cost(measured)
