from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.machine import machine_health
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import (
    PEER_DISABLED,
    PEER_OK,
    GpuInfo,
    GpuSample,
    HostInfo,
    InterfaceInfo,
    InterfaceSample,
    NvLink,
    PcieLink,
    TelemetrySample,
)
from commprof.commbench.records.types import LinkMeasurement, RankInfo, SoftwareInfo
from tests.factory import collective, run_info

GIB = 2**30


def gpu(
    index: int,
    *,
    generation: int = 4,
    width: int = 16,
    up: int = 4,
    access: tuple[bool | None, ...] = (),
    clock: float = 1.98e9,
    reasons: tuple[str, ...] = (),
    status: tuple[str | None, ...] = (),
) -> GpuInfo:
    """A GPU of generation 4, 16 lanes, four NVLinks."""
    return GpuInfo(
        index=index,
        name="H100",
        pci_bus_id=f"00000000:{index + 1:02X}:00.0",
        memory_bytes=None,
        numa_node=None,
        pcie=PcieLink(generation=generation, width=width, max_generation=4, max_width=16),
        nvlinks=tuple(NvLink(link=i, version=4, active=i < up) for i in range(4)),
        peer_access=access,
        sm_clock_hz=clock,
        max_sm_clock_hz=1.98e9,
        memory_clock_hz=None,
        max_memory_clock_hz=None,
        power_limit_w=None,
        max_power_limit_w=None,
        throttle_reasons=reasons,
        peer_status=status,
    )


def host(
    name: str = "host",
    *,
    gpus: tuple[GpuInfo, ...] = (),
    topology: tuple[tuple[str, ...], ...] = (),
    interfaces: tuple[InterfaceInfo, ...] = (),
    absent: dict[str, str] | None = None,
) -> HostInfo:
    return HostInfo(
        hostname=name,
        processor="cpu",
        cores_usable=8,
        cores_total=8,
        numa_nodes=1,
        memory_bytes=None,
        software=SoftwareInfo(python="3.11"),
        gpus=gpus,
        topology=topology,
        interfaces=interfaces,
        environ={},
        absent=absent or {},
    )


def card(name: str, gbit: float | None, kind: str = "ethernet", *, up: bool = True) -> InterfaceInfo:
    speed = None if gbit is None else gbit * 1e9
    return InterfaceInfo(name=name, kind=kind, up=up, speed_bits_per_s=speed, mtu_bytes=1500)  # type: ignore[arg-type]


def telemetry(sent: dict[str, int], reasons: tuple[str, ...] = ()) -> tuple[TelemetrySample, ...]:
    """Two samples: what interfaces sent between them, throttle reasons in the second."""
    return tuple(
        TelemetrySample(
            hostname="host",
            at_s=at_s,
            cpu_busy=None,
            cpu_clock_hz=None,
            gpus=(
                GpuSample(
                    index=0,
                    sm_clock_hz=None,
                    memory_clock_hz=None,
                    power_w=None,
                    temperature_c=None,
                    throttle_reasons=reasons if at_s else (),
                    pcie_tx_bytes_per_s=None,
                    pcie_rx_bytes_per_s=None,
                    nvlink_tx_bytes=None,
                    nvlink_rx_bytes=None,
                ),
            ),
            interfaces=tuple(
                InterfaceSample(name=name, tx_bytes=10**12 + int(at_s) * count, rx_bytes=0) for name, count in sent.items()
            ),
        )
        for at_s in (0.0, 1.0)
    )


def evidence(
    *hosts: HostInfo,
    samples: tuple[TelemetrySample, ...] | None = None,
    links: tuple[LinkMeasurement, ...] = (),
    backend: str = "nccl",
    **info: object,
) -> Evidence:
    """A run of 10 GiB of messages."""
    run = Run(
        path=Path("runs/it"),
        info=run_info(backend=backend, **info),  # type: ignore[arg-type]
        collectives=(collective(GIB, [1.0] * 10),),
        steps={},
        gradients=None,
    )
    return Evidence(run=run, hosts=hosts or None, telemetry=samples, bursts=(), links=links)


def judged(name: str, found: Evidence) -> Verdict:
    (verdict,) = [verdict for verdict in machine_health(found) if verdict.name == name]
    return verdict


def test_a_healthy_box_passes_every_rule() -> None:
    gpus = (gpu(0, access=(None, True)), gpu(1, access=(True, None), reasons=("gpu_idle", "applications_clocks_setting")))
    verdicts = machine_health(evidence(host(gpus=gpus)))
    assert [(v.name, v.ok, v.note) for v in verdicts] == [
        ("pcie", True, False),
        ("nvlink", True, False),
        ("peer access", True, False),
        ("throttling", True, False),
    ]


@pytest.mark.parametrize(
    ("bad", "ok", "note", "words"),
    [
        (gpu(1, width=8), False, False, "narrow: host GPU 1 8 of 16 lanes"),
        (gpu(1, generation=1), False, False, "clocks were up: host GPU 1 generation 1 of 4"),
        (gpu(1, generation=1, clock=0.3e9), True, True, "at rest"),
        (gpu(1, generation=1, reasons=("GpuIdle",)), True, True, "at rest"),
    ],
)
def test_pcie_width_fails_and_generation_only_under_load(bad: GpuInfo, ok: bool, note: bool, words: str) -> None:
    verdict = judged("pcie", evidence(host(gpus=(gpu(0), bad))))
    assert (verdict.ok, verdict.note) == (ok, note)
    assert words in verdict.message


def test_only_the_gpus_that_ranks_used_are_judged() -> None:
    used = (RankInfo(rank=0, local_rank=0, hostname="host", device_name="H100", pci_bus_id="0000:01:00.0"),)
    box = host(gpus=(gpu(0), gpu(1, width=8)))
    assert judged("pcie", evidence(box, ranks=used)).ok
    assert judged("pcie", evidence(box)).ok is False


def test_nvlink_is_judged_against_equal_gpus() -> None:
    verdict = judged("nvlink", evidence(host(gpus=(gpu(0), gpu(1, up=3)))))
    assert verdict.ok is False
    assert "host GPU 1 has 3 of 4 up (down: link 3)" in verdict.message
    alike = judged("nvlink", evidence(host(gpus=(gpu(0, up=2), gpu(1, up=2)))))
    assert (alike.ok, alike.note) == (True, True)


@pytest.mark.parametrize(
    ("connection", "status", "ok"),
    [
        ("NV4", None, False),
        ("NV4", "not supported", False),
        ("PIX", PEER_DISABLED, False),
        ("PXB", PEER_DISABLED, False),
        ("SYS", PEER_DISABLED, True),
        ("PIX", "not supported by this kind of GPU", True),
        ("PIX", "not supported by the chipset", True),
        ("PIX", None, False),  # a run older than the status
        ("SYS", None, True),
    ],
)
def test_peers_that_could_reach_each_other_must(connection: str, status: str | None, ok: bool) -> None:
    gpus = (gpu(0, access=(None, False), status=(None, status)), gpu(1, access=(True, None), status=(PEER_OK, None)))
    verdict = judged("peer access", evidence(host(gpus=gpus, topology=(("X", connection), (connection, "X")))))
    assert (verdict.ok, verdict.note) == (ok, ok)
    assert f"host GPU 0-1 ({connection}{f', {status}' if status else ''})" in verdict.message


@pytest.mark.parametrize("lost", range(4))
def test_a_lost_gpu_fails_and_moves_nobody_elses_cells(lost: int) -> None:
    there = [index for index in range(4) if index != lost]
    first, second, third = there
    # Only the first and the last of the three lack access, over NVLink.
    gpus = (
        gpu(first, access=(None, True, False)), gpu(second, access=(True, None, True)), gpu(third, access=(False, True, None)),
    )  # fmt: skip
    topology = (("X", "PIX", "NV4"), ("PIX", "X", "SYS"), ("NV4", "SYS", "X"))
    found = evidence(host(gpus=gpus, topology=topology, absent={f"gpu{lost}": "NVML: GPU is lost", "gpu0.mig": "no"}))
    fell = judged("gpus", found)
    assert fell.ok is False
    assert f"host gpu{lost} (NVML: GPU is lost)" in fell.message
    verdict = judged("peer access", found)
    assert verdict.ok is False
    assert verdict.message.endswith(f"host GPU {first}-{third} (NV4)")


def test_a_gpu_that_is_kept_from_us_is_noted_and_one_cut_into_instances_too() -> None:
    found = evidence(host(gpus=(replace(gpu(0), mig=True),), absent={"gpu1": "NVML: Insufficient Permissions"}))
    assert (judged("gpus", found).ok, judged("gpus", found).note) == (True, True)
    assert "host GPU 0: a rank has one instance" in judged("mig", found).message


def test_a_host_whose_gpus_are_all_lost_is_not_passed_over() -> None:
    assert judged("gpus", evidence(host(absent={"gpu0": "NVML: Unknown Error"}))).ok is False


def at_work(generation: int | None, *, width: int = 16, clock: float = 1.9e9, reasons: tuple[str, ...] = ()) -> GpuSample:
    return GpuSample(
        index=0, sm_clock_hz=clock, memory_clock_hz=None, power_w=None, temperature_c=None, throttle_reasons=reasons,
        pcie_tx_bytes_per_s=None, pcie_rx_bytes_per_s=None, nvlink_tx_bytes=None, nvlink_rx_bytes=None,
        pcie_generation=generation, pcie_width=width,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "ok", "note", "words"),
    [
        ([at_work(4)], True, False, "1 links at full width and generation"),
        ([at_work(3), at_work(4)], True, False, "full width"),  # the first came before the link had trained up
        ([at_work(3)], False, False, "slow while the clocks were up: host GPU 0 generation 3 of 4"),
        ([at_work(3, clock=0.3e9)], True, True, "host GPU 0 generation 1 of 4"),
        ([at_work(3, reasons=("idle",))], True, True, "at rest"),
        ([at_work(None)], True, True, "at rest"),
        ([at_work(4, width=8)], False, False, "narrow: host GPU 0 8 of 16 lanes"),
    ],
)
def test_a_resting_cards_pcie_is_judged_by_what_was_sampled_at_work(
    seen: list[GpuSample], ok: bool, note: bool, words: str
) -> None:
    samples = tuple(replace(telemetry({})[0], gpus=(each,)) for each in seen)
    verdict = judged("pcie", evidence(host(gpus=(gpu(0, generation=1, clock=0.3e9),)), samples=samples))
    assert (verdict.ok, verdict.note) == (ok, note)
    assert words in verdict.message


def test_peer_access_that_nccl_may_not_use_is_noted() -> None:
    gpus = (gpu(0, access=(None, True)), gpu(1, access=(True, None)))
    assert judged("peer access", evidence(host(gpus=gpus), environ={"NCCL_P2P_DISABLE": "1"})).note


@pytest.mark.parametrize(
    ("reason", "ok", "note"),
    [
        ("hw_thermal_slowdown", False, False),
        ("hardware slowdown", False, False),
        ("SwThermalSlowdown", False, False),
        ("hw_power_brake_slowdown", False, False),
        ("sw_power_cap", True, True),
        ("gpu_idle", True, False),
    ],
)
def test_heat_and_brakes_fail_a_power_cap_does_not(reason: str, ok: bool, note: bool) -> None:
    verdict = judged("throttling", evidence(samples=telemetry({}, (reason,))))
    assert (verdict.ok, verdict.note) == (ok, note)
    assert (ok and not note) or f"{reason} in 1 of 2 samples (host GPU 0)" in verdict.message


def test_without_files_nothing_is_claimed() -> None:
    verdicts = machine_health(evidence(num_nodes=2))
    assert {v.name for v in verdicts} == {"pcie", "nvlink", "peer access", "throttling", "network"}
    assert all(v.ok is None for v in verdicts)
    assert machine_health(evidence(backend="gloo")) == []


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
