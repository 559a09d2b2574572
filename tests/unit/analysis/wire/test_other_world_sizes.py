"""Curves made by a form on paper are carried by that form; what is known to change in between is said."""

from dataclasses import replace

import pytest

from commprof.analysis.wire.cost import cost_s, fit_cost
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from tests.factory import MIB, collective

SIZES = [2**k for k in range(10, 29)]
ALPHA_S, SECONDS_PER_BYTE = 25e-6, 1e-9


def curve(
    world_size: int, messages: float, wire: float, *, op: str = "all_reduce", nodes: int | None = None, extra_s: float = 0
) -> CostModel:
    """Return the curve of m alpha + w S/B, alpha = 25 us, B = 1 GB/s."""
    times = {size: extra_s + messages * ALPHA_S + wire * size * SECONDS_PER_BYTE for size in SIZES}
    measured = [replace(collective(size, [time], world_size=world_size), op=op) for size, time in times.items()]
    return fit_cost(measured, num_nodes=nodes)


def test_two_rings_give_the_third() -> None:
    """14 messages of 25 us and 1.75 S over 1 GB/s."""
    carried = carry_cost([curve(2, 2, 1), curve(4, 6, 1.5)], 8)
    assert carried.form.startswith("a ring")
    assert carried.carried_from == (2, 4)
    assert cost_s(carried, MIB) == pytest.approx(14 * 25e-6 + 1.75 * MIB / 1e9)
    assert carried.latency_s == pytest.approx(14 * 25e-6)
    assert carried.busbw_bytes_per_s == pytest.approx(1e9)
    assert "this form is off by 0%" in carried.doubts[0]


def test_one_ring_is_enough_but_nothing_tests_it() -> None:
    carried = carry_cost([curve(2, 2, 1)], 4)
    assert cost_s(carried, MIB) == pytest.approx(6 * 25e-6 + 1.5 * MIB / 1e9)
    assert "nothing tests the form" in carried.doubts[0]


def test_a_tree_is_told_from_a_ring() -> None:
    """2 log2 p messages and twice the payload at any p: 6 and 2 on 8 ranks."""
    carried = carry_cost([curve(2, 2, 2), curve(4, 4, 2)], 8)
    assert carried.form.startswith("a tree")
    assert cost_s(carried, MIB) == pytest.approx(6 * 25e-6 + 2 * MIB / 1e9)


def test_a_ring_is_given_up_only_for_a_form_that_is_twice_as_near() -> None:
    """4 ranks take 1.2 times what 2 take: a ring misses that by 25 % and a little latency, a tree by 17 %."""
    carried = carry_cost([curve(2, 2, 1), curve(4, 2.4, 1.2)], 8)
    assert carried.form.startswith("a ring")
    assert "this form is off by 26%" in carried.doubts[0]
    assert any("by the form of a tree 25 MiB would take" in doubt for doubt in carried.doubts)


def test_what_every_call_costs_is_not_multiplied_with_the_ranks() -> None:
    carried = carry_cost([curve(2, 2, 1, extra_s=1e-4), curve(4, 6, 1.5, extra_s=1e-4)], 8)
    assert cost_s(carried, MIB) == pytest.approx(1e-4 + 14 * 25e-6 + 1.75 * MIB / 1e9)


@pytest.mark.parametrize(("op", "four", "eight"), [("all_gather", (3, 0.75), (7, 0.875)), ("broadcast", (3, 1), (7, 1))])
def test_other_collectives_have_forms_of_their_own(op: str, four: tuple[float, float], eight: tuple[float, float]) -> None:
    carried = carry_cost([curve(4, *four, op=op)], 8)
    assert cost_s(carried, MIB) == pytest.approx(eight[0] * 25e-6 + eight[1] * MIB / 1e9)


def nvswitch(world_size: int, busbw_gbytes_per_s: float) -> CostModel:
    """Return a curve on NVSwitch of a published bus bandwidth, with 20 us of latency."""
    algbw = busbw_gbytes_per_s * 1e9 * world_size / (2 * (world_size - 1))
    return fit_cost([collective(size, [20e-6 + size / algbw], world_size=world_size) for size in SIZES])


def test_the_ring_of_4_h200_says_nothing_of_nvls_on_8_and_that_is_said() -> None:
    """Published busbw of 8 GiB by GPUs: 4 ring 363.3, 5 NVLS 414.2, 8 NVLS 473.1 GB/s."""
    four, five = nvswitch(4, 363.3), nvswitch(5, 414.2)
    doubted = carry_cost([four], 8, device_name="NVIDIA H200")
    assert "from 5 GPUs of this kind in a node NCCL takes NVLS" in doubted.doubts[0]
    carried = carry_cost([four, five], 8, device_name="NVIDIA H200")
    assert carried.carried_from == (5,)
    assert carried.busbw_bytes_per_s == pytest.approx(473.1e9, rel=0.03)
    assert not any("another algorithm" in doubt for doubt in carried.doubts)
    assert not any("NVLS" in doubt for doubt in carry_cost([nvswitch(2, 673), nvswitch(4, 673)], 5, device_name="B200").doubts)


def test_one_rank_a_node_is_a_plain_ring() -> None:
    carried = carry_cost([curve(2, 2, 1, nodes=2), curve(4, 6, 1.5, nodes=4)], 8)
    assert (carried.num_nodes, carried.carried_from) == (8, (2, 4))
    assert cost_s(carried, MIB) == pytest.approx(14 * 25e-6 + 1.75 * MIB / 1e9)


@pytest.mark.parametrize(
    ("nodes", "num_nodes", "message"),
    [
        (1, 2, "no curve is known to have crossed the network with 4 ranks a node"),
        (2, 1, "8 ranks on one node: no such curve"),
        (1, 3, "8 ranks do not divide over 3 nodes"),
    ],
)
def test_nothing_is_carried_into_a_network_that_no_curve_crossed(nodes: int, num_nodes: int, message: str) -> None:
    with pytest.raises(UnusableData, match=message):
        carry_cost([curve(4, 6, 1.5, nodes=nodes)], 8, num_nodes=num_nodes)
    with pytest.raises(UnusableData, match="no curve to carry over"):
        carry_cost([], 8)
