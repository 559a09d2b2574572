"""Which GPUs has this host, and how do they reach each other?

Whether two GPUs talk over NVLink or PCIe is decided here, by what NVML reports of their links, never by a card's name.

Two traps. nvmlDeviceGetNvLinkVersion returns an enumeration and not the version: 5 is NVLink 3.1 (A100), 6 is 4.0 (H100).
pynvml's NVML_P2P_CAPS_INDEX_READ is a tuple by a slip of its source, so that index is written out here.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from commprof.commbench.machine.facts import PEER_DISABLED, PEER_OK, GpuInfo, NvLink, PcieLink
from commprof.commbench.machine.nvml import Nvml

# nvmlNvlinkVersion_t: 1.0, 2.0, 2.2, 3.0, 3.1, 4.0, 5.0, 6.0
_NVLINK_GENERATION = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6}
# nvmlGpuTopologyLevel_t, in the words of nvidia-smi's matrix: same board, one PCIe switch, several, host bridge, node, system
_TOPOLOGY_LEVEL = {0: "PSB", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_P2P_READ, _P2P_NVLINK, _P2P_OK = 0, 2, 0
# nvmlGpuP2PStatus_t, in words that say who forbids it
_P2P_STATUS = {
    0: PEER_OK,
    1: "not supported by the chipset",
    2: "not supported by this kind of GPU",
    3: "not supported across this host's topology",
    4: PEER_DISABLED,
    5: "not supported",
    6: "unknown to the driver",
}
# nvmlComputeMode_t: one process at a time, formerly one thread, or nobody
_COMPUTE_MODE: dict[int | None, Literal["default", "exclusive", "prohibited"]] = {
    0: "default",
    1: "exclusive",
    2: "prohibited",
    3: "exclusive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """All that NVML says of one host. Where it says nothing, `absent` has the reason under HostInfo's name of the field."""

    gpus: tuple[GpuInfo, ...]
    topology: tuple[tuple[str, ...], ...]
    driver: str | None
    driver_cuda: str | None
    absent: dict[str, str]


def read_gpus(module: Any = None, sys: Path = Path("/sys")) -> GpuFacts:  # noqa: ANN401  the pynvml module, or a stand-in
    """Read every GPU of this host; none, with the reason, where NVML cannot be opened."""
    try:
        nvml = Nvml(module)
    except OSError as error:
        reasons = dict.fromkeys(("gpus", "software.driver", "driver_cuda"), str(error))
        return GpuFacts(gpus=(), topology=(), driver=None, driver_cuda=None, absent=reasons)
    with closing(nvml):
        handles = nvml.handles()
        if not handles:
            nvml.absent.setdefault("gpus", "NVML lists none")
        alone = [_gpu(nvml, index, handle, sys) for index, handle in handles.items()]
        gpus = tuple(_with_peers(gpu, _peer_status(nvml, gpu.index, handles)) for gpu in alone)
        cuda = nvml.ask("driver_cuda", "nvmlSystemGetCudaDriverVersion")
        return GpuFacts(
            gpus=gpus,
            topology=_topology(nvml, gpus, list(handles.values())),
            driver=nvml.text("software.driver", "nvmlSystemGetDriverVersion"),
            driver_cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            absent=nvml.absent,
        )


def driver_version(module: Any = None) -> str | None:  # noqa: ANN401  the pynvml module, or a test's stand-in
    """Return the NVIDIA driver's version; None without one."""
    try:
        with closing(Nvml(module)) as nvml:
            return nvml.text("software.driver", "nvmlSystemGetDriverVersion")
    except OSError:
        return None


def _gpu(nvml: Nvml, index: int, handle: Any, sys: Path) -> GpuInfo:  # noqa: ANN401
    name = f"gpu{index}"
    memory = nvml.ask(f"{name}.memory_bytes", "nvmlDeviceGetMemoryInfo", handle)
    bus_id = _bus_id(nvml.ask(f"{name}.pci_bus_id", "nvmlDeviceGetPciInfo", handle))
    limits_mw = nvml.ask(f"{name}.max_power_limit_w", "nvmlDeviceGetPowerManagementLimitConstraints", handle)
    mig = nvml.ask(f"{name}.mig", "nvmlDeviceGetMigMode", handle)
    nvlinks = _nvlinks(nvml, f"{name}.nvlinks", handle)
    if nvlinks:
        nvml.nvlink_bytes(f"{name}.nvlink_bytes", handle)  # telemetry asks for them, and only `absent` can say why not
    return GpuInfo(
        index=index,
        name=nvml.text(f"{name}.name", "nvmlDeviceGetName", handle) or "unnamed GPU",
        pci_bus_id=bus_id,
        memory_bytes=None if memory is None else int(memory.total),
        numa_node=_numa_node(nvml, f"{name}.numa_node", bus_id, sys),
        pcie=_pcie(nvml, f"{name}.pcie", handle),
        nvlinks=nvlinks,
        peer_access=(),
        sm_clock_hz=nvml.clock_hz(f"{name}.sm_clock_hz", handle, memory=False),
        max_sm_clock_hz=nvml.clock_hz(f"{name}.max_sm_clock_hz", handle, memory=False, most=True),
        memory_clock_hz=nvml.clock_hz(f"{name}.memory_clock_hz", handle, memory=True),
        max_memory_clock_hz=nvml.clock_hz(f"{name}.max_memory_clock_hz", handle, memory=True, most=True),
        power_limit_w=nvml.scaled(f"{name}.power_limit_w", 1e-3, "nvmlDeviceGetEnforcedPowerLimit", handle),
        max_power_limit_w=None if limits_mw is None else limits_mw[1] * 1e-3,
        throttle_reasons=nvml.throttle_reasons(f"{name}.throttle_reasons", handle),
        mig=None if mig is None else mig[0] == 1,
        compute_mode=_COMPUTE_MODE.get(nvml.ask(f"{name}.compute_mode", "nvmlDeviceGetComputeMode", handle)),
    )


def _bus_id(pci: Any) -> str | None:  # noqa: ANN401
    """Write a bus id as Linux and torch do (0000:19:00.0); NVML gives the domain eight digits."""
    if pci is None:
        return None
    raw = pci.busId.decode() if isinstance(pci.busId, bytes) else pci.busId
    domain, _, rest = raw.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def _numa_node(nvml: Nvml, field: str, bus_id: str | None, sys: Path) -> int | None:
    """Read the host's NUMA node next to a card from Linux: NVML's own call means the card's memory."""
    try:
        node = int((sys / "bus/pci/devices" / (bus_id or "unknown") / "numa_node").read_text())
    except (OSError, ValueError):
        node = -1
    if node < 0:
        nvml.absent[field] = "Linux states no NUMA node for this card"
    return node if node >= 0 else None


def _pcie(nvml: Nvml, field: str, handle: Any) -> PcieLink | None:  # noqa: ANN401
    link = PcieLink(
        generation=nvml.ask(f"{field}.generation", "nvmlDeviceGetCurrPcieLinkGeneration", handle),
        width=nvml.ask(f"{field}.width", "nvmlDeviceGetCurrPcieLinkWidth", handle),
        max_generation=nvml.ask(f"{field}.max_generation", "nvmlDeviceGetMaxPcieLinkGeneration", handle),
        max_width=nvml.ask(f"{field}.max_width", "nvmlDeviceGetMaxPcieLinkWidth", handle),
    )
    if link == PcieLink(generation=None, width=None, max_generation=None, max_width=None):
        nvml.absent[field] = nvml.absent[f"{field}.generation"]
        return None
    return link


def _nvlinks(nvml: Nvml, field: str, handle: Any) -> tuple[NvLink, ...]:  # noqa: ANN401
    """Ask link after link until NVML knows no more: its count of them is newer than many drivers."""
    links: list[NvLink] = []
    for number in range(nvml.max_links):
        active = nvml.ask(field, "nvmlDeviceGetNvLinkState", handle, number)
        if active is None:
            break
        version = nvml.ask(f"{field}.{number}.version", "nvmlDeviceGetNvLinkVersion", handle, number)
        generation = _NVLINK_GENERATION.get(version)
        if version is not None and generation is None:
            nvml.absent[f"{field}.{number}.version"] = f"NVML's NVLink version code {version} is newer than this commprof"
        links.append(NvLink(link=number, version=generation, active=bool(active)))
    if links:
        nvml.absent.pop(field, None)
    return tuple(links)


def _with_peers(gpu: GpuInfo, status: tuple[str | None, ...]) -> GpuInfo:
    return replace(gpu, peer_access=tuple(None if each is None else each == PEER_OK for each in status), peer_status=status)


def _peer_status(nvml: Nvml, index: int, handles: dict[int, Any]) -> tuple[str | None, ...]:
    def status(other: int) -> str | None:
        if other == index:
            return None
        code = nvml.ask(f"gpu{index}.peer_access", "nvmlDeviceGetP2PStatus", handles[index], handles[other], _P2P_READ)
        return None if code is None else _P2P_STATUS.get(code, f"status {code}, newer than this commprof")

    return tuple(status(other) for other in handles)


def _topology(nvml: Nvml, gpus: Sequence[GpuInfo], handles: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    remotes = [_remote_bus_ids(nvml, gpu, handle) for gpu, handle in zip(gpus, handles, strict=True)]

    def connection(i: int, j: int) -> str:
        if i == j:
            return "X"
        links = remotes[i][gpus[j].pci_bus_id or ""] or _switched_links(nvml, gpus[i], gpus[j], handles[i], handles[j])
        if links:
            return f"NV{links}"
        level = nvml.ask("topology", "nvmlDeviceGetTopologyCommonAncestor", handles[i], handles[j])
        return "?" if level is None else _TOPOLOGY_LEVEL.get(level, "?")

    return tuple(tuple(connection(i, j) for j in range(len(gpus))) for i in range(len(gpus)))


def _remote_bus_ids(nvml: Nvml, gpu: GpuInfo, handle: Any) -> Counter[str]:  # noqa: ANN401
    """Count the active links to each bus id at their other end: a GPU's where they are direct, else a switch's."""
    field = f"gpu{gpu.index}.nvlinks.remote"
    ends = [nvml.ask(field, "nvmlDeviceGetNvLinkRemotePciInfo", handle, link.link) for link in gpu.nvlinks if link.active]
    return Counter(_bus_id(end) or "" for end in ends if end is not None)


def _switched_links(nvml: Nvml, one: GpuInfo, other: GpuInfo, handle: Any, peer: Any) -> int:  # noqa: ANN401
    """Return the links between two GPUs through switches: each GPU's active ones, where NVML says NVLink joins the two."""
    links = min(sum(link.active for link in gpu.nvlinks) for gpu in (one, other))
    if links and nvml.ask("topology", "nvmlDeviceGetP2PStatus", handle, peer, _P2P_NVLINK) == _P2P_OK:
        return links
    return 0
