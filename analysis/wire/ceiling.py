"""What could a bench's links have carried at best, as bus bandwidth, and how much of it did the all-reduce reach?

busbw at which the busiest link is full = link speed * busbw / wire speed (ceiling.py). The link is read from the first host's
environment.json; an emulated wire's rates are its name. None where neither tells, with the reason.

Of an emulated wire's k hosts, filled one after the other, a ring enters and leaves each once, with busbw:

    busbw <= slowest of the k lines,  each rank's line inside,  spine / k
"""

from dataclasses import dataclass

from commprof.analysis.runs.load import Run
from commprof.commbench.bench.ceiling import Ceiling, collective_ceiling, wire_bytes_per_s
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, Hosts
from commprof.commbench.machine.wire import Wire, parse_wire
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class WireCeiling:
    """The all-reduce's bus bandwidth when the busiest link is full; None where no link's speed is known, and why."""

    busbw_bytes_per_s: float | None
    reason: str


def wire_ceiling(run: Run) -> WireCeiling:
    """Return the ceiling of a bench's all-reduce; raise BadInput where environment.json is malformed."""
    return ceiling_of(run, _ceiling(run))


def ceiling_of(run: Run, ceiling: Ceiling) -> WireCeiling:
    """Return the all-reduce's bus bandwidth at which a link is full."""
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
    if info.wire is not None:
        return _emulated(info.wire, num_nodes)
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


def _emulated(name: str, num_nodes: int) -> Ceiling:
    wire = _wire(name)
    if wire is None or 1 < len(wire.lines_bits_per_s) < num_nodes:
        return Ceiling(bytes_per_s=None, reason=f"the name of the wire, {name}, does not tell its rate")
    limits = [] if wire.inside_bits_per_s is None else [wire.inside_bits_per_s]
    if num_nodes > 1:
        limits += [wire.line_bits_per_s(node) for node in range(num_nodes)]
        limits += [] if wire.spine_bits_per_s is None else [wire.spine_bits_per_s / num_nodes]
    if not limits:
        return Ceiling(bytes_per_s=None, reason="ranks share one host and talk through its memory; no line to read")
    return Ceiling(bytes_per_s=min(limits) / 8, reason=f"the emulated line of {name}", algorithm="ring", num_nodes=num_nodes)


def line_rate(wire: str | None) -> float | None:
    """Return a wire's bits per second from its name; None for the machine's own, a name that tells none, or several rates."""
    found = None if wire is None else _wire(wire)
    if found is None or len(found.lines_bits_per_s) > 1 or found.spine_bits_per_s is not None:
        return None
    return found.lines_bits_per_s[0]


def _wire(name: str) -> Wire | None:
    try:
        return parse_wire(name)
    except BadInput:
        return None
