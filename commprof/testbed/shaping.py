"""How are a testbed's lines held to their rates? By token buckets (tc-tbf), one at either end of each line.

    host's eth0    what leaves a host passes a bucket of its line's rate
    switch's port  so does what reaches it, for a line has its rate each way
    rank's eth0, host's rank0    the same for a line inside a host
    switch's spine    every frame that comes from a host is sent through this one interface (ifb) and its bucket

A full frame of TCP over Ethernet takes the line as long as 1538 bytes: 1514 that the kernel counts, and checksum, preamble and
gap, which a card adds. So each bucket runs at 1514/1538 of the rate.
"""

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.machine.wire import Wire
from commprof.testbed.fabric import SWITCH, Fabric, host_namespace, rank_namespace
from commprof.testbed.iproute import ip, tc

_COUNTED_SHARE = 1514 / 1538
_BURST_BYTES = 128 * 1024  # two of the largest packets that segmentation offload hands down
_BURST_S = 2e-3  # on fast lines as much as makes up for a bucket served late, by processors that also compute
_QUEUE = "50ms"  # what may wait at the bucket; TCP fills it and no more
_SPINE = "spine"


def shape(fabric: Fabric) -> None:
    """Give each line, and the switch, the rates of the fabric's wire, in place of those that they had."""
    for host in range(fabric.num_hosts):
        _shape_host(fabric, host)
    _shape_switch(fabric)


def _shape_host(fabric: Fabric, host: int) -> None:
    wire, port = fabric.wire, f"port{host}"
    rate = wire.line_bits_per_s(host)
    _hold(host_namespace(host), "eth0", rate)
    if wire.delay_s or wire.loss:
        _impair(port, wire)
        _hold(SWITCH, port, rate, parent=("parent", "1:"))
    else:
        _hold(SWITCH, port, rate)
    if wire.inside_bits_per_s is not None:
        for local in range(fabric.ranks_per_host):
            _hold(rank_namespace(fabric, host, local), "eth0", wire.inside_bits_per_s)
            _hold(host_namespace(host), f"rank{local}", wire.inside_bits_per_s)


def _shape_switch(fabric: Fabric) -> None:
    """Have every frame from a host pass one bucket before the bridge sees it, or none again."""
    ports = [f"port{host}" for host in range(fabric.num_hosts)]
    rate = fabric.wire.spine_bits_per_s
    there = f" {_SPINE}:" in ip("-o", "link", "show", namespace=SWITCH)
    if rate is None:
        if there:
            for port in ports:
                tc("qdisc", "del", "dev", port, "ingress", namespace=SWITCH)
            ip("link", "del", _SPINE, namespace=SWITCH)
        return
    if not there:
        ip("link", "add", _SPINE, "type", "ifb", namespace=SWITCH)
        ip("link", "set", _SPINE, "up", namespace=SWITCH)
    _hold(SWITCH, _SPINE, rate)
    if not there:
        for port in ports:
            tc("qdisc", "add", "dev", port, "ingress", namespace=SWITCH)
            redirected = ("u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", _SPINE)
            tc("filter", "add", "dev", port, "parent", "ffff:", "protocol", "all", *redirected, namespace=SWITCH)


def _hold(namespace: str, interface: str, rate_bits_per_s: float, *, parent: tuple[str, ...] = ("root",)) -> None:
    rate = f"{rate_bits_per_s * _COUNTED_SHARE:.0f}bit"
    burst = f"{max(_BURST_BYTES, rate_bits_per_s / 8 * _BURST_S):.0f}"
    shaped = ("dev", interface, *parent, "tbf", "rate", rate, "burst", burst, "latency", _QUEUE)
    tc("qdisc", "replace", *shaped, namespace=namespace)


def _impair(port: str, wire: Wire) -> None:
    """Delay what reaches a host, and lose some of it, at the switch's port and before its bucket."""
    delayed = ("netem", "delay", f"{wire.delay_s * 1e6:.0f}us", "loss", f"{wire.loss:.6%}", "limit", "100000")
    try:
        tc("qdisc", "replace", "dev", port, "root", "handle", "1:", *delayed, namespace=SWITCH)
    except RunFailed:
        raise BadInput(
            "this kernel has no netem (sch_netem), which adds delay and loss; leave --delay and --loss out"
        ) from None
