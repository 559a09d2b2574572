"""How are a host's facts shown? What the machine does not state is said together with the reason."""

from collections.abc import Mapping, Sequence

from commprof.commbench.display.sheet import Block, Cell, Column, Row, Table, Words, line
from commprof.commbench.machine.facts import PEER_OK, GpuInfo, HostInfo, InterfaceInfo
from commprof.commbench.units import format_bytes, printable

_LABEL = 15
_UNKNOWN = "not stated: "
_MIG = {None: None, False: "off", True: "on; memory and clocks are the whole card's, a rank has one instance's"}
_MATRIX_COLUMNS = 12  # GPUs side by side in 80 columns


def describe(host: HostInfo) -> list[Block]:
    """Lay out all facts."""
    gpus = [_describe_gpu(host, gpu) for gpu in host.gpus] or [{"GPUs": _not_stated(host, "gpus")}]
    lost = {name: _not_stated(host, name) for name in host.absent if name.removeprefix("gpu").isdecimal()}
    cards = {f"  {card.name}": _describe_interface(host, card) for card in host.interfaces}
    machine = _rows(_describe_host(host), *gpus, lost)
    network = [Row((Cell("network", "strong"),)), *_rows(cards or {"  interfaces": _not_stated(host, "interfaces")})]
    topology = _describe_topology(host) if len(host.gpus) > 1 else []
    return [
        *([_table(machine), *topology, _table(network)] if topology else [_table([*machine, *network])]),
        line("variables", "strong"),
        *(Words(f"{name}={host.environ[name]}", "  ", "  ") for name in sorted(host.environ)),
        *(() if host.environ else (line("  none of those that are recorded is set"),)),
    ]


def _table(rows: Sequence[Row]) -> Table:
    columns = (Column(width=_LABEL, left=True, before="", key=True), Column(left=True, before="", folds=True))
    return Table(columns=columns, rows=rows)


def _rows(*groups: Mapping[str, str]) -> list[Row]:
    return [_row(label, text) for group in groups for label, text in group.items()]


def _row(label: str, text: str) -> Row:
    """Put a label before a text."""
    apart = " " * (len(printable(label)) >= _LABEL)
    return Row((Cell(label + apart, "strong"), Cell(text or "-", "faint" if text.startswith(_UNKNOWN) else "plain")))


def _describe_host(host: HostInfo) -> dict[str, str]:
    software = host.software
    memory = None if host.memory_bytes is None else format_bytes(host.memory_bytes)
    return {
        "host": host.hostname,
        "system": host.system or _UNKNOWN + "the run is older than this field",
        "processor": host.processor,
        "cores": f"{host.cores_usable} usable of {host.cores_total}",
        "NUMA nodes": _stated(host, "numa_nodes", host.numa_nodes),
        "memory": _stated(host, "memory_bytes", memory),
        "Python": software.python,
        "torch": _stated(host, "software.torch", software.torch),
        "torch's CUDA": _stated(host, "software.cuda", software.cuda),
        "NCCL": _stated(host, "software.nccl", software.nccl),
        "driver": _stated(host, "software.driver", software.driver),
        "driver's CUDA": _stated(host, "driver_cuda", host.driver_cuda),
    }


def _describe_gpu(host: HostInfo, gpu: GpuInfo) -> dict[str, str]:
    name = f"gpu{gpu.index}"
    memory = None if gpu.memory_bytes is None else format_bytes(gpu.memory_bytes)
    throttled = None if gpu.throttle_reasons is None else ", ".join(gpu.throttle_reasons) or "no"
    fields = {
        name: gpu.name,
        "  PCI bus": _stated(host, f"{name}.pci_bus_id", gpu.pci_bus_id),
        "  NUMA node": _stated(host, f"{name}.numa_node", gpu.numa_node),
        "  memory": _stated(host, f"{name}.memory_bytes", memory),
        "  MIG": _stated(host, f"{name}.mig", _MIG[gpu.mig]),
        "  PCIe": _describe_pcie(host, gpu),
        "  NVLink": _stated(host, f"{name}.nvlinks", _describe_nvlinks(host, gpu)),
        "  SM clock": _of_most(host, name, "sm_clock_hz", gpu.sm_clock_hz, gpu.max_sm_clock_hz, 1e6, " MHz"),
        "  memory clock": _of_most(host, name, "memory_clock_hz", gpu.memory_clock_hz, gpu.max_memory_clock_hz, 1e6, " MHz"),
        "  power limit": _of_most(host, name, "power_limit_w", gpu.power_limit_w, gpu.max_power_limit_w, 1.0, " W"),
        "  throttled": _stated(host, f"{name}.throttle_reasons", throttled),
    }
    if len(host.gpus) > 1:
        fields["  peer access"] = _describe_peers(host, gpu)
    return fields


def _describe_pcie(host: HostInfo, gpu: GpuInfo) -> str:
    link, field = gpu.pcie, f"gpu{gpu.index}.pcie"
    if link is None:
        return _not_stated(host, field)
    generation = _of_most(host, field, "generation", link.generation, link.max_generation, 1, "")
    width = _of_most(host, field, "width", link.width, link.max_width, 1, "")
    idle = "; an idle card may lower its generation" if (link.generation or 0) < (link.max_generation or 0) else ""
    return f"generation {generation}; lanes {width}{idle}"


def _describe_nvlinks(host: HostInfo, gpu: GpuInfo) -> str | None:
    links = gpu.nvlinks
    if not links:
        return None
    versions = "/".join(sorted({str(link.version or "unknown") for link in links if link.active})) or "unknown"
    down = [str(link.link) for link in links if not link.active]
    state = f"; down: {', '.join(down)}" if down else ""
    uncounted = host.absent.get(f"gpu{gpu.index}.nvlink_bytes")
    counters = f"; bytes not counted ({uncounted})" if uncounted else ""
    return f"version {versions}; {len(links) - len(down)} of {len(links)} links up{state}{counters}"


def _describe_topology(host: HostInfo) -> list[Block]:
    """Lay the matrix out in blocks of columns that fit."""
    blocks: list[Block] = [line("topology (NV: NVLinks; PIX, PXB: PCIe switches; PHB: host bridge; NODE, SYS)", "strong")]
    for first in range(0, len(host.gpus), _MATRIX_COLUMNS):
        shown = slice(first, first + _MATRIX_COLUMNS)
        columns = [
            Column(width=5, left=True, key=True),
            *(Column(name=f"gpu{gpu.index}", width=6, before="") for gpu in host.gpus[shown]),
        ]
        rows = [Row((f"gpu{gpu.index}", *row[shown])) for gpu, row in zip(host.gpus, host.topology, strict=True)]
        blocks.append(Table(columns=columns, rows=rows))
    return blocks


def _describe_peers(host: HostInfo, gpu: GpuInfo) -> str:
    """Say whose memory a GPU may read directly."""
    answers = {
        other.index: access for other, access in zip(host.gpus, gpu.peer_access, strict=True) if other.index != gpu.index
    }
    if None in answers.values():
        return _not_stated(host, f"gpu{gpu.index}.peer_access")
    reached = [str(index) for index, access in answers.items() if access]
    if len(reached) == len(answers):
        return "to all others"
    reasons = sorted({status for status in gpu.peer_status if status not in (None, PEER_OK)})
    return f"to {', '.join(reached) or 'none'}" + (f"; else {', '.join(map(str, reasons))}" if reasons else "")


def _describe_interface(host: HostInfo, card: InterfaceInfo) -> str:
    bits = card.speed_bits_per_s
    speed = _stated(host, f"{card.name}.speed_bits_per_s", None if bits is None else f"{bits / 1e9:g} Gbit/s")
    mtu = "" if card.mtu_bytes is None else f", MTU {card.mtu_bytes}"
    return f"{card.kind}, {'up' if card.up else 'down'}{mtu}, speed {speed}"


def _of_most(host: HostInfo, owner: str, field: str, now: float | None, most: float | None, scale: float, unit: str) -> str:
    shown = _stated(host, f"{owner}.{field}", None if now is None else f"{now / scale:g}{unit}")
    limit = _stated(host, f"{owner}.max_{field}", None if most is None else f"{most / scale:g}{unit}")
    return f"{shown}, at most {limit}"


def _stated(host: HostInfo, field: str, value: object) -> str:
    return _not_stated(host, field) if value is None else str(value)


def _not_stated(host: HostInfo, field: str) -> str:
    return f"{_UNKNOWN}{host.absent.get(field, 'the machine gives no reason')}"
