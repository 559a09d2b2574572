"""One host: its facts, as `commprof env` reports them, and samples of it during a run (telemetry.jsonl). Types only.

A field that the machine or its driver does not state is None, and `absent` says why, keyed by the field's name
("gpus", "interfaces", "gpu0.power_limit_w"). SI base units.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from commprof.commbench.records.quantities import Cores, Count, CountAboveZero, NumBytes, Rate, Ratio, Span
from commprof.commbench.records.types import SoftwareInfo

PEER_OK, PEER_DISABLED = "ok", "disabled by a driver setting"  # of GpuInfo.peer_status: the two that mean more than words
ENVIRONMENT_FILE = "environment.json"  # in a run: a list of HostInfo, one a host


@dataclass(frozen=True, slots=True, kw_only=True)
class PcieLink:
    """A card's PCIe link as trained now, and the most that card and slot can do. Generations 1 to 6, width in lanes."""

    generation: Count | None
    width: Count | None
    max_generation: Count | None
    max_width: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvLink:
    """One NVLink of one GPU."""

    link: Count
    version: int | None
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """One GPU, `index` as NVML counts; a lost GPU is counted and not in HostInfo's list, so an index is no position in it.

    `peer_access[j]` is whether it may read the memory of the j-th GPU of that list directly, `peer_status[j]` what NVML says of
    that ("ok", "not supported by this kind of GPU"); None for itself or where unknown. `mig` is whether the card is cut into
    instances: memory and clocks are then the whole card's, of which a rank has a part. `compute_mode` is who may use it.
    """

    index: Count
    name: str
    pci_bus_id: str | None
    memory_bytes: NumBytes | None
    numa_node: int | None
    pcie: PcieLink | None
    nvlinks: tuple[NvLink, ...]
    peer_access: tuple[bool | None, ...]
    sm_clock_hz: Rate | None
    max_sm_clock_hz: Rate | None
    memory_clock_hz: Rate | None
    max_memory_clock_hz: Rate | None
    power_limit_w: Rate | None
    max_power_limit_w: Rate | None
    throttle_reasons: tuple[str, ...] | None
    peer_status: tuple[str | None, ...] = ()
    mig: bool | None = None
    compute_mode: Literal["default", "exclusive", "prohibited"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceInfo:
    """One network interface; `virtual` ones (loopback, veth, bridges) state no true speed."""

    name: str
    kind: Literal["ethernet", "infiniband", "loopback", "virtual", "other"]
    up: bool
    speed_bits_per_s: Rate | None
    mtu_bytes: NumBytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """One host. `topology[i][j]` is the closest connection of GPUs i and j as NVML names it, NVLink counted ("NV12").

    `driver_cuda` is the newest CUDA that the driver runs; `software.cuda` the one that torch was built with. `system` names the
    kernel, and WSL2 where it is that; None in a run that is older than this field.
    """

    hostname: str
    processor: str
    cores_usable: Cores
    cores_total: Cores
    numa_nodes: CountAboveZero | None
    memory_bytes: NumBytes | None
    software: SoftwareInfo
    gpus: tuple[GpuInfo, ...]
    topology: tuple[tuple[str, ...], ...]
    interfaces: tuple[InterfaceInfo, ...]
    environ: dict[str, str]
    absent: dict[str, str]
    driver_cuda: str | None = None
    system: str | None = None


Hosts = Annotated[tuple[HostInfo, ...], Meta(min_length=1)]  # what environment.json holds


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at one moment; None where NVML does not say.

    PCIe rates are NVML's own averages over 20 ms; only one GPU a sample is asked for them, in turn. `pcie_generation` and
    `pcie_width` are the link as trained at that moment. NVLink counters are bytes since the driver was loaded.
    """

    index: Count
    sm_clock_hz: Rate | None
    memory_clock_hz: Rate | None
    power_w: Rate | None
    temperature_c: Ratio | None
    throttle_reasons: tuple[str, ...] | None
    pcie_tx_bytes_per_s: Rate | None
    pcie_rx_bytes_per_s: Rate | None
    nvlink_tx_bytes: NumBytes | None
    nvlink_rx_bytes: NumBytes | None
    pcie_generation: Count | None = None
    pcie_width: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSample:
    """A network interface's counters since it came up."""

    name: str
    tx_bytes: NumBytes
    rx_bytes: NumBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySample:
    """One host at one moment of a run, `at_s` after the first sample. `cpu_busy` is the share of all its cores, 0 to 1.

    `others_busy` is what of it went to processes that are not the job's, or to other machines of the hypervisor; None where the
    kernel does not tell, or in a run that is older than this field.
    """

    hostname: str
    at_s: Span
    cpu_busy: Ratio | None
    cpu_clock_hz: Rate | None
    gpus: tuple[GpuSample, ...]
    interfaces: tuple[InterfaceSample, ...]
    others_busy: Ratio | None = None
