"""What a testbed is made of: hosts, the ranks on each and the wire between them, with the names that all of it has.

commprof-host0          10.77.0.1   a host; its ranks too, where they talk through memory
commprof-host0-rank1    10.77.2.1   a rank with a line inside its host
commprof-switch
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import Wire

MAX_HOSTS = 64
MAX_RANKS_PER_HOST = 16
SWITCH = "commprof-switch"
NAMESPACE = re.compile(r"commprof-(?:switch|host(?P<host>\d+)(?:-rank(?P<rank>\d+))?)")
_NETWORK = "10.77"  # seen by nobody outside the namespaces
PREFIX_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """A testbed as it was asked for. Its ranks fill one host after the other."""

    num_hosts: int
    ranks_per_host: int
    wire: Wire

    @property
    def has_inside(self) -> bool:
        """Whether each rank has a namespace, and a line to the others of its host."""
        return self.wire.inside_bits_per_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rank runs. `namespace` is its host's, or its own."""

    rank: int
    host: int
    local_rank: int
    namespace: str


def checked_fabric(num_hosts: int, ranks_per_host: int, wire: Wire) -> Fabric:
    """Return the fabric; raise BadInput, by the flags' names, for one that cannot be made."""
    if not 2 <= num_hosts <= MAX_HOSTS:
        raise BadInput(f"--hosts {num_hosts}: a testbed has 2 to {MAX_HOSTS} hosts")
    if not 1 <= ranks_per_host <= MAX_RANKS_PER_HOST:
        raise BadInput(f"--ranks-per-host {ranks_per_host}: a host has 1 to {MAX_RANKS_PER_HOST} ranks")
    lines, inside = wire.lines_bits_per_s, wire.inside_bits_per_s
    if len(lines) not in (1, num_hosts):
        raise BadInput(f"--rate names {len(lines)} lines and there are {num_hosts} hosts; name one for all, or one for each")
    if inside is not None and ranks_per_host == 1:
        raise BadInput("--inside is the line between the ranks of one host; it needs --ranks-per-host 2 or more")
    if inside is not None and inside < max(lines):
        raise BadInput("--inside is slower than a line of --rate, and what leaves a host passes it; make it at least as fast")
    return Fabric(num_hosts=num_hosts, ranks_per_host=ranks_per_host, wire=_with_one_name(wire))


def places(fabric: Fabric, num_hosts: int, ranks_per_host: int) -> list[Place]:
    """Return the places of so many ranks on each of the first hosts; raise BadInput where the fabric has fewer."""
    if not 1 <= num_hosts <= fabric.num_hosts:
        mend = f"make more with commprof testbed up --hosts {num_hosts}"
        raise BadInput(f"--hosts {num_hosts}: the testbed has {fabric.num_hosts}; {mend}")
    if not 1 <= ranks_per_host <= fabric.ranks_per_host:
        mend = f"make more with commprof testbed up --ranks-per-host {ranks_per_host}"
        raise BadInput(f"--ranks-per-host {ranks_per_host}: the testbed's hosts have {fabric.ranks_per_host}; {mend}")
    return [
        Place(rank=host * ranks_per_host + local, host=host, local_rank=local, namespace=rank_namespace(fabric, host, local))
        for host in range(num_hosts)
        for local in range(ranks_per_host)
    ]


def namespaces_of(fabric: Fabric, host: int) -> Iterator[str]:
    """Yield the namespaces of a host, its own first."""
    yield host_namespace(host)
    if fabric.has_inside:
        yield from (rank_namespace(fabric, host, local) for local in range(fabric.ranks_per_host))


def rank_namespace(fabric: Fabric, host: int, local_rank: int) -> str:
    return f"{host_namespace(host)}-rank{local_rank}" if fabric.has_inside else host_namespace(host)


def host_namespace(host: int) -> str:
    return f"commprof-host{host}"


def hostname(host: int) -> str:
    return f"host{host}"


def host_address(host: int) -> str:
    return f"{_NETWORK}.0.{host + 1}"


def rank_address(fabric: Fabric, host: int, local_rank: int) -> str:
    return f"{_NETWORK}.{local_rank + 1}.{host + 1}" if fabric.has_inside else host_address(host)


def _with_one_name(wire: Wire) -> Wire:
    """Write lines that are all alike as one rate, so that a wire has one name."""
    return replace(wire, lines_bits_per_s=wire.lines_bits_per_s[:1]) if len(set(wire.lines_bits_per_s)) == 1 else wire
