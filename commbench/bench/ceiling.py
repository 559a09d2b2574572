"""How fast could a collective be at best on these links, and what share of that did it reach?

The wire speed is what the busiest link carries in one direction. It follows from algbw = S/t and from how the n ranks
share the work; k nodes have c network interfaces each:

    ring            busbw = algbw * 2(n-1)/n          each rank sends 2(n-1) pieces of S/n
    tree            algbw * 2, algbw with 2 ranks     an inner rank passes S up and S down
    NVLS            algbw * (n+1)/n                   the switch adds and copies: S to it, and 1/n of the sum back to it
    hierarchical    busbw * n(k-1)/(k(n-1)) / c       per interface: nodes reduce inside first; busbw * (k-1)/(n-1) when c = n/k

NCCL picks among them by size and does not say which it took; busbw alone is above the wire for NVLS. Where NCCL_ALGO does not
tell, the share is a ring's on one node; on several it is the hierarchical one, the least that the interfaces must carry.
Link speeds: one direction, payload before protocol overhead, bytes/s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from commprof.commbench.machine.facts import GpuInfo, HostInfo, InterfaceInfo
from commprof.commbench.machine.network import is_rdma_port
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement

Algorithm = Literal["ring", "tree", "NVLS", "hierarchical", "direct"]

# PCIe per lane by generation (PCI-SIG line rates after 128b/130b); NVLink per link by version: 1 20, 2 to 4 25, 5 50 GB/s
# (NVIDIA architecture white papers).
PCIE_LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
NVLINK_BYTES_PER_S = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}
_NVLS_VERSION = 4  # the first NVLink whose switch can add
_RINGS = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most one link can carry in one direction, and where that figure comes from. None: the machine does not say.

    `algorithm` is the one that shares of this ceiling are counted for; None where no formula here fits.
    """

    bytes_per_s: float | None
    reason: str
    algorithm: Algorithm | None = None
    num_nodes: int = 1
    interfaces_per_node: int = 1


def collective_ceiling(
    host: HostInfo, *, backend: str, op: str, world_size: int, num_nodes: int, pci_bus_ids: Collection[str] = ()
) -> Ceiling:
    """Return the ceiling of a collective; `pci_bus_ids` are the GPUs of this host's ranks, as RankInfo has them.

    Hosts are taken to have the same links, and nodes to talk over network interfaces: NVLink between hosts is not recognised.
    """
    if world_size < 2 or op == "barrier":
        return Ceiling(bytes_per_s=None, reason="one rank sends nothing" if world_size < 2 else "a barrier carries no data")
    if backend != "nccl":
        link = gloo_link(host.interfaces, num_nodes, host.environ.get("GLOO_SOCKET_IFNAME"))
        return _counted(link, "ring" if op in _RINGS else "direct", num_nodes)
    gpus = [gpu for gpu in host.gpus if gpu.pci_bus_id in set(pci_bus_ids)]
    possible = possible_algorithms(host, gpus, op, num_nodes)
    if num_nodes > 1:
        link = _fastest_interfaces(host)
    elif len(gpus) < world_size:
        link = Ceiling(bytes_per_s=None, reason=f"NVML lists {len(gpus)} of the {world_size} ranks' GPUs")
    else:
        link = _peer_link(host, gpus)
    return _named(link, possible, num_nodes)


def wire_bytes_per_s(
    algbw: float,
    world_size: int,
    algorithm: Algorithm,
    *,
    op: str = "all_reduce",
    num_nodes: int = 1,
    interfaces_per_node: int = 1,
) -> float:
    """Return what the busiest link carries, in the unit of algbw: a GPU's links on one node, an interface on several."""
    assert world_size >= 2 and 1 <= num_nodes <= world_size
    busbw = algbw * OPERATIONS[op].bus_factor(world_size)
    if algorithm == "tree":
        return algbw * min(2, (num_nodes if num_nodes > 1 else world_size) - 1) / interfaces_per_node
    if num_nodes > 1:
        return busbw * _crossing_share(op, algorithm, world_size, num_nodes) / interfaces_per_node
    return algbw * (world_size + 1) / world_size if algorithm == "NVLS" else busbw


def share_reached(measurement: CollectiveMeasurement, ceiling: Ceiling) -> float | None:
    """Return the measured wire speed over the ceiling; above 1 it cannot have been that algorithm. None: one is unknown."""
    if ceiling.bytes_per_s is None or ceiling.algorithm is None:
        return None
    wire = wire_bytes_per_s(
        measurement.algbw_bytes_per_s,
        measurement.world_size,
        ceiling.algorithm,
        op=measurement.op,
        num_nodes=ceiling.num_nodes,
        interfaces_per_node=ceiling.interfaces_per_node,
    )
    return wire / ceiling.bytes_per_s


def possible_algorithms(host: HostInfo, gpus: Sequence[GpuInfo], op: str, num_nodes: int) -> tuple[Algorithm, ...]:
    """Return which formulas NCCL's choice may follow; NVLS only where NVLink 4 or newer joins all pairs.

    Empty where NCCL_ALGO names only algorithms that have no formula here.
    """
    if op not in _RINGS:
        return ("direct",)
    if op != "all_reduce":
        return ("ring",) if num_nodes == 1 else ("hierarchical", "ring")
    if num_nodes > 1:
        return _allowed(host.environ, op, ("hierarchical", "ring", "tree"))
    switched = _all_linked(host, gpus) and all(
        link.version is not None and link.version >= _NVLS_VERSION for gpu in gpus for link in gpu.nvlinks if link.active
    )
    nvls: tuple[Algorithm, ...] = ("NVLS",) if switched and host.environ.get("NCCL_NVLS_ENABLE") != "0" else ()
    return _allowed(host.environ, op, ("ring", "tree", *nvls))


def gloo_link(interfaces: Sequence[InterfaceInfo], num_nodes: int, name: str | None) -> Ceiling:
    """Return the line rate under gloo: the named interface's, where ranks are on several nodes and it is real."""
    if num_nodes == 1:
        return Ceiling(bytes_per_s=None, reason="ranks share one host and talk through its memory; no link to read")
    if name is None:
        return Ceiling(bytes_per_s=None, reason="set GLOO_SOCKET_IFNAME to have the interface's speed read")
    card = next((interface for interface in interfaces if interface.name == name), None)
    if card is None:
        return Ceiling(bytes_per_s=None, reason=f"this host has no interface {name}")
    if card.kind in ("virtual", "loopback"):
        return Ceiling(bytes_per_s=None, reason=f"{name} is a {card.kind} interface and states no true speed")
    if card.speed_bits_per_s is None:
        return Ceiling(bytes_per_s=None, reason=f"{name} reports no speed; is its cable in?")
    return Ceiling(bytes_per_s=card.speed_bits_per_s / 8, reason=f"{name} runs at {card.speed_bits_per_s / 1e9:g} Gbit/s")


def _crossing_share(op: str, algorithm: Algorithm, world_size: int, num_nodes: int) -> float:
    """Return what leaves (or enters) one node over busbw.

    A ring crosses each node's border once with all that it carries. Whatever is reduced or gathered inside a node first crosses
    it once for the other nodes: n(k-1)/k of n-1 shares. In an all-to-all each of the node's n/k ranks sends that for itself.
    """
    if algorithm == "ring" or op in ("broadcast", "reduce", "send_recv"):
        return 1.0
    outside = world_size * (num_nodes - 1) / num_nodes / (world_size - 1)
    return outside * world_size / num_nodes if op == "all_to_all" else outside


def _counted(link: Ceiling, algorithm: Algorithm | None, num_nodes: int, interfaces_per_node: int = 1) -> Ceiling:
    return Ceiling(
        bytes_per_s=link.bytes_per_s,
        reason=link.reason,
        algorithm=algorithm,
        num_nodes=num_nodes,
        interfaces_per_node=interfaces_per_node,
    )


def _named(link: Ceiling, possible: Sequence[Algorithm], num_nodes: int) -> Ceiling:
    """Add to a link the algorithm that its share is counted for, and say what else it might have been."""
    note = ""
    if not possible:
        note = "; no wire formula for what NCCL_ALGO names"
    elif len(possible) > 1:
        note = f"; NCCL may use {', '.join(possible)}: shares are counted as {possible[0]}, set NCCL_ALGO to know"
    noted = Ceiling(bytes_per_s=link.bytes_per_s, reason=link.reason + note)
    return _counted(noted, possible[0] if possible else None, num_nodes, link.interfaces_per_node)


def _allowed(environ: Mapping[str, str], op: str, candidates: tuple[Algorithm, ...]) -> tuple[Algorithm, ...]:
    """Keep what NCCL_ALGO allows: `Ring,Tree`, `^NVLS`, or per collective `allreduce:ring;broadcast:ring`."""
    for part in environ.get("NCCL_ALGO", "").lower().split(";"):
        target, _, names = part.rpartition(":")
        if not names or target not in ("", op.replace("_", "")):
            continue
        listed = names.lstrip("^").split(",")
        excluded = names.startswith("^")
        return tuple(name for name in candidates if (_nccl_name(name) in listed) != excluded)
    return candidates


def _nccl_name(algorithm: Algorithm) -> str:
    """Name an algorithm as NCCL_ALGO does; NCCL's hierarchical one reduces in the switches and goes on as a tree of nodes."""
    return "nvlstree" if algorithm == "hierarchical" else algorithm.lower()


def _peer_link(host: HostInfo, gpus: Sequence[GpuInfo]) -> Ceiling:
    """Return the slowest GPU's link to the others: a ring is as fast as its slowest hop."""
    off = host.environ.get("NCCL_P2P_DISABLE") == "1"
    linked = not off and _all_linked(host, gpus, direct=False)
    links = [_nvlink(gpu, _links_to(host, gpu, gpus)) if linked else _pcie(gpu) for gpu in gpus]
    unknown = next((link for link in links if link.bytes_per_s is None), None)
    slowest = unknown or min(links, key=lambda link: link.bytes_per_s or 0.0)
    return Ceiling(bytes_per_s=slowest.bytes_per_s, reason=slowest.reason + (", NCCL_P2P_DISABLE=1" if off else ""))


def _all_linked(host: HostInfo, gpus: Sequence[GpuInfo], *, direct: bool = True) -> bool:
    """Whether NVLink joins all pairs of these GPUs, or, not `direct`, whether it reaches all of them over others."""
    if len(gpus) < 2:
        return False
    if direct:
        return all(_pair_links(host, one, other) for one in gpus for other in gpus if one is not other)
    reached, waiting = {gpus[0].index}, [gpus[0]]
    while waiting:
        one = waiting.pop()
        near = [gpu for gpu in gpus if gpu.index not in reached and _pair_links(host, one, gpu)]
        reached.update(gpu.index for gpu in near)
        waiting += near
    return len(reached) == len(gpus)


def _links_to(host: HostInfo, gpu: GpuInfo, others: Sequence[GpuInfo]) -> int:
    """Count a GPU's links towards the others; through switches every pair shows them all, so no more than are up."""
    pairs = sum(_pair_links(host, gpu, other) for other in others if other is not gpu)
    return min(pairs, sum(link.active for link in gpu.nvlinks))


def _pair_links(host: HostInfo, one: GpuInfo, other: GpuInfo) -> int:
    connection = host.topology[host.gpus.index(one)][host.gpus.index(other)]
    return int(connection[2:]) if connection.startswith("NV") else 0


def _nvlink(gpu: GpuInfo, links: int) -> Ceiling:
    version = max((link.version or 0 for link in gpu.nvlinks if link.active), default=0)
    speed = NVLINK_BYTES_PER_S.get(version)
    if speed is None:
        return Ceiling(bytes_per_s=None, reason=f"the speed of gpu{gpu.index}'s {links} NVLinks is not known here")
    return Ceiling(bytes_per_s=links * speed, reason=f"{links} NVLinks of version {version}")


def _pcie(gpu: GpuInfo) -> Ceiling:
    """Return PCIe at the trained width and the highest generation: an idle card lowers its generation, never its width."""
    if gpu.pcie is None or gpu.pcie.width is None:
        return Ceiling(bytes_per_s=None, reason=f"NVML does not state gpu{gpu.index}'s PCIe link")
    now, most = gpu.pcie.generation, gpu.pcie.max_generation or gpu.pcie.generation
    lane = PCIE_LANE_BYTES_PER_S.get(most or 0)
    if lane is None:
        return Ceiling(bytes_per_s=None, reason=f"PCIe generation {most} is unknown")
    lower = f", trained to generation {now} now (idle cards save power)" if now is not None and now != most else ""
    return Ceiling(bytes_per_s=lane * gpu.pcie.width, reason=f"PCIe generation {most}, {gpu.pcie.width} lanes{lower}")


def _fastest_interfaces(host: HostInfo) -> Ceiling:
    """Return one of the fastest interfaces that NCCL may use, and how many of them a node has."""
    rdma = [card for card in host.interfaces if is_rdma_port(card)] if host.environ.get("NCCL_IB_DISABLE") != "1" else []
    variable = "NCCL_IB_HCA" if rdma else "NCCL_SOCKET_IFNAME"
    cards = rdma or [card for card in host.interfaces if card.kind in ("ethernet", "infiniband") and not is_rdma_port(card)]
    usable = [card for card in cards if card.up and _selected(card.name, host.environ.get(variable, ""))]
    speeds = [card.speed_bits_per_s for card in usable if card.speed_bits_per_s is not None]
    if not speeds:
        return Ceiling(bytes_per_s=None, reason=f"no interface that NCCL may use states its speed; {variable} names them")
    fastest = max(speeds)
    count = speeds.count(fastest)
    reason = f"{count} x {fastest / 1e9:g} Gbit/s a node ({'RDMA' if rdma else 'sockets'}); {variable} names those to use"
    return Ceiling(bytes_per_s=fastest / 8, reason=reason, interfaces_per_node=count)


def _selected(name: str, pattern: str) -> bool:
    """Match as NCCL does: prefixes, `=` for whole names, `^` for all but these."""
    if not pattern:
        return True
    names = pattern.lstrip("^=").split(",")
    exact = pattern.lstrip("^").startswith("=")
    device = name.partition(":")[0]
    hit = any(item in (name, device) if exact else name.startswith(item) for item in names)
    return hit != pattern.startswith("^")
