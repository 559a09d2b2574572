"""What lies between the nodes?

Each has a line into a switch, the lines alike or not, the switch as wide as all lines or narrower; and the ring of ranks
leaves a node once or more often. A byte then takes, between nodes,

    c max(1 / slowest line,  k / what the switch carries at once)

with k nodes whose ring leaves each c times: what leaves a node shares its line, what leaves any of them shares the switch.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.types import RankInfo

Order = Literal["blocks", "dealt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """Lines and switch of nodes in rank order, in one unit; benches over fewer nodes were on the first of them.

    `lines`: one rate for all nodes, or one a node; none where all are alike and nobody said how fast, `spine` is then in lines.
    `spine` is what the switch carries at once, None where nobody said. `order`: the ranks asked for fill one node after the
    other, or are dealt out to the nodes in turn; None: as benched.
    """

    lines: tuple[float, ...] = ()
    spine: float | None = None
    order: Order | None = None

    def __post_init__(self) -> None:
        """Raise BadInput for what carries nothing."""
        if any(line <= 0 for line in self.lines) or (self.spine is not None and self.spine <= 0):
            raise BadInput("a line and a switch carry more than 0; give their rates, for example 1gbit")

    def pace(self, nodes: int, crossings: int) -> float:
        """Return the time that a byte of the ring takes between the first `nodes` nodes, over the unit of the lines.

        Raises UnusableData where lines are named one by one, but not so many.
        """
        if 1 < len(self.lines) < nodes:
            raise UnusableData(f"lines of {len(self.lines)} nodes are known and {nodes} are asked for; give a line for each")
        lines = self.lines[:nodes] or (1.0,)
        return crossings * max(1 / min(lines), 0.0 if self.spine is None else nodes / self.spine)


AS_BENCHED = Fabric()


def fabric_of(wire: str | None) -> Fabric:
    """Return what the name of an emulated wire tells, nothing of a machine's own."""
    try:
        known = None if wire is None else parse_wire(wire)
    except BadInput:
        known = None
    return AS_BENCHED if known is None else Fabric(lines=known.lines_bits_per_s, spine=known.spine_bits_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTraffic:
    """What a ring all-reduce moves: within the busiest node, out of the busiest node, and through the switch in all."""

    inside_bytes: float
    line_bytes: float
    switch_bytes: float


def ring_traffic(ranks: Sequence[RankInfo], num_nodes: int, message_bytes: float) -> RingTraffic:
    """Return where the bytes of a ring all-reduce over these ranks go: each hop carries 2(n-1)/n of the message."""
    hop_bytes = 2 * (len(ranks) - 1) / len(ranks) * message_bytes
    inside, left = _hops(ranks, num_nodes)
    return RingTraffic(
        inside_bytes=max(inside.values(), default=0) * hop_bytes,
        line_bytes=max(left.values(), default=0) * hop_bytes,
        switch_bytes=left.total() * hop_bytes,
    )


def even_traffic(world_size: int, num_nodes: int, crossings: int, message_bytes: float) -> RingTraffic:
    """Return the same where all nodes have as many ranks, and the ring leaves each as often."""
    hop_bytes = 2 * (world_size - 1) / world_size * message_bytes
    return RingTraffic(
        inside_bytes=(world_size // num_nodes - crossings) * hop_bytes,
        line_bytes=crossings * hop_bytes,
        switch_bytes=crossings * num_nodes * hop_bytes,
    )


def ring_crossings(ranks: Sequence[RankInfo], num_nodes: int) -> int:
    """Return how often the ring over these ranks, in their order, leaves the node that it leaves most often.

    1 where the records do not name the host of each rank: launchers place ranks in blocks.
    """
    _, left = _hops(ranks, num_nodes)
    return max(left.values(), default=1)


def _hops(ranks: Sequence[RankInfo], num_nodes: int) -> tuple[Counter[str], Counter[str]]:
    """Count by node the ring's hops that stay inside it and those that leave it."""
    hosts = [rank.hostname for rank in sorted(ranks, key=lambda rank: rank.rank)]
    if len(set(hosts)) != num_nodes:
        hosts = [f"node {place * num_nodes // len(hosts)}" for place in range(len(hosts))]
    hops = list(zip(hosts, [*hosts[1:], *hosts[:1]], strict=True))
    inside = Counter(here for here, there in hops if here == there)
    return inside, Counter(here for here, there in hops if here != there)
