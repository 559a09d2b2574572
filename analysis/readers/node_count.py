"""On how many nodes was a table measured?

The device list names every rank's host, NCCL's lines and some tables state the number, or the user knows it. A table alone does
not tell: its curve is then carried to other numbers of ranks as that of one node, and this is said.
"""

from dataclasses import dataclass

from commprof.analysis.readers.foreign import ForeignSweep
from commprof.commbench.errors import UnusableData


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCount:
    """The number of nodes and who says so; both None where nobody does."""

    value: int | None
    source: str | None
    notes: tuple[str, ...] = ()


def node_count(sweep: ForeignSweep, num_ranks: int, asked: int | None = None) -> NodeCount:
    """Return the table's number of nodes; raises UnusableData where `asked` contradicts the log or has empty nodes."""
    hosts = len({device.hostname for device in sweep.devices}) if len(sweep.devices) == num_ranks else None
    stated = [(value, source) for value, source in ((hosts, "the device list"), (sweep.num_nodes, sweep.nodes_source)) if value]
    impossible = tuple(f"{source} says {value} nodes for {num_ranks} ranks" for value, source in stated if value > num_ranks)
    stated = [(value, source) for value, source in stated if value <= num_ranks]
    if asked is not None:
        if asked > num_ranks:
            raise UnusableData(f"--nodes {asked}: {num_ranks} ranks are on {num_ranks} nodes at most")
        if stated and asked not in {value for value, _ in stated}:
            raise UnusableData(f"--nodes {asked}: {stated[0][1]} says {stated[0][0]}; drop --nodes")
        return NodeCount(value=asked, source="--nodes", notes=impossible)
    if stated:
        value, source = stated[0]
        others = tuple(f"{said} says {other} nodes, {source} {value}" for other, said in stated[1:] if other != value)
        return NodeCount(value=value, source=source, notes=(*impossible, *others))
    unknown = f"nothing tells on how many nodes its {num_ranks} ranks were; if on more than one, say --nodes K"
    return NodeCount(value=None, source=None, notes=(*impossible, unknown))
