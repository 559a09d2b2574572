from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch

from commprof.commbench.links import copies as links
from commprof.commbench.links.copies import LinkOptions, connection, time_calls
from commprof.commbench.links.table import between_hosts, copy_row, describe_slowest, header, matrices, slowest_link
from commprof.commbench.machine.gpus import read_gpus
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.timing import CudaClock, MonotonicClock, host_wait
from tests.factory import message, run_info
from tests.fake_cuda import fake_cuda
from tests.fake_nvml import A100_LINK, Card, FakeNvml

STEADY = [0.98, 0.99, 1.0, 1.0, 1.0, 1.0, 1.0, 1.01, 1.02, 1.03]


def cluster(ranks: int, slow: dict[tuple[int, int], float], *, message_bytes: int = 10**6) -> list[LinkMeasurement]:
    """Every ordered pair takes about 1 ms, times its factor in `slow`."""
    return [
        message(a, b, [1e-3 * s * slow.get((a, b), 1.0) for s in STEADY], message_bytes=message_bytes)
        for a, b in permutations(range(ranks), 2)
    ]


def both(a: int, b: int, factor: float) -> dict[tuple[int, int], float]:
    return {(a, b): factor, (b, a): factor}


def test_a_link_twice_as_slow_is_named_with_its_distance() -> None:
    slowest = slowest_link(cluster(4, both(1, 3, 2.0)))
    assert slowest is not None
    assert slowest.stands_out
    assert slowest.ends == ("rank1", "rank3")
    assert describe_slowest(slowest, latency=False) == "# the slowest link is rank1 - rank3, 50% below the median of 6 links"
    assert "100% above the median" in describe_slowest(slowest, latency=True)


@pytest.mark.parametrize(
    ("slow", "why"),
    [
        (both(0, 2, 1.05), "links of one kind differ by 5 %"),
        ({(0, 2): 3.0}, "one order alone was slow: something else happened in that moment"),
        ({}, "all alike"),
    ],
)
def test_no_link_stands_out_of_the_spread(slow: dict[tuple[int, int], float], why: str) -> None:
    slowest = slowest_link(cluster(3, slow))
    assert slowest is not None
    assert not slowest.stands_out, why
    assert describe_slowest(slowest, latency=False).startswith("# no link stands out: the slowest is rank")


def test_links_inside_one_host_say_that_no_network_was_measured() -> None:
    said = "nothing here tells of a network"
    ranks = run_info("links", world_size=2).ranks
    assert said in header(run_info("links", world_size=2, ranks=ranks))
    assert said not in header(run_info("links", world_size=2, ranks=(ranks[0], replace(ranks[1], hostname="other"))))


def test_samples_that_spread_widely_hide_a_small_difference() -> None:
    wide = [1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.8, 1.9, 2.0, 2.0]
    pairs = [message(a, b, [1e-3 * s * (1.3 if {a, b} == {0, 1} else 1.0) for s in wide]) for a, b in permutations(range(3), 2)]
    slowest = slowest_link(pairs)
    assert slowest is not None
    assert not slowest.stands_out


def test_a_rank_at_the_end_of_every_slow_link_is_pointed_at() -> None:
    slowest = slowest_link(cluster(5, both(0, 3, 2.0) | both(1, 3, 2.2) | both(2, 3, 2.1) | both(3, 4, 2.0)))
    assert "all 4 slow links end at rank3: look there first" in describe_slowest(slowest, latency=False)


def test_two_ranks_have_nothing_to_compare() -> None:
    assert slowest_link(cluster(2, {})) is None
    assert describe_slowest(None, latency=True) == "# only one link, so none to compare it with"


def test_the_matrices_hold_every_pair_in_the_order_of_ranks() -> None:
    measured = cluster(11, {(0, 10): 2.0}, message_bytes=10) + cluster(11, {(10, 0): 4.0}, message_bytes=10**6)
    shown = matrices(measured).splitlines()
    latency, bandwidth = shown[2:14], shown[17:29]
    assert latency[0].split() == ["#", *(f"rank{rank}" for rank in range(11))]
    assert latency[1].split() == ["rank0", "-", *["1000.00"] * 9, "2000.00"]
    assert bandwidth[11].split() == ["rank10", "0.25", *["1.00"] * 9, "-"]


def test_a_copy_shows_its_smallest_latency_and_its_largest_rate() -> None:
    def copy(size: int, seconds: float) -> LinkMeasurement:
        return LinkMeasurement(
            kind="peer_to_peer", source="gpu0", target="gpu1", message_bytes=size, samples_s=(seconds,), timer="fake",
            peer_access=False, connection="NV4\x1b[2J",
        )  # fmt: skip

    row = copy_row([copy(16, 5e-6), copy(10**9, 0.1)])
    assert row.split() == ["gpu0", "gpu1", "-", "no", "NV4\\x1b[2J", "5.00", "10.00"]


def test_nvml_says_what_lies_between_two_gpus_and_nothing_is_guessed() -> None:
    cards = [Card(links=[A100_LINK] * 12), Card(links=[A100_LINK] * 12)]
    facts = read_gpus(FakeNvml(cards=cards))
    first, second = (gpu.pci_bus_id for gpu in facts.gpus)
    assert connection(first, second, facts) == facts.topology[0][1]
    assert connection(first, "0000:77:00.0", facts) is None
    assert connection(first, second, replace(facts, topology=(("X", "?"), ("?", "X")))) is None


@pytest.mark.parametrize("peer", [True, False])
def test_copies_between_gpus_go_with_and_without_peer_access(monkeypatch: pytest.MonkeyPatch, peer: bool) -> None:
    """Staging by hand stands for a copy without peer access only where torch's own copy would have it."""
    monkeypatch.setattr(links.torch.cuda, "can_device_access_peer", lambda source, target: peer)
    monkeypatch.setattr(links, "pci_bus_id", str)
    monkeypatch.setattr(links, "connection", lambda first, second, facts: f"{first}-{second}")
    routes = links.list_routes(2)
    assert len([route for route in routes if "host" in route.kind]) == 8
    between = [(route.peer_access, route.staged, route.connection) for route in routes if route.kind == "peer_to_peer"]
    expected = [(True, False), (False, True)] if peer else [(False, False)]
    pairs = ("cuda:0-cuda:1", "cuda:1-cuda:0")
    assert between == [(access, staged, pair) for pair in pairs for access, staged in expected]


@pytest.mark.parametrize(("mode", "used"), [(0, {0, 1, 2}), (2, {1}), (3, {1})])
def test_gpus_that_take_one_process_alone_are_left_to_the_other_ranks(
    monkeypatch: pytest.MonkeyPatch, mode: int, used: set[int]
) -> None:
    cards = [Card(compute_mode=mode)] * 3
    monkeypatch.setattr(links, "read_gpus", lambda: read_gpus(FakeNvml(cards=cards), Path("/nowhere")))
    monkeypatch.setattr(links, "pci_bus_id", lambda device: f"0000:{0x10 + device.index:02x}:00.0")
    monkeypatch.setattr(links.torch.cuda, "can_device_access_peer", lambda source, target: True)
    assert {route.gpu.index for route in links.list_routes(3, own=1)} == used


def test_calls_that_are_timed_find_their_events_made(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, made = fake_cuda(monkeypatch, 1), list[int]()
    options = LinkOptions(sizes=(1,), iterations=3, warmup_iterations=0)
    time_calls(lambda: made.append(cuda.made), options, CudaClock(torch.device("cuda", 0)))
    assert made == [6] * 3


def test_each_call_that_is_timed_is_a_wait_of_its_own() -> None:
    """Once the device's queue is full the host waits in a launch, and for a peer that is lost for ever; not for many calls."""
    since_s: list[float | None] = []
    options = LinkOptions(sizes=(1,), iterations=3, warmup_iterations=2)
    time_calls(lambda: since_s.append(host_wait.since_s), options, MonotonicClock())
    assert len(since_s) == 5
    assert None not in since_s
    assert len(set(since_s)) == 5
    assert host_wait.since_s is None


def test_hosts_are_laid_out_by_what_they_send_and_receive() -> None:
    """Three hosts: 8 B there and back in 20 us, 1 MB in 1 ms, from host1 in 2 ms."""
    ranks = tuple(replace(own, hostname=f"host{own.rank}") for own in run_info("links", world_size=3).ranks)
    measured = [
        PairMeasurement(round=i, sender=a, receiver=b, message_bytes=size, samples_s=(seconds,), timer="fake")
        for i, (a, b) in enumerate(permutations(range(3), 2))
        for size, seconds in ((8, 20e-6), (10**6, 2e-3 if a == 1 else 1e-3))
    ]
    shown = between_hosts(measured, run_info("links", world_size=3, ranks=ranks)).splitlines()
    assert [row.split() for row in shown if row.startswith("host")] == [
        ["host0", "0", "2", "10.00", "1.000", "0.750"],
        ["host1", "1", "2", "10.00", "0.500", "1.000"],
        ["host2", "2", "2", "10.00", "1.000", "0.750"],
    ]
