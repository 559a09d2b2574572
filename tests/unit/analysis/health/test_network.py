"""The network of hosts: the card that gloo and NCCL take, and fabrics that lie idle."""

import pytest

from commprof.analysis.health.machine import machine_health
from commprof.commbench.records.links import LinkMeasurement
from tests.unit.analysis.health.machines import GIB, card, evidence, gpu, host, judged, telemetry

TWO_CARDS = host(
    interfaces=(card("eth0", 10), card("eth1", 100), card("eth2", 400, up=False), card("docker0", None, "virtual"))
)


@pytest.mark.parametrize(
    ("environ", "sent", "ok", "words"),
    [
        (
            {"GLOO_SOCKET_IFNAME": "eth0"},
            {},
            False,
            "over eth0 (10 Gbit/s) while eth1 (100 Gbit/s) is up; set GLOO_SOCKET_IFNAME=eth1",
        ),
        ({"GLOO_SOCKET_IFNAME": "eth1"}, {"eth0": GIB}, True, "eth1 (100 Gbit/s): no faster interface was up"),
        ({}, {"eth0": 9 * GIB, "eth1": 5}, False, "over eth0"),
        ({}, {}, None, "name no interface of known speed"),
        ({"GLOO_SOCKET_IFNAME": "docker0"}, {}, None, "name no interface of known speed"),
    ],
)
def test_gloo_should_take_the_fastest_card(environ: dict[str, str], sent: dict[str, int], ok: bool | None, words: str) -> None:
    verdict = judged("network", evidence(TWO_CARDS, backend="gloo", num_nodes=2, environ=environ, samples=telemetry(sent)))
    assert verdict.ok is ok
    assert words in verdict.message


def test_one_host_needs_no_network() -> None:
    assert machine_health(evidence(TWO_CARDS, backend="gloo", environ={"GLOO_SOCKET_IFNAME": "eth0"})) == []


WITH_FABRIC = host(gpus=(gpu(0),), interfaces=(card("eth0", 100), card("ib0", None, "infiniband")))


@pytest.mark.parametrize(
    ("environ", "sent", "ok", "words"),
    [
        ({}, {"eth0": 10**6}, True, "ib0"),
        ({"NCCL_SOCKET_IFNAME": "eth0"}, {}, True, "ib0"),
        ({"NCCL_IB_DISABLE": "1"}, {}, False, "NCCL_IB_DISABLE=1 while ib0 (InfiniBand, speed not stated) is up"),
        ({}, {"eth0": 10 * GIB}, False, "eth0 sent 10 GiB over TCP during the run, whose messages are 10 GiB"),
    ],
)
def test_nccl_that_leaves_infiniband_is_found(environ: dict[str, str], sent: dict[str, int], ok: bool, words: str) -> None:
    verdict = judged("network", evidence(WITH_FABRIC, num_nodes=2, environ=environ, samples=telemetry(sent)))
    assert verdict.ok is ok
    assert words in verdict.message


@pytest.mark.parametrize(
    ("environ", "ok", "note"),
    [
        ({"NCCL_SOCKET_IFNAME": "eth0"}, True, True),
        ({"NCCL_SOCKET_IFNAME": "=eth0", "NCCL_IB_DISABLE": "1"}, False, False),
        ({"NCCL_SOCKET_IFNAME": "eth"}, True, False),
        ({"NCCL_SOCKET_IFNAME": "^docker,eth0"}, None, False),
    ],
)
def test_a_slow_card_under_nccl_is_sure_only_without_verbs(environ: dict[str, str], ok: bool | None, note: bool) -> None:
    verdict = judged("network", evidence(TWO_CARDS, num_nodes=2, environ=environ))
    assert (verdict.ok, verdict.note) == (ok, note)


def test_roce_that_lies_idle_is_noted_and_no_name_for_sockets() -> None:
    roce = host(interfaces=(card("eth0", 100), card("mlx5_0:1", 400), card("mlx5_1:1", 200, "infiniband", up=False)))
    forbidden = judged("network", evidence(roce, num_nodes=2, environ={"NCCL_IB_DISABLE": "1"}))
    assert (forbidden.ok, forbidden.note) == (True, True)
    assert "mlx5_0:1 (RDMA, 400 Gbit/s) is up" in forbidden.message
    assert judged("network", evidence(roce, num_nodes=2)).message.startswith("mlx5_0:1 (400 Gbit/s)")
    gloo = judged("network", evidence(roce, backend="gloo", num_nodes=2, environ={"GLOO_SOCKET_IFNAME": "eth0"}))
    assert (gloo.ok, gloo.note) == (True, False)


def test_a_pair_far_below_the_others_is_noted() -> None:
    links = tuple(
        LinkMeasurement(
            kind="send_recv",
            source=f"rank{i}",
            target="rank9",
            message_bytes=GIB,
            samples_s=(3.0 if i == 2 else 1.0,),
            timer="fake",
        )
        for i in range(5)
    )
    verdict = judged("pairs", evidence(links=links, backend="gloo"))
    assert (verdict.ok, verdict.note, verdict.measured) == (True, True, pytest.approx(1 / 3))
    assert verdict.message.startswith("rank2 to rank9 0.358 GB/s, 33% of the median")
    assert machine_health(evidence(links=links[:3], backend="gloo")) == []
