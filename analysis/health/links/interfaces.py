"""Did the traffic between hosts take the fastest interface? Which one it took is set, or its counters tell.

NCCL's socket transport and gloo use the interface that NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names. NCCL over RDMA
(InfiniBand, RoCE; ports named device:port) uses NCCL_SOCKET_IFNAME only to meet; NCCL_IB_DISABLE=1 forbids RDMA and leaves
sockets. RDMA passes by the counters of network interfaces, so that one whose bytes grow like the messages carried TCP.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from commprof.analysis.health.evidence import Evidence, some, unchecked
from commprof.analysis.health.results import Verdict
from commprof.commbench.machine.facts import HostInfo, InterfaceInfo
from commprof.commbench.records.types import RunInfo
from commprof.commbench.units import format_bytes

_CARRIED = 0.25  # of all messages' bytes: every host sends each about once in a ring, and meeting costs next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """The interface a host's traffic took, and what is wrong with it: surely, or unless the traffic took another way."""

    taken: InterfaceInfo | None
    fault: str = ""
    sure: bool = False


def wire(evidence: Evidence) -> Iterator[Verdict]:
    """Yield whether a faster interface lay idle; nothing for one host, whose ranks need no network, or an unknown number."""
    if evidence.run.num_nodes in (1, None):
        return
    if not evidence.hosts:
        yield unchecked("network", "the run has no environment.json")
        return
    findings = [_finding(evidence, host) for host in evidence.hosts]
    sure = [found.fault for found in findings if found.fault and found.sure]
    faults = sure or [found.fault for found in findings if found.fault]
    taken = sorted({f"{found.taken.name} ({_speed(found.taken)})" for found in findings if found.taken is not None})
    if faults:
        yield Verdict(name="network", ok=not sure, note=not sure, message=some(faults))
    elif taken:
        yield Verdict(name="network", ok=True, message=f"{some(taken)}: no faster interface was up")
    else:
        yield unchecked("network", f"{_variable(evidence.run.info)} and telemetry.jsonl name no interface of known speed")


def _finding(evidence: Evidence, host: HostInfo) -> _Finding:
    info = evidence.run.info
    fabric = _fabric(host)
    if info.backend == "nccl" and fabric is not None:
        return _beside_fabric(evidence, host, fabric)
    taken = _taken(evidence, host)
    if taken is None or not taken.speed_bits_per_s:
        return _Finding(taken=None)
    best = max(_cards(host), key=_bits_per_s, default=taken)
    if _bits_per_s(best) <= taken.speed_bits_per_s:
        return _Finding(taken=taken)
    sure = info.backend == "gloo" or _rdma_forbidden(info)
    fault = f"{host.hostname}: traffic over {taken.name} ({_speed(taken)}) while {best.name} ({_speed(best)}) is up; "
    fault += f"set {_variable(info)}={best.name}" + ("" if sure else ", unless a plugin of NCCL carried it")
    return _Finding(taken=taken, fault=fault, sure=sure)


def _beside_fabric(evidence: Evidence, host: HostInfo, fabric: InterfaceInfo) -> _Finding:
    """With RDMA up NCCL takes it, unless that is forbidden or the bytes went elsewhere. RoCE also needs a network for it."""
    sure = fabric.kind == "infiniband"
    name = f"{fabric.name} ({'InfiniBand' if sure else 'RDMA'}, {_speed(fabric)})"
    if _rdma_forbidden(evidence.run.info):
        fault = f"{host.hostname}: NCCL_IB_DISABLE=1 while {name} is up; unset it"
        return _Finding(taken=None, fault=fault, sure=sure)
    payload = sum(m.message_bytes * len(m.slowest_rank_s) * m.calls_per_sample for m in evidence.run.collectives)
    sent = _sent_bytes(evidence, host)
    carrier = max(sent, key=lambda name: sent[name], default="")
    if not payload or sent.get(carrier, 0) < _CARRIED * payload:
        return _Finding(taken=fabric)
    fault = (
        f"{host.hostname}: {carrier} sent {format_bytes(sent[carrier])} over TCP during the run, whose messages are "
        f"{format_bytes(payload)}, while {name} is up; NCCL_DEBUG=INFO tells why NCCL left it"
    )
    return _Finding(taken=None, fault=fault, sure=sure)


def _taken(evidence: Evidence, host: HostInfo) -> InterfaceInfo | None:
    """Return the interface sockets took: the one that is set, else the one whose counter grew most."""
    setting = evidence.run.info.environ.get(_variable(evidence.run.info), "")
    if named := _named(setting, host.interfaces):
        return max(named, key=_bits_per_s)
    sent = _sent_bytes(evidence, host)
    used = [interface for interface in _cards(host) if sent.get(interface.name, 0) > 0]
    return max(used, key=lambda interface: sent[interface.name], default=None)


def _sent_bytes(evidence: Evidence, host: HostInfo) -> dict[str, int]:
    """Return what each card sent over sockets between the first and the last sample of a run."""
    samples = [sample for sample in evidence.telemetry or () if sample.hostname == host.hostname]
    if len(samples) < 2:
        return {}
    real = {interface.name for interface in _cards(host)}
    before = {counter.name: counter.tx_bytes for counter in samples[0].interfaces if counter.name in real}
    return {c.name: c.tx_bytes - before[c.name] for c in samples[-1].interfaces if c.name in before}


def _named(setting: str, interfaces: Sequence[InterfaceInfo]) -> list[InterfaceInfo]:
    """Return the interfaces that a setting names: a list of beginnings, or of whole names after `=`; `^` excludes."""
    if not setting or setting.startswith("^"):
        return []
    words = tuple(word for word in setting.removeprefix("=").split(",") if word)
    if setting.startswith("="):
        return [interface for interface in interfaces if interface.name in words]
    return [interface for interface in interfaces if interface.name.startswith(words)]


def _cards(host: HostInfo) -> list[InterfaceInfo]:
    """Return the interfaces that are up, real and take sockets."""
    return [i for i in host.interfaces if i.up and i.kind in ("ethernet", "infiniband") and not _is_rdma_port(i)]


def _fabric(host: HostInfo) -> InterfaceInfo | None:
    """Return the RDMA port NCCL would take: InfiniBand before RoCE, the fastest of them."""
    ports = [i for i in host.interfaces if i.up and (_is_rdma_port(i) or i.kind == "infiniband")]
    return max(ports, key=lambda port: (port.kind == "infiniband", _bits_per_s(port)), default=None)


def _is_rdma_port(interface: InterfaceInfo) -> bool:
    return ":" in interface.name  # device:port; no network interface may have a colon in its name


def _rdma_forbidden(info: RunInfo) -> bool:
    return info.environ.get("NCCL_IB_DISABLE") == "1"


def _variable(info: RunInfo) -> str:
    return "NCCL_SOCKET_IFNAME" if info.backend == "nccl" else "GLOO_SOCKET_IFNAME"


def _bits_per_s(interface: InterfaceInfo) -> float:
    return interface.speed_bits_per_s or 0.0


def _speed(interface: InterfaceInfo) -> str:
    return f"{interface.speed_bits_per_s / 1e9:g} Gbit/s" if interface.speed_bits_per_s else "speed not stated"
