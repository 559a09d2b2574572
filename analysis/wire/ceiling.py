"""What could a bench's links have carried at best, as bus bandwidth, and how much of it did the all-reduce reach?

busbw at which the busiest link is full = link speed * busbw / wire speed (ceiling.py). The link is read from the first host's
environment.json; an emulated wire's rate is its name. None where neither tells, with the reason.
"""

from dataclasses import dataclass

from commprof.analysis.runs.load import Run
from commprof.commbench.bench.ceiling import Ceiling, collective_ceiling, wire_bytes_per_s
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, Hosts
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_document
from commprof.commbench.units import parse_line_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class WireCeiling:
    """The all-reduce's bus bandwidth when the busiest link is full; None where no link's speed is known, and why."""

    busbw_bytes_per_s: float | None
    reason: str


def wire_ceiling(run: Run) -> WireCeiling:
    """Return the ceiling of a bench's all-reduce; raise BadInput where environment.json is malformed."""
    ceiling = _ceiling(run)
    if ceiling.bytes_per_s is None or ceiling.algorithm is None:
        return WireCeiling(busbw_bytes_per_s=None, reason=ceiling.reason)
    per_algbw = wire_bytes_per_s(
        1.0,
        run.world_size,
        ceiling.algorithm,
        num_nodes=ceiling.num_nodes,
        interfaces_per_node=ceiling.interfaces_per_node,
    )
    busbw = ceiling.bytes_per_s * OPERATIONS["all_reduce"].bus_factor(run.world_size) / per_algbw
    return WireCeiling(busbw_bytes_per_s=busbw, reason=f"{ceiling.reason}, as a {ceiling.algorithm}")


def _ceiling(run: Run) -> Ceiling:
    info, path = run.info, run.path / ENVIRONMENT_FILE
    num_nodes = min(max(1, info.num_nodes), run.world_size)
    if (rate := line_rate(info.wire)) is not None:
        return Ceiling(bytes_per_s=rate / 8, reason=f"the emulated line of {info.wire}", algorithm="ring", num_nodes=num_nodes)
    if info.imported_from is not None or not path.exists():
        return Ceiling(bytes_per_s=None, reason="the run does not say what its links are")
    hosts = read_document(path, Hosts)
    here = [rank.pci_bus_id for rank in info.ranks if rank.hostname == hosts[0].hostname and rank.pci_bus_id]
    return collective_ceiling(
        hosts[0],
        backend=info.backend,
        op="all_reduce",
        world_size=run.world_size,
        num_nodes=num_nodes,
        pci_bus_ids=here,
    )


def line_rate(wire: str | None) -> float | None:
    """Return a wire's bits per second from its name; None for the machine's own, or a name that tells none."""
    try:
        return None if wire is None else parse_line_rate(wire.partition("+")[0])
    except BadInput:
        return None
