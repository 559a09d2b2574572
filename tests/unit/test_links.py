from itertools import permutations
from types import SimpleNamespace

import pytest

from commbench import links
from commbench.links import connection
from commbench.links_table import copy_row, describe_slowest, matrices, slowest_link
from commbench.records import LinkMeasurement
from tests.factory import message

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


class NVMLError(Exception):
    pass


def fake_nvml(*, remotes: list[str], ancestor: int = 30, nvlink: bool = True) -> SimpleNamespace:
    """Two GPUs on buses 1 and 2. `remotes` is where each link of GPU 1 goes: "gpu2", "gpu3", "switch" or "down"."""

    def remote(link: int) -> str:
        if link >= len(remotes):
            raise NVMLError("Not Supported")
        return remotes[link]

    def bus(number: int) -> SimpleNamespace:
        return SimpleNamespace(domain=0, bus=number, device=0)

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_NVLINK_MAX_LINKS=18,
        NVML_NVLINK_DEVICE_TYPE_SWITCH=2,
        NVML_P2P_CAPS_INDEX_NVLINK=2,
        NVML_P2P_STATUS_OK=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda text: int(text.split(":")[1], 16),
        nvmlDeviceGetPciInfo=bus,
        nvmlDeviceGetP2PStatus=lambda first, second, index: 0 if nvlink else 5,
        nvmlDeviceGetNvLinkState=lambda handle, link: remote(link) != "down",
        nvmlDeviceGetNvLinkRemoteDeviceType=lambda handle, link: 2 if remote(link) == "switch" else 0,
        nvmlDeviceGetNvLinkRemotePciInfo=lambda handle, link: bus({"gpu2": 2, "gpu3": 3}.get(remote(link), 9)),
        nvmlDeviceGetTopologyCommonAncestor=lambda first, second: ancestor,
    )


@pytest.mark.parametrize(
    ("nvml", "expected"),
    [
        (fake_nvml(remotes=["gpu2", "down", "gpu3", "gpu2"]), "NV2"),
        (fake_nvml(remotes=["switch"] * 18), "NV18"),
        (fake_nvml(remotes=["gpu3", "gpu3"]), "PHB"),
        (fake_nvml(remotes=[], ancestor=50, nvlink=False), "SYS"),
        (fake_nvml(remotes=["gpu2"], ancestor=10, nvlink=False), "PIX"),
    ],
)
def test_nvml_says_what_lies_between_two_gpus(nvml: SimpleNamespace, expected: str) -> None:
    assert connection("0000:01:00.0", "0000:02:00.0", nvml) == expected


def test_what_nvml_does_not_say_is_not_guessed() -> None:
    nvml = fake_nvml(remotes=[])
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(NVMLError("Driver Not Loaded"))
    assert connection("0000:01:00.0", "0000:02:00.0", nvml) is None


@pytest.mark.parametrize("peer", [True, False])
def test_copies_between_gpus_go_with_and_without_peer_access(monkeypatch: pytest.MonkeyPatch, peer: bool) -> None:
    """Staging by hand stands for a copy without peer access only where torch's own copy would have it."""
    monkeypatch.setattr(links.torch.cuda, "can_device_access_peer", lambda source, target: peer)
    monkeypatch.setattr(links, "_bus_id", str)
    monkeypatch.setattr(links, "connection", lambda first, second, nvml: f"{first}-{second}")
    routes = links.list_routes(2)
    assert len([route for route in routes if "host" in route.kind]) == 8
    between = [(route.peer_access, route.staged, route.connection) for route in routes if route.kind == "peer_to_peer"]
    expected = [(True, False), (False, True)] if peer else [(False, False)]
    pairs = ("cuda:0-cuda:1", "cuda:1-cuda:0")
    assert between == [(access, staged, pair) for pair in pairs for access, staged in expected]
