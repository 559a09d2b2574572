"""What does NVML say of this host's GPUs, and what does it leave unsaid?

Whether two GPUs talk over NVLink or PCIe is decided here, by what NVML reports of their links, never by a card's name.
NVML's units are converted where they are read: clocks MHz, power mW, PCIe rates KB/s, NVLink counters KiB.

Two traps. nvmlDeviceGetNvLinkVersion returns an enumeration and not the version: 5 is NVLink 3.1 (A100), 6 is 4.0 (H100).
pynvml's NVML_P2P_CAPS_INDEX_READ is a tuple by a slip of its source, so that index is written out here.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from commprof.commbench.machine.facts import PEER_DISABLED, PEER_OK, GpuInfo, NvLink, PcieLink

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
_ALL_LINKS = 0xFFFFFFFF  # as a counter's scope: the sum over links
_LINK_BYTES = (202, 204)  # NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES and _RCV_BYTES, of one link, since NVLink 5
_SM, _MEMORY = 1, 2  # nvmlClockType_t
_THROTTLE_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """All that NVML says of one host. Where it says nothing, `absent` has the reason under HostInfo's name of the field."""

    gpus: tuple[GpuInfo, ...]
    topology: tuple[tuple[str, ...], ...]
    driver: str | None
    driver_cuda: str | None
    absent: dict[str, str]


class Nvml:
    """NVML opened for reading; every question that it does not answer is None, with its reason in `absent`."""

    def __init__(self, module: Any = None) -> None:  # noqa: ANN401  the pynvml module, or a test's stand-in
        """Open NVML; raise OSError where there is no driver to ask."""
        self._module = import_module("pynvml") if module is None else module
        self.absent: dict[str, str] = {}
        try:
            self._module.nvmlInit()
        except self._module.NVMLError as error:
            raise OSError(f"NVML: {error}") from None

    def close(self) -> None:
        self._module.nvmlShutdown()

    def ask(self, field: str, function: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Return NVML's answer, or None."""
        call = getattr(self._module, function, None)
        if call is None:
            self.absent[field] = f"this nvidia-ml-py has no {function}"
            return None
        try:
            return call(*arguments)
        except self._module.NVMLError as error:
            self.absent[field] = f"NVML: {error}"
            return None

    def text(self, field: str, function: str, *arguments: Any) -> str | None:  # noqa: ANN401
        """Ask for text, which some versions of nvidia-ml-py return as bytes."""
        answer = self.ask(field, function, *arguments)
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def scaled(self, field: str, scale: float, function: str, *arguments: Any) -> float | None:  # noqa: ANN401
        """Ask for a number in NVML's unit and return it in SI."""
        answer = self.ask(field, function, *arguments)
        return None if answer is None else answer * scale

    def handles(self) -> dict[int, Any]:
        """Return a handle for each GPU, by NVML's index; one that fell off the bus is absent."""
        count = self.ask("gpus", "nvmlDeviceGetCount") or 0
        found = {index: self.ask(f"gpu{index}", "nvmlDeviceGetHandleByIndex", index) for index in range(count)}
        return {index: handle for index, handle in found.items() if handle is not None}

    def clock_hz(self, field: str, handle: Any, *, memory: bool, most: bool = False) -> float | None:  # noqa: ANN401
        function = "nvmlDeviceGetMaxClockInfo" if most else "nvmlDeviceGetClockInfo"
        return self.scaled(field, 1e6, function, handle, _MEMORY if memory else _SM)

    def throttle_reasons(self, field: str, handle: Any) -> tuple[str, ...] | None:  # noqa: ANN401
        """Name what holds the clocks down now; drivers before 535 know the question by its older name."""
        bits = self.ask(field, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:
            reason = self.absent[field]
            bits = self.ask(field, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
            if bits is None:
                self.absent[field] = reason  # a missing older call says less than what the newer one was refused for
                return None
            del self.absent[field]
        named = [name for bit, name in _THROTTLE_REASONS.items() if bits & bit]
        unknown = bits & ~sum(_THROTTLE_REASONS)
        return tuple([*named, f"reasons {unknown:#x}"] if unknown else named)

    def nvlink_bytes(self, field: str, handle: Any) -> tuple[int | None, int | None]:  # noqa: ANN401
        """Return the bytes that all of a GPU's NVLinks sent and received since the driver was loaded.

        Payload up to NVLink 4. NVLink 5 has no such counter: there it is the sum of all bytes of each link.
        """
        module = self._module
        counters = (module.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, module.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)
        payload = self._counted(field, handle, [(counter, _ALL_LINKS) for counter in counters])
        if None not in payload:
            return payload[0] * 1024, payload[1] * 1024
        links = range(self.max_links)
        each = self._counted(field, handle, [(counter, link) for counter in _LINK_BYTES for link in links])
        sent, received = ([count for count in way if count is not None] for way in (each[: len(links)], each[len(links) :]))
        if not sent or not received:
            return None, None
        self.absent.pop(field, None)
        return sum(sent), sum(received)

    def _counted(self, field: str, handle: Any, counters: Sequence[tuple[int, int]]) -> list[Any]:  # noqa: ANN401
        """Return each counter, None for one that the card does not have; the first reason is kept."""
        answers = self.ask(field, "nvmlDeviceGetFieldValues", handle, counters)
        if answers is None:
            return [None] * len(counters)
        refused = [answer.nvmlReturn for answer in answers if answer.nvmlReturn != 0]
        if refused:
            self.absent.setdefault(field, f"NVML: {self._module.NVMLError(refused[0])}")
        return [int(answer.value.ullVal) if answer.nvmlReturn == 0 else None for answer in answers]

    @property
    def max_links(self) -> int:
        return int(self._module.NVML_NVLINK_MAX_LINKS)


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
