"""Is this bandwidth what such a link gives? The all-reduce's best busbw beside the busiest link's rate.

The link is what somebody says lies between the ranks, else what the run's own machine states (analysis/wire/ceiling.py); where
neither tells, nothing is said. Half of the rate is where a note begins: the published curves whose link is known reach 59 to
98 % of it. A sweep that ends before messages are large, or ranks whose cores others took, accuse no link.
"""

from collections.abc import Iterator

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.links.stated import StatedLink, parse_link
from commprof.analysis.health.results import Verdict
from commprof.analysis.readers.presets import preset
from commprof.analysis.runs.disturbance import most_disturbed
from commprof.analysis.wire.ceiling import WireCeiling, ceiling_of, wire_ceiling
from commprof.commbench.bench.ceiling import Ceiling
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_rate

_LITTLE = 0.5  # of the link's rate
_ABOVE = 1.02  # of it: more than timing's error
_LARGE_BYTES = 2**24  # a sweep that ends below says nothing of a link that is hardly used
_PUBLISHED = {"nvlink3": "a100x8-nvlink", "nvlink4": "h100x8-nvlink", "pcie3x16": "v100x4-pcie"}  # curves of a known link
_SAME_RATE = 0.01
_NAME = "bandwidth"
_IN_MEMORY = (
    "ranks on CPUs that share one host talk through its memory, whose speed is its cores' and no link's; bench two hosts for "
    "the network between them"
)
_SAY_IT = "say what lies between the ranks, such as --wire 100gbit, hdr, pcie4x16 or nvlink4"


def bandwidth(evidence: Evidence, stated: StatedLink | None = None) -> Iterator[Verdict]:
    """Yield the share of the link that the all-reduce reached, or why it cannot be told; nothing where none was measured."""
    known = [m for m in evidence.run.collectives if m.op == "all_reduce" and m.world_size > 1 and m.message_bytes > 0]
    if not known:
        return
    if stated is None and _by_memory(evidence):
        yield _untold(_IN_MEMORY)
        return
    ceiling = wire_ceiling(evidence.run) if stated is None else ceiling_of(evidence.run, _fits(evidence, stated))
    if ceiling.busbw_bytes_per_s is None:
        yield _untold(ceiling.reason if stated is not None else f"{ceiling.reason}; {_SAY_IT}")
        return
    best = max(known, key=lambda m: m.busbw_bytes_per_s)
    yield _judged(evidence, best, max(m.message_bytes for m in known), ceiling, ceiling.busbw_bytes_per_s)


def _by_memory(evidence: Evidence) -> bool:
    info = evidence.run.info
    return info.on_cpu and evidence.run.num_nodes == 1 and info.wire is None and info.imported_from is None


def _untold(reason: str) -> Verdict:
    return Verdict(name=_NAME, ok=None, message=f"cannot be told, because {reason}")


def _fits(evidence: Evidence, link: StatedLink) -> Ceiling:
    """Return the stated link as what limits these ranks; without a rate where it cannot lie between them."""
    info, num_nodes = evidence.run.info, evidence.run.num_nodes
    reason = ""
    if link.inside and (info.on_cpu or (num_nodes or 1) > 1):
        reason = f"{link.name} joins GPUs of one host, and these ranks " + (
            "are on CPUs" if info.on_cpu else f"are on {num_nodes} hosts: state what lies between those"
        )
    elif not link.inside and num_nodes is None:
        reason = f"{link.name} lies between hosts, and the log does not say on how many its ranks were"
    elif not link.inside and num_nodes == 1:
        reason = f"{link.name} lies between hosts, and these ranks share one"
    if reason:
        return Ceiling(bytes_per_s=None, reason=reason)
    return Ceiling(
        bytes_per_s=link.bytes_per_s,
        reason=link.name,
        algorithm="ring" if link.inside or info.on_cpu else "hierarchical",
        num_nodes=1 if link.inside else num_nodes or 1,
        interfaces_per_node=link.count,
    )


def _judged(evidence: Evidence, best: CollectiveMeasurement, largest_bytes: int, ceiling: WireCeiling, limit: float) -> Verdict:
    rate = best.busbw_bytes_per_s
    share = rate / limit
    told = (
        f"busbw {format_rate(rate)} at {format_bytes(best.message_bytes)} is {share:.0%} of the {format_rate(limit)} that the "
        f"link carries at best ({ceiling.reason}){_published(evidence, limit)}"
    )
    if share < _LITTLE:
        if others := most_disturbed(evidence.run, evidence.hosts, evidence.telemetry):
            return _untold(f"{others}; {told}")
        if largest_bytes < _LARGE_BYTES:
            return _untold(f"messages of {format_bytes(largest_bytes)} at most hardly use a link; bench up to 64M; {told}")
        told += f": less than half; {_look_at(evidence)}"
    elif share > _ABOVE:
        told += ": more than this way gets out of it; the switch adds as well (NVLS), or the link is another one"
    noted = share < _LITTLE or share > _ABOVE
    return Verdict(name=_NAME, ok=True, note=noted, measured=rate, limit=limit, unit="B/s", message=told)


def _published(evidence: Evidence, limit: float) -> str:
    """Say what a published curve over a link of the same rate reached, of GPUs on one host."""
    if evidence.run.info.on_cpu or evidence.run.num_nodes not in (1, None):
        return ""
    names = [name for link, name in _PUBLISHED.items() if abs(parse_link(link).bytes_per_s / limit - 1) < _SAME_RATE]
    told = [f"; the published {name} reached {_best_busbw(name) / limit:.0%} of as much" for name in names]
    return "".join(told)


def _best_busbw(name: str) -> float:
    """Return the best bus bandwidth of a published all-reduce, bytes/s."""
    curve = preset(name)
    assert curve.op is not None and curve.num_ranks is not None, "each of ours says so"
    factor = OPERATIONS[curve.op].bus_factor(curve.num_ranks)
    return max(factor * row.message_bytes / row.time_s.value for row in curve.times)


def _look_at(evidence: Evidence) -> str:
    if (evidence.run.num_nodes or 1) > 1:
        if evidence.run.info.on_cpu:
            return "look at the interface that carried it (GLOO_SOCKET_IFNAME), its MTU, and the cores that TCP takes"
        return "look at the adapters that NCCL took (NCCL_DEBUG=INFO), at GPUDirect RDMA, and at the adapters' PCIe slots"
    return "look at the GPUs' peer access and lanes (pcie, nvlink and peer access here; nvidia-smi topo -m)"
