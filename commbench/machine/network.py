"""Which network interfaces has this host, and how fast are they?

From Linux's /sys alone. `class/net` gives Ethernet and virtual interfaces (Mbit/s); `class/infiniband` gives RDMA ports
(Gbit/s), InfiniBand or RoCE, named device:port as NCCL_IB_HCA writes them. RDMA traffic passes by the counters of `class/net`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from commprof.commbench.machine.facts import InterfaceInfo, InterfaceSample

_KIND_OF_HARDWARE: dict[int, Literal["ethernet", "infiniband"]] = {1: "ethernet", 32: "infiniband"}  # linux/if_arp.h
_LOOPBACK = 772
_IFF_UP = 1
_IB_WORD_BYTES = 4  # port_xmit_data and port_rcv_data count 32-bit words


def read_interfaces(sys: Path = Path("/sys")) -> tuple[tuple[InterfaceInfo, ...], dict[str, str]]:
    """Return the interfaces, and why a speed is missing, keyed "<name>.speed_bits_per_s"."""
    absent: dict[str, str] = {}
    found = [_net_interface(card, absent) for card in _folders(sys / "class/net")]
    found += [_rdma_port(port, absent) for port in _rdma_ports(sys)]
    if not found:
        absent["interfaces"] = f"Linux lists none below {sys / 'class/net'}"
    return tuple(found), absent


def read_counters(sys: Path = Path("/sys")) -> tuple[InterfaceSample, ...]:
    """Return what each interface has sent and received; one that goes away while it is read is left out."""
    found = [
        _counters(card.name, card / "statistics/tx_bytes", card / "statistics/rx_bytes", 1)
        for card in _folders(sys / "class/net")
    ]
    found += [
        _counters(_port_name(port), port / "counters/port_xmit_data", port / "counters/port_rcv_data", _IB_WORD_BYTES)
        for port in _rdma_ports(sys)
    ]
    return tuple(sample for sample in found if sample is not None)


def is_rdma_port(interface: InterfaceInfo) -> bool:
    """Tell a port of `class/infiniband` from an interface of `class/net`, whose name cannot hold a colon."""
    return ":" in interface.name


def _net_interface(card: Path, absent: dict[str, str]) -> InterfaceInfo:
    hardware = _number(card / "type")
    kind: Literal["ethernet", "infiniband", "loopback", "virtual", "other"]
    if hardware == _LOOPBACK:
        kind = "loopback"
    elif not (card / "device").exists():
        kind = "virtual"
    else:
        kind = _KIND_OF_HARDWARE.get(hardware or 0, "other")
    megabits = _number(card / "speed") if kind not in ("loopback", "virtual") else None
    if kind in ("loopback", "virtual"):
        absent[f"{card.name}.speed_bits_per_s"] = f"a {kind} interface states no true speed"
    elif megabits is None or megabits <= 0:
        absent[f"{card.name}.speed_bits_per_s"] = "its driver reports no speed; is its cable in?"
    return InterfaceInfo(
        name=card.name,
        kind=kind,
        up=_is_up(card),
        speed_bits_per_s=megabits * 1e6 if megabits is not None and megabits > 0 else None,
        mtu_bytes=_number(card / "mtu"),
    )


def _is_up(card: Path) -> bool:
    """Believe the driver's state; those without one (loopback, tun) count by the administrator's flag."""
    state = _text(card / "operstate")
    return state == "up" or (state == "unknown" and bool(int(_text(card / "flags") or "0", 16) & _IFF_UP))


def _rdma_port(port: Path, absent: dict[str, str]) -> InterfaceInfo:
    name = _port_name(port)
    gigabits = (_text(port / "rate") or "").partition(" ")[0]  # "400 Gb/sec (4X NDR)"
    try:
        speed = float(gigabits) * 1e9
    except ValueError:
        speed = 0.0
    if speed <= 0:
        absent[f"{name}.speed_bits_per_s"] = "its driver reports no rate"
    return InterfaceInfo(
        name=name,
        kind="infiniband" if _text(port / "link_layer") == "InfiniBand" else "ethernet",
        up="ACTIVE" in (_text(port / "state") or ""),
        speed_bits_per_s=speed if speed > 0 else None,
        mtu_bytes=None,
    )


def _rdma_ports(sys: Path) -> Iterator[Path]:
    for device in _folders(sys / "class/infiniband"):
        yield from _folders(device / "ports")


def _port_name(port: Path) -> str:
    return f"{port.parents[1].name}:{port.name}"


def _counters(name: str, sent: Path, received: Path, word_bytes: int) -> InterfaceSample | None:
    tx, rx = _number(sent), _number(received)
    if tx is None or rx is None:
        return None
    return InterfaceSample(name=name, tx_bytes=tx * word_bytes, rx_bytes=rx * word_bytes)


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []


def _number(path: Path) -> int | None:
    """Read a number; None where the file is missing or its driver answers with an error, as many do for `speed`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
