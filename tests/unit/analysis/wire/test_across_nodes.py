"""Rings over several nodes, worked out on paper: inside 5 us and 0.1 ns a byte, between nodes 25 us and 1 ns a byte."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.wire.across_nodes import as_in_a_ring
from commprof.analysis.wire.cost import cost_s, end_ratio, fit_cost, transfer_s
from commprof.analysis.wire.fabric import Fabric, even_traffic, fabric_of, ring_crossings, ring_traffic
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.types import RankInfo
from tests.factory import MIB, collective

SIZES = [2**k for k in range(10, 29)]
IN_S, OUT_S = 5e-6, 25e-6
IN_PER_BYTE, OUT_PER_BYTE = 1e-10, 1e-9


def ring_s(size: int, *, inside: float, between: float, wire: float, per_byte: float = OUT_PER_BYTE) -> float:
    return inside * IN_S + between * OUT_S + wire * size * per_byte


def curve(
    ranks: int,
    nodes: int,
    *,
    inside: float,
    between: float,
    wire: float,
    op: str = "all_reduce",
    per_byte: float = OUT_PER_BYTE,
) -> CostModel:
    """Return the curve of messages inside and between nodes, and of the share of S that each hop carries."""
    times = {size: ring_s(size, inside=inside, between=between, wire=wire, per_byte=per_byte) for size in SIZES}
    in_place = op != "all_to_all"
    measured = [collective(size, [time], world_size=ranks, op=op, in_place=in_place) for size, time in times.items()]
    return fit_cost(measured, num_nodes=nodes)


NODE = curve(8, 1, inside=14, between=0, wire=1.75, per_byte=IN_PER_BYTE)
TWO = curve(16, 2, inside=28, between=2, wire=1.875)


def test_the_ring_of_all_ranks_leaves_each_node_once() -> None:
    """On 4 nodes of 8, 62 messages, 6 of them between nodes, and 62/32 of S, not 1.5 times what 2 nodes take."""
    carried = carry_cost([NODE, TWO], 32)
    assert (carried.num_nodes, carried.carried_from) == (4, (8, 16))
    assert cost_s(carried, 64 * MIB) == pytest.approx(ring_s(64 * MIB, inside=56, between=6, wire=62 / 32))
    assert cost_s(carried, 1024) == pytest.approx(ring_s(1024, inside=56, between=6, wire=62 / 32))
    assert "leaves each node once" in carried.form


def test_without_a_curve_of_one_node_all_hops_are_alike_and_that_is_said() -> None:
    carried = carry_cost([TWO], 32)
    assert cost_s(carried, 1024) == pytest.approx((28 * IN_S + 2 * OUT_S) * 62 / 30 + 62 / 32 * 1024 * OUT_PER_BYTE)
    assert any("without a curve of 8 ranks on one node" in doubt for doubt in carried.doubts)


@pytest.mark.parametrize(
    ("fabric", "slower"),
    [
        (Fabric(lines=(1.0, 1.0, 0.2, 1.0)), 5),
        (Fabric(lines=(1e9,)), 1),
        (Fabric(lines=(1.0, 1.0, 1.0, 0.5), spine=1.0), 4),
        (Fabric(spine=2.0), 2),
        (Fabric(lines=(1e9,), spine=4e9), 1),
        (Fabric(order="dealt"), 8),
        (Fabric(order="blocks"), 1),
    ],
)
def test_the_ring_goes_at_the_pace_of_what_is_slowest(fabric: Fabric, slower: float) -> None:
    """A line of a fifth; 4 lines on a switch of one, or of two; 8 ranks a node that all send into it. 2 nodes share 1 alike."""
    asked = carry_cost([NODE, TWO], 32, fabric=fabric)
    benched_with = 2 if fabric.spine == 1.0 else 1  # the switch of one line was in the way of the bench of two nodes
    wire_s = 62 / 32 * 256 * MIB * OUT_PER_BYTE * slower / benched_with
    assert cost_s(asked, 256 * MIB) == pytest.approx(wire_s, rel=0.01)
    assert any("slower than the others" in doubt for doubt in asked.doubts) is (len(fabric.lines) > 1)


def test_a_switch_that_all_lines_share_shows_in_the_curves_of_two_and_four_nodes() -> None:
    """4 nodes take twice as long a byte, so the switch carries 2 lines; 8 nodes take 4 times as long, and 3 nodes 1.5 times."""
    two = curve(2, 2, inside=0, between=2, wire=1.0)
    four = curve(4, 4, inside=0, between=6, wire=2 * 1.5)
    size = 64 * MIB
    for nodes, slower in ((8, 4), (3, 1.5)):
        carried = carry_cost([two, four], nodes)
        wire = 2 * (nodes - 1) / nodes * slower
        assert cost_s(carried, size) == pytest.approx(ring_s(size, inside=0, between=2 * (nodes - 1), wire=wire), rel=0.01)
        assert any("a switch that all lines share" in doubt for doubt in carried.doubts)


def test_ranks_that_were_dealt_out_when_benched_are_taken_to_be_so_again_unless_said() -> None:
    """2 ranks a node: the ring leaves a node twice in turn, once in blocks; the line then has half to carry."""
    dealt = replace(curve(4, 2, inside=0, between=6, wire=2 * 1.5), ring_crossings=2)
    size = 64 * MIB
    assert cost_s(carry_cost([dealt], 8), size) == pytest.approx(ring_s(size, inside=0, between=14, wire=2 * 1.75))
    blocks = carry_cost([dealt], 8, fabric=Fabric(order="blocks"))
    assert cost_s(blocks, size) == pytest.approx(ring_s(size, inside=0, between=14, wire=1.75))
    assert blocks.ring_crossings == 1


def test_an_inside_slower_than_the_lines_stays_the_slowest() -> None:
    """Inside 1 ns a byte, between nodes hidden behind it: from dealt to blocks nothing is won."""
    node = curve(2, 1, inside=2, between=0, wire=1.0)
    dealt = replace(curve(4, 2, inside=0, between=6, wire=1.5), ring_crossings=2)
    blocks = carry_cost([node, dealt], 8, fabric=Fabric(order="blocks"))
    assert cost_s(blocks, 256 * MIB) == pytest.approx(1.75 * 256 * MIB * OUT_PER_BYTE, rel=0.01)


def test_a_tree_of_nodes_with_one_rank_each_is_told_by_two_curves() -> None:
    two, four = curve(2, 2, inside=0, between=2, wire=2), curve(4, 4, inside=0, between=4, wire=2)
    carried = carry_cost([two, four], 8)
    assert carried.form.startswith("a tree")
    assert cost_s(carried, 64 * MIB) == pytest.approx(ring_s(64 * MIB, inside=0, between=6, wire=2), rel=0.01)


def test_what_goes_to_each_rank_directly_crosses_by_its_share_of_other_nodes() -> None:
    """Of an all-to-all on 2 nodes half crosses, on 4 nodes three quarters."""
    two = curve(4, 2, inside=0, between=3, wire=0.5, op="all_to_all")
    carried = carry_cost([two], 8)
    assert cost_s(carried, 256 * MIB) == pytest.approx(0.75 * 256 * MIB * OUT_PER_BYTE, rel=0.01)


def test_a_reduce_scatter_that_costs_an_all_reduce_is_carried_as_measured() -> None:
    """gloo's: 1.5 S on 4 ranks, so 1.75 S on 8, not 0.875."""
    measured = curve(4, 2, inside=4, between=2, wire=1.5, op="reduce_scatter")
    assert cost_s(carry_cost([measured], 8), 256 * MIB) == pytest.approx(1.75 * 256 * MIB * OUT_PER_BYTE, rel=0.01)


def test_ranks_that_do_not_fill_their_nodes_and_lines_nobody_named_are_refused() -> None:
    with pytest.raises(UnusableData, match="20 ranks do not fill nodes of 8"):
        carry_cost([NODE, TWO], 20)
    with pytest.raises(UnusableData, match="lines of 3 nodes are known and 4 are asked for"):
        carry_cost([NODE, TWO], 32, fabric=Fabric(lines=(1.0, 1.0, 1.0)))
    with pytest.raises(BadInput, match="carry more than 0"):
        Fabric(lines=(0.0,))
    assert carry_cost([NODE, TWO], 4).num_nodes == 1


def test_the_name_of_an_emulated_wire_tells_lines_and_switch() -> None:
    assert fabric_of("1gbit,200mbit+spine2gbit") == Fabric(lines=(1e9, 2e8), spine=2e9)
    assert fabric_of(None) == fabric_of("eth0") == Fabric()


@pytest.mark.parametrize(
    ("hosts", "crossings"), [("aabb", 1), ("abab", 2), ("aaaabbbb", 1), ("aabbaabb", 2), ("abcabc", 2), ("aaaa", 1)]
)
def test_a_ring_leaves_a_node_as_often_as_its_ranks_are_torn_apart(hosts: str, crossings: int) -> None:
    ranks = [RankInfo(rank=r, local_rank=0, hostname=name, device_name="cpu") for r, name in enumerate(hosts)]
    assert ring_crossings(ranks, len(set(hosts))) == crossings
    assert ring_crossings(ranks[:1], 2) == 1


@pytest.mark.parametrize(
    ("hosts", "inside", "line", "switch"), [("aabb", 1, 1, 2), ("abab", 0, 2, 4), ("aaabbbccc", 2, 1, 3), ("aabbaabb", 2, 2, 4)]
)
def test_each_hop_carries_the_rings_share_inside_a_node_or_between(hosts: str, inside: int, line: int, switch: int) -> None:
    """Of an all-reduce of S on n ranks each of n hops carries 2(n-1)/n S."""
    ranks = [RankInfo(rank=r, local_rank=0, hostname=name, device_name="cpu") for r, name in enumerate(hosts)]
    traffic = ring_traffic(ranks, len(set(hosts)), MIB)
    hop = 2 * (len(hosts) - 1) / len(hosts) * MIB
    assert (traffic.inside_bytes, traffic.line_bytes, traffic.switch_bytes) == (inside * hop, line * hop, switch * hop)
    assert even_traffic(len(hosts), len(set(hosts)), line, MIB) == traffic


def test_over_nodes_a_collective_ends_with_the_last_rank() -> None:
    """Ranks begin 4 ms apart, and behind a slow hop end a quarter of the whole apart: the largest sizes tell the second."""
    fastest_s = {2**k * MIB: 0.01 * 2**k for k in range(7)}
    behind = [
        replace(collective(size, [own], world_size=4), slowest_rank_s=(1.25 * own + 0.004,)) for size, own in fastest_s.items()
    ]
    alike = [replace(m, slowest_rank_s=(m.fastest_rank_s[0] + 0.004,)) for m in behind]
    assert end_ratio(behind, 4) == pytest.approx(1.25, abs=0.02)
    assert end_ratio(alike, 4) == pytest.approx(1.0, abs=0.02)
    assert end_ratio(behind, 1) == end_ratio(behind, None) == end_ratio(behind[:0], 4) == 1.0
    assert transfer_s(behind[0], 1.25) == pytest.approx([0.0125])
    assert transfer_s(behind[0], 1.0) == (0.01,)


def test_a_disturbed_size_does_not_make_a_hop_slow() -> None:
    """Three of seven samples at 8 MiB met another process on the slowest rank."""
    measured = [collective(2**k * MIB, [0.01 * 2**k] * 7, world_size=4) for k in range(7)]
    late = replace(measured[3], slowest_rank_s=(0.08,) * 3 + (0.15,) * 4)
    assert end_ratio([*measured[:3], late, *measured[4:]], 4) == 1.0


def arrivals(chunks: int, hops_s: Sequence[float]) -> list[float]:
    """Return when each rank of a ring has all pieces of an all-gather: rank r sends to r + 1, a piece in hops_s[r].

    A piece leaves when it has come and the hop is free; worked out piece by piece.
    """
    n = len(hops_s)
    free, come = [0.0] * n, {(r, r): 0.0 for r in range(n)}
    for distance in range(n - 1):
        for r in range(n):
            piece = (r - distance) % n
            start = max(free[r], come[r, piece])
            free[r] = start + hops_s[r] * chunks
            come[(r + 1) % n, piece] = free[r]
    return [max(come[r, piece] for piece in range(n)) for r in range(n)]


def test_where_their_all_reduce_was_benched_half_of_it_is_carried_in_place_of_two_ranks_in_turn() -> None:
    """A ring all-reduce is a reduce-scatter and an all-gather of as many pieces."""
    reduced = curve(2, 2, inside=0, between=2, wire=1.0)
    in_turn = fit_cost([collective(s, [0.75 * s * OUT_PER_BYTE], op="all_gather") for s in SIZES], num_nodes=2)
    costs = [replace(reduced, backend="gloo"), replace(in_turn, backend="gloo")]
    carried = carry_cost([as_in_a_ring(costs[1], costs)], 4, num_nodes=4)
    assert cost_s(carried, 64 * MIB) == pytest.approx(ring_s(64 * MIB, inside=0, between=3, wire=0.75))
    assert any("half of an all-reduce stands for" in doubt for doubt in carried.doubts)
    assert as_in_a_ring(costs[1], costs[1:]) is costs[1]
    assert as_in_a_ring(costs[0], costs) is costs[0]
    alone = replace(costs[1], num_nodes=1)
    assert as_in_a_ring(alone, costs) is alone


def test_behind_a_slow_hop_the_last_rank_tells_what_the_first_does_not() -> None:
    """Four ranks, one hop of half the rate: the ranks end after 3 to 6 pieces' time; w_p S over the slow hop is 6."""
    ends = arrivals(1, [1.0, 1.0, 2.0, 1.0])
    assert max(ends) == 6.0 and min(ends) < 5.0
    per_byte = 1e-9
    times = {size: 0.5 * size * per_byte * 1 for size in SIZES}
    two = fit_cost([collective(s, [t], op="all_gather") for s, t in times.items()], num_nodes=2)
    carried = carry_cost([two], 4, num_nodes=4, fabric=Fabric(lines=(1.0, 1.0, 0.5, 1.0)))
    assert cost_s(carried, 64 * MIB) == pytest.approx(max(ends) * 16 * MIB * per_byte)


def test_two_ranks_of_gloo_gather_in_turn() -> None:
    """S/4 and then S/2 pass on two ranks, 3/4 of S on four; NCCL's two ranks send their halves at one time."""
    times = {size: 0.75 * size * OUT_PER_BYTE for size in SIZES}
    two = fit_cost([collective(s, [t], op="all_gather") for s, t in times.items()], num_nodes=2)
    gloo = carry_cost([replace(two, backend="gloo")], 4, num_nodes=4)
    assert cost_s(gloo, 64 * MIB) == pytest.approx(0.75 * 64 * MIB * OUT_PER_BYTE)
    four = fit_cost([collective(s, [t], op="all_gather", world_size=4) for s, t in times.items()], num_nodes=4)
    assert cost_s(carry_cost([replace(four, backend="gloo")], 2, num_nodes=2), 64 * MIB) == pytest.approx(times[64 * MIB])
    nccl = carry_cost([replace(two, backend="nccl")], 4, num_nodes=4)
    assert cost_s(nccl, 64 * MIB) == pytest.approx(1.125 * 64 * MIB * OUT_PER_BYTE)


positive = st.floats(1e-7, 1e-3)
per_bytes = st.floats(1e-11, 1e-7)


@st.composite
def benched(draw: st.DrawFn) -> tuple[CostModel, CostModel | None, int]:
    """Return a curve over two nodes, one inside a node, and the ranks of a node, of any latency and bandwidth."""
    per_node = draw(st.sampled_from([1, 2, 4]))
    latency_s, per_byte = draw(positive), draw(per_bytes)
    times = {size: latency_s + size * per_byte for size in SIZES}
    wide = fit_cost([collective(s, [t], world_size=2 * per_node) for s, t in times.items()], num_nodes=2)
    if per_node == 1:
        return wide, None, 1
    share = draw(st.floats(0.05, 0.9))
    inside = fit_cost([collective(s, [t * share], world_size=per_node) for s, t in times.items()], num_nodes=1)
    return wide, inside, per_node


fabrics = st.builds(
    Fabric,
    lines=st.lists(st.floats(0.1, 1.0), min_size=8, max_size=8).map(lambda lines: (1.0, 1.0, *lines[2:])),
    spine=st.none() | st.floats(0.5, 8.0),
    order=st.sampled_from([None, "blocks", "dealt"]),
)


@settings(max_examples=50)
@given(benched(), st.integers(2, 8), fabrics)
def test_laws_of_a_ring_over_nodes(found: tuple[CostModel, CostModel | None, int], nodes: int, fabric: Fabric) -> None:
    """More bytes take longer, no line carries more than it can, and the nodes benched come back as they were measured."""
    wide, inside, per_node = found
    costs = [cost for cost in (inside, wide) if cost is not None]
    carried = carry_cost(costs, nodes * per_node, num_nodes=nodes, fabric=fabric)
    times = [cost_s(carried, size) for size in SIZES]
    assert all(later >= earlier for earlier, later in pairwise(times))
    line_s = 1 / (wide.bandwidth_bytes_per_s * 2 * (2 * per_node - 1) / (2 * per_node))
    slowest = fabric.pace(nodes, 1) / fabric.pace(2, 1)
    wire = 2 * (nodes * per_node - 1) / (nodes * per_node)
    assert times[-1] >= wire * SIZES[-1] * line_s * slowest * (1 - 1e-6)
    same = carry_cost(costs, 2 * per_node, num_nodes=2, fabric=replace(fabric, order=None))
    assert same.median_s == pytest.approx(wide.median_s)


@settings(max_examples=30)
@given(positive, per_bytes, st.integers(2, 8))
def test_one_rank_a_node_is_the_flat_ring(alpha_s: float, per_byte: float, nodes: int) -> None:
    measured = [collective(size, [2 * alpha_s + size * per_byte]) for size in SIZES]
    carried = carry_cost([fit_cost(measured, num_nodes=2)], nodes, num_nodes=nodes)
    flat = carry_cost([fit_cost(measured, num_nodes=1)], nodes, num_nodes=1)
    assert carried.median_s == pytest.approx(flat.median_s)
