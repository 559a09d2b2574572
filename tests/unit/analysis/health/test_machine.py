from dataclasses import replace

import pytest

from commprof.analysis.health.machine import machine_health
from commprof.commbench.machine.facts import (
    PEER_DISABLED,
    PEER_OK,
    GpuInfo,
    GpuSample,
)
from commprof.commbench.records.types import RankInfo
from tests.unit.analysis.health.machines import evidence, gpu, host, judged, telemetry


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
