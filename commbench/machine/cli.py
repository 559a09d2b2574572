"""`commprof env`: what would be recorded about this machine, as text for 80 columns or as one HostInfo document.

What the machine does not state is said together with the reason. Nothing is guessed, and no variable beyond the
allow-list of hardware.py is read. It needs no torch and answers in a fraction of a second.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from commprof.commbench.machine.facts import GpuInfo, HostInfo, InterfaceInfo, NvLink
from commprof.commbench.units import format_bytes, printable
from commprof.commbench.verb import Verb

_WIDTH = 80
_LABEL = 13
_MATRIX_COLUMNS = 12  # GPUs side by side in 80 columns


def add_env_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document (HostInfo)")


def env(args: argparse.Namespace) -> int:
    """Print this host's facts."""
    from commprof.commbench.machine.hardware import host_info

    host = host_info()
    if args.json:
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(host), indent=1).decode() + "\n")
    else:
        sys.stdout.write("\n".join(describe(host)) + "\n")
    return 0


def describe(host: HostInfo) -> list[str]:
    """Return the lines of the text, each within 80 columns and safe for a terminal."""
    lines = _describe_host(host)
    lines += [line for gpu in host.gpus for line in _describe_gpu(host, gpu)] or _field("GPUs", _not_stated(host, "gpus"))
    lost = [name for name in host.absent if name.removeprefix("gpu").isdecimal()]
    lines += [line for name in lost for line in _field(name, _not_stated(host, name))]
    if len(host.gpus) > 1:
        lines += _describe_topology(host)
    lines.append("network")
    lines += [line for card in host.interfaces for line in _field(f"  {card.name}", _describe_interface(host, card))]
    if not host.interfaces:
        lines += _field("  interfaces", _not_stated(host, "interfaces"))
    lines.append("variables")
    lines += [line for name in sorted(host.environ) for line in _field("", f"{name}={host.environ[name]}", label_width=2)]
    return lines if host.environ else [*lines, "  none of those that are recorded is set"]


def _describe_host(host: HostInfo) -> list[str]:
    software = host.software
    memory = None if host.memory_bytes is None else format_bytes(host.memory_bytes)
    fields = {
        "host": host.hostname,
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
    return [line for label, text in fields.items() for line in _field(label, text)]


def _describe_gpu(host: HostInfo, gpu: GpuInfo) -> list[str]:
    name = f"gpu{gpu.index}"
    memory = None if gpu.memory_bytes is None else format_bytes(gpu.memory_bytes)
    throttled = None if gpu.throttle_reasons is None else ", ".join(gpu.throttle_reasons) or "no"
    fields = {
        name: gpu.name,
        "  PCI bus": _stated(host, f"{name}.pci_bus_id", gpu.pci_bus_id),
        "  NUMA node": _stated(host, f"{name}.numa_node", gpu.numa_node),
        "  memory": _stated(host, f"{name}.memory_bytes", memory),
        "  PCIe": _describe_pcie(host, gpu),
        "  NVLink": _stated(host, f"{name}.nvlinks", _describe_nvlinks(gpu.nvlinks)),
        "  SM clock": _of_most(host, name, "sm_clock_hz", gpu.sm_clock_hz, gpu.max_sm_clock_hz, 1e6, " MHz"),
        "  memory clock": _of_most(host, name, "memory_clock_hz", gpu.memory_clock_hz, gpu.max_memory_clock_hz, 1e6, " MHz"),
        "  power limit": _of_most(host, name, "power_limit_w", gpu.power_limit_w, gpu.max_power_limit_w, 1.0, " W"),
        "  throttled": _stated(host, f"{name}.throttle_reasons", throttled),
    }
    if len(host.gpus) > 1:
        fields["  peer access"] = _describe_peers(host, gpu)
    return [line for label, text in fields.items() for line in _field(label, text)]


def _describe_pcie(host: HostInfo, gpu: GpuInfo) -> str:
    link, field = gpu.pcie, f"gpu{gpu.index}.pcie"
    if link is None:
        return _not_stated(host, field)
    generation = _of_most(host, field, "generation", link.generation, link.max_generation, 1, "")
    width = _of_most(host, field, "width", link.width, link.max_width, 1, "")
    idle = "; an idle card may lower its generation" if (link.generation or 0) < (link.max_generation or 0) else ""
    return f"generation {generation}; lanes {width}{idle}"


def _describe_nvlinks(links: Sequence[NvLink]) -> str | None:
    if not links:
        return None
    versions = "/".join(sorted({str(link.version or "unknown") for link in links if link.active})) or "unknown"
    down = [str(link.link) for link in links if not link.active]
    state = f"; down: {', '.join(down)}" if down else ""
    return f"version {versions}; {len(links) - len(down)} of {len(links)} links up{state}"


def _describe_topology(host: HostInfo) -> list[str]:
    """Lay the matrix out in blocks of columns that fit."""
    lines = ["topology (NV: NVLinks; PIX, PXB: PCIe switches; PHB: host bridge; NODE, SYS)"]
    for first in range(0, len(host.gpus), _MATRIX_COLUMNS):
        shown = slice(first, first + _MATRIX_COLUMNS)
        lines.append(" " * 7 + "".join(f"{f'gpu{gpu.index}':>6}" for gpu in host.gpus[shown]))
        lines += [
            f"  {f'gpu{gpu.index}':5}" + "".join(f"{connection:>6}" for connection in row[shown])
            for gpu, row in zip(host.gpus, host.topology, strict=True)
        ]
    return lines


def _describe_peers(host: HostInfo, gpu: GpuInfo) -> str:
    """Say whose memory a GPU may read directly."""
    answers = {
        other.index: access for other, access in zip(host.gpus, gpu.peer_access, strict=True) if other.index != gpu.index
    }
    if None in answers.values():
        return _not_stated(host, f"gpu{gpu.index}.peer_access")
    reached = [str(index) for index, access in answers.items() if access]
    return "to all others" if len(reached) == len(answers) else f"to {', '.join(reached) or 'none'}"


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
    return f"not stated: {host.absent.get(field, 'the machine gives no reason')}"


def _field(label: str, text: str, label_width: int = _LABEL + 2) -> list[str]:
    """Put a label before a text, continuing below its first column; whatever is too long for a line is broken."""
    head = f"{printable(label):{label_width}}"
    if len(head) > label_width:
        head += " "
    return textwrap.wrap(
        printable(text) or "-", _WIDTH, initial_indent=head, subsequent_indent=" " * label_width, break_on_hyphens=False
    )


VERB = Verb(
    summary="what would be recorded about this machine: GPUs, links, network, versions, variables",
    examples=("commprof env", "commprof env --json > machine.json", "srun --ntasks-per-node 1 commprof env --json"),
    add_arguments=add_env_arguments,
    check=lambda args: None,
    run=env,
)
