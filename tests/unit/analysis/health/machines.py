"""Made-up hosts for tests: their GPUs, cards and telemetry, and what the rules say of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.machine import machine_health
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import (
    ENVIRONMENT_FILE,
    GpuInfo,
    GpuSample,
    HostInfo,
    InterfaceInfo,
    InterfaceSample,
    NvLink,
    PcieLink,
    TelemetrySample,
)
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import RecordWriter, write_document
from commprof.commbench.records.types import SoftwareInfo
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


HOST = replace(host(), cores_usable=2, cores_total=2)


def samples(*shares: tuple[float, float | None]) -> tuple[TelemetrySample, ...]:
    """Samples of which the job and others had these shares of the host."""
    return tuple(
        TelemetrySample(
            hostname=HOST.hostname,
            at_s=float(at_s),
            cpu_busy=min(1.0, own + (others or 0.0)),
            others_busy=others,
            cpu_clock_hz=None,
            gpus=(),
            interfaces=(),
        )
        for at_s, (own, others) in enumerate(shares)
    )


def add_surroundings(run: Path, telemetry: Sequence[TelemetrySample]) -> Path:
    write_document(run / ENVIRONMENT_FILE, [HOST])
    with RecordWriter(run / "telemetry.jsonl") as writer:
        for sample in telemetry:
            writer.append(sample)
    return run
