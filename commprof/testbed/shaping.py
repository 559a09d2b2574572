"""How are a testbed's lines held to their rates? By token buckets (tc-tbf), one at either end of each line.

    host's eth0                 what leaves a host passes a bucket of its line's rate
    switch's port0              so does what reaches it, for a line has its rate each way
    rank's eth0, host's rank0   the same for a line inside a host
    switch's spine              every frame that a host sends to another goes through this one interface (ifb) and its bucket

A full frame of TCP over Ethernet takes the line as long as 1538 bytes: 1514 that the kernel counts, and checksum, preamble and
gap, which a card adds. So each bucket runs at 1514/1538 of the rate.
"""

from commprof.testbed import impairment
from commprof.testbed.fabric import SWITCH, Fabric, host_namespace, rank_namespace
from commprof.testbed.iproute import ip, tc

_COUNTED_SHARE = 1514 / 1538
_BURST_BYTES = 128 * 1024  # two of the largest packets that segmentation offload hands down
_BURST_S = 2e-3  # on fast lines as much as makes up for a bucket served late, by processors that also compute
_QUEUE = "50ms"  # what may wait at the bucket; TCP fills it and no more
_SPINE = "spine"


def shape(fabric: Fabric) -> None:
    """Give each line, and the switch, what the fabric's wire says, in place of what they had.

    Raises BadInput where the kernel can neither delay nor lose frames and the wire does.
    """
    impairment.lift(fabric)
    for host in range(fabric.num_hosts):
        _shape_host(fabric, host)
    if fabric.wire.spine_bits_per_s is not None:
        _share_spine(fabric.num_hosts, fabric.wire.spine_bits_per_s)
    impairment.impose(fabric)


def _shape_host(fabric: Fabric, host: int) -> None:
    wire = fabric.wire
    _hold(host_namespace(host), "eth0", wire.line_bits_per_s(host))
    _hold(SWITCH, f"port{host}", wire.line_bits_per_s(host))
    if wire.inside_bits_per_s is not None:
        for local in range(fabric.ranks_per_host):
            _hold(rank_namespace(fabric, host, local), "eth0", wire.inside_bits_per_s)
            _hold(host_namespace(host), f"rank{local}", wire.inside_bits_per_s)


def _share_spine(num_hosts: int, rate_bits_per_s: float) -> None:
    """Have every frame from a host pass one bucket before the bridge sees it."""
    if f" {_SPINE}:" not in ip("-o", "link", "show", namespace=SWITCH):
        ip("link", "add", _SPINE, "type", "ifb", namespace=SWITCH)
        ip("link", "set", _SPINE, "up", namespace=SWITCH)
    _hold(SWITCH, _SPINE, rate_bits_per_s)
    for host in range(num_hosts):
        redirected = ("u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", _SPINE)
        tc("filter", "add", "dev", f"port{host}", "ingress", "protocol", "all", *redirected, namespace=SWITCH)


def _hold(namespace: str, interface: str, rate_bits_per_s: float) -> None:
    rate = f"{rate_bits_per_s * _COUNTED_SHARE:.0f}bit"
    burst = f"{max(_BURST_BYTES, rate_bits_per_s / 8 * _BURST_S):.0f}"
    bucket = ("tbf", "rate", rate, "burst", burst, "latency", _QUEUE)
    tc("qdisc", "replace", "dev", interface, "root", *bucket, namespace=namespace)
