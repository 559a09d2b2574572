from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.commbench.bench.ceiling import (
    Algorithm,
    Ceiling,
    collective_ceiling,
    possible_algorithms,
    share_reached,
    wire_bytes_per_s,
)
from commprof.commbench.machine.facts import HostInfo, InterfaceInfo
from commprof.commbench.machine.hardware import host_info
from tests.factory import collective
from tests.fake_nvml import A100_LINK, H100_LINK, Card, FakeNvml, bus_id
from tests.unit.commbench.machine.test_network import net

NOWHERE = Path("/nowhere")


def host(cards: Sequence[Card] = (), *interfaces: InterfaceInfo, **environ: str) -> HostInfo:
    return replace(host_info(environ, FakeNvml(cards=cards), NOWHERE), interfaces=interfaces)


def card(name: str, gbit: float | None, *, up: bool = True) -> InterfaceInfo:
    speed = None if gbit is None else gbit * 1e9
    return InterfaceInfo(name=name, kind="ethernet", up=up, speed_bits_per_s=speed, mtu_bytes=None)


def nccl(machine: HostInfo, *gpus: int, world_size: int | None = None, num_nodes: int = 1, op: str = "all_reduce") -> Ceiling:
    ids = [bus_id(gpu)[4:].lower() for gpu in gpus]
    size = world_size or len(gpus)
    return collective_ceiling(machine, backend="nccl", op=op, world_size=size, num_nodes=num_nodes, pci_bus_ids=ids)


H100 = [Card(links=[H100_LINK] * 18)] * 8


@pytest.mark.parametrize(
    ("algorithm", "world_size", "wire"),
    [("ring", 8, 1.75), ("ring", 2, 1.0), ("NVLS", 8, 1.125), ("NVLS", 5, 1.2), ("tree", 2, 1.0), ("tree", 8, 2.0)],
)
def test_what_the_busiest_link_carries_on_one_node(algorithm: Algorithm, world_size: int, wire: float) -> None:
    assert wire_bytes_per_s(1.0, world_size, algorithm) == pytest.approx(wire)


def test_an_interface_carries_what_its_node_sends_to_the_others() -> None:
    # 4 GiB over 4 nodes of 8 GPUs at 400 Gbit/s each: 16.1 ms reduced inside nodes first, 20.8 ms as flat rings
    inside_first = 4 * 2**30 / 16.106e-3
    flat = 4 * 2**30 / 20.804e-3
    placed = {"num_nodes": 4, "interfaces_per_node": 8}
    assert wire_bytes_per_s(inside_first, 32, "hierarchical", **placed) == pytest.approx(50e9, rel=1e-3)
    assert wire_bytes_per_s(flat, 32, "ring", **placed) == pytest.approx(50e9, rel=1e-3)
    busbw = inside_first * 2 * 31 / 32
    assert wire_bytes_per_s(inside_first, 32, "hierarchical", **placed) == pytest.approx(busbw * (4 - 1) / (32 - 1))


def test_two_nodes_of_two_exchange_by_hand() -> None:
    # every rank sends S/4 to each of four ranks; two ranks of a node send S/4 to each of two outside: S leaves the node
    assert wire_bytes_per_s(1.0, 4, "direct", op="all_to_all", num_nodes=2) == pytest.approx(1.0)
    assert wire_bytes_per_s(1.0, 4, "hierarchical", op="all_gather", num_nodes=2) == pytest.approx(0.5)
    assert wire_bytes_per_s(1.0, 4, "hierarchical", op="broadcast", num_nodes=2) == pytest.approx(1.0)
    assert wire_bytes_per_s(1.0, 4, "tree", num_nodes=2) == pytest.approx(1.0)


def test_nvls_is_named_only_where_nvlink_4_joins_all() -> None:
    fast, old, pairs = host(H100), host([Card(links=[A100_LINK] * 12)] * 4), host([Card(), *H100[:2]])
    assert possible_algorithms(fast, fast.gpus, "all_reduce", 1) == ("ring", "tree", "NVLS")
    assert possible_algorithms(old, old.gpus, "all_reduce", 1) == ("ring", "tree")
    assert possible_algorithms(pairs, pairs.gpus, "all_reduce", 1) == ("ring", "tree")
    assert possible_algorithms(fast, fast.gpus, "all_gather", 1) == ("ring",)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("NVLS", ("NVLS",)),
        ("^nvls,Tree", ("ring",)),
        ("allreduce:tree;broadcast:ring", ("tree",)),
        ("broadcast:ring", ("ring", "tree", "NVLS")),
        ("CollnetDirect", ()),
    ],
)
def test_nccl_algo_tells_which_formula(value: str, left: tuple[Algorithm, ...]) -> None:
    machine = host(H100, NCCL_ALGO=value)
    assert possible_algorithms(machine, machine.gpus, "all_reduce", 1) == left
    assert nccl(machine, 0, 1).algorithm == (left[0] if left else None)


def test_eight_switched_gpus_reach_their_links_and_say_what_is_unknown() -> None:
    unsure, told = nccl(host(H100), *range(8)), nccl(host(H100, NCCL_ALGO="NVLS"), *range(8))
    assert unsure.bytes_per_s == told.bytes_per_s == pytest.approx(450e9)
    assert "may use ring, tree, NVLS" in unsure.reason
    assert "may use" not in told.reason
    measured = collective(2**30, [2**30 / 270e9] * 3, world_size=8)
    assert share_reached(measured, unsure) == pytest.approx(270 * 1.75 / 450)
    assert share_reached(measured, told) == pytest.approx(270 * 1.125 / 450)


def test_links_that_lead_elsewhere_do_not_count() -> None:
    bridged = host([Card(links=[A100_LINK] * 4, remote=bus_id(other)) for other in (1, 0, 3, 2)])
    assert nccl(bridged, 0, 1).bytes_per_s == pytest.approx(4 * 25e9)
    across = nccl(bridged, 0, 1, 2, 3)
    assert across.bytes_per_s == pytest.approx(16 * 3.938e9)
    assert "PCIe" in across.reason


def test_a_ring_runs_over_nvlink_where_not_all_pairs_are_joined() -> None:
    ends = [(1, 3), (0, 2), (1, 3), (2, 0)]
    square = host([Card(links=[A100_LINK] * 2, remote=[bus_id(end) for end in pair]) for pair in ends])
    assert square.topology[0] == ("X", "NV1", "SYS", "NV1")
    assert nccl(square, 0, 1, 2, 3).bytes_per_s == pytest.approx(2 * 25e9)
    assert nccl(square, 0, 1).bytes_per_s == pytest.approx(25e9)


def test_the_slowest_gpu_bounds_the_ring() -> None:
    one_down = [Card(links=[H100_LINK] * 17 + [0]), *H100[:3]]
    assert nccl(host(one_down), *range(4)).bytes_per_s == pytest.approx(17 * 25e9)
    narrow = host([Card(), Card(width=4), Card(generation=1)])
    assert nccl(narrow, 0, 1, 2).bytes_per_s == pytest.approx(4 * 3.938e9)
    assert "trained to generation 1 now" in nccl(host([Card(generation=1)] * 2), 0, 1).reason
    assert nccl(host(H100, NCCL_P2P_DISABLE="1"), 0, 1).bytes_per_s == pytest.approx(16 * 3.938e9)


def test_nothing_is_claimed_without_facts() -> None:
    assert nccl(host(H100), 0, world_size=2).bytes_per_s is None
    assert nccl(host(H100), 0).bytes_per_s is None
    assert nccl(host(), world_size=2).reason.startswith("NVML lists 0 of the 2")
    assert share_reached(collective(8, [1.0]), nccl(host(H100), 0, 1, op="barrier")) is None
    assert nccl(host([Card(links=[9])] * 2), 0, 1).bytes_per_s is None


def test_several_nodes_are_bound_by_the_fastest_interfaces_that_nccl_may_use() -> None:
    ports = [card(f"mlx5_{port}:1", 400) for port in range(8)]
    cards = [*ports, card("mlx5_8:1", 25), card("mlx5_9:1", 400, up=False), card("eth0", 100), card("eth1", None)]
    every = nccl(host(H100, *cards), *range(8), world_size=16, num_nodes=2)
    assert (every.bytes_per_s, every.interfaces_per_node, every.algorithm) == (50e9, 8, "hierarchical")
    four = nccl(host(H100, *cards, NCCL_IB_HCA="=mlx5_0,mlx5_1:1,mlx5_2,mlx5_3"), *range(8), world_size=16, num_nodes=2)
    assert four.interfaces_per_node == 4
    others = nccl(host(H100, *cards, NCCL_IB_HCA="^mlx5_0"), *range(8), world_size=16, num_nodes=2)
    assert others.interfaces_per_node == 7
    sockets = nccl(host(H100, *cards, NCCL_IB_DISABLE="1"), *range(8), world_size=16, num_nodes=2)
    assert (sockets.bytes_per_s, sockets.interfaces_per_node) == (12.5e9, 1)
    named = nccl(host(H100, *cards, NCCL_IB_DISABLE="1", NCCL_SOCKET_IFNAME="eth1"), *range(8), world_size=16, num_nodes=2)
    assert named.bytes_per_s is None


def test_gloo_knows_a_real_cards_rate_and_only_across_hosts(tmp_path: Path) -> None:
    net(tmp_path, "eth0")
    net(tmp_path, "veth0", real=False)
    net(tmp_path, "eth1", speed="-1")

    def gloo(num_nodes: int, **environ: str) -> Ceiling:
        machine = host_info(environ, FakeNvml(driver=False), tmp_path)
        return collective_ceiling(machine, backend="gloo", op="all_reduce", world_size=4, num_nodes=num_nodes)

    known = gloo(2, GLOO_SOCKET_IFNAME="eth0")
    assert known.bytes_per_s == pytest.approx(25e9 / 8)
    assert share_reached(collective(2**20, [2**20 / 1e9] * 3, world_size=4), known) == pytest.approx(1.5 / 3.125)
    assert gloo(1, GLOO_SOCKET_IFNAME="eth0").bytes_per_s is None
    assert "GLOO_SOCKET_IFNAME" in gloo(2).reason
    assert "virtual" in gloo(2, GLOO_SOCKET_IFNAME="veth0").reason
    assert "cable" in gloo(2, GLOO_SOCKET_IFNAME="eth1").reason
    assert "no interface gone" in gloo(2, GLOO_SOCKET_IFNAME="gone").reason
