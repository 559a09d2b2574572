"""Delay and loss of the frames that reach a host, at the switch's port and before its token bucket.

    loss     one frame in so many is dropped by a filter (classic BPF, which knows chance); tc counts them
    delay    each frame waits, in the delay line: one process, for many a kernel comes without netem

TCP sends single frames where some are lost, as a card would: with offload 44 would be lost at once. What a loss costs
is up to the kernel's congestion control (net.ipv4.tcp_congestion_control).
"""

from commprof.testbed import delay_line, devices
from commprof.testbed.fabric import SWITCH, Fabric, host_namespace, rank_namespace
from commprof.testbed.iproute import ip, tc

_WHOLE = 65535  # segments in a packet before offload cuts it, the kernel's default


def lift(fabric: Fabric) -> None:
    """Take away delay, loss and the spine's filters; the ports are then ready for others."""
    devices.end_processes(SWITCH)
    for host in range(fabric.num_hosts):
        if '"clsact"' in tc("-j", "qdisc", "show", "dev", f"port{host}", namespace=SWITCH):
            tc("qdisc", "del", "dev", f"port{host}", "clsact", namespace=SWITCH)
        tc("qdisc", "add", "dev", f"port{host}", "clsact", namespace=SWITCH)


def impose(fabric: Fabric) -> None:
    """Delay and lose frames as the wire says."""
    wire = fabric.wire
    for host in range(fabric.num_hosts):
        ends = [rank_namespace(fabric, host, local) for local in range(fabric.ranks_per_host if fabric.has_inside else 0)]
        for namespace in (host_namespace(host), *ends):
            ip("link", "set", "eth0", "gso_max_segs", str(1 if wire.loss else _WHOLE), namespace=namespace)
    if wire.delay_s:
        delay_line.start(fabric.num_hosts, wire.delay_s)
    for host in range(fabric.num_hosts):
        if wire.loss:
            _filter(host, "1", _lose(wire.loss), "direct-action")
        if wire.delay_s:
            ip("link", "set", delay_line.tap_of(host), "up", namespace=SWITCH)
            late = ("action", "mirred", "egress", "redirect", "dev", delay_line.tap_of(host))
            _filter(host, "2", _NEW, *late)


def _filter(host: int, preference: str, program: str, *then: str) -> None:
    where = ("dev", f"port{host}", "egress", "pref", preference, "protocol", "all")
    tc("filter", "add", *where, "bpf", "bytecode", program, *then, namespace=SWITCH)


# Classic BPF, as `tc` takes it: the number of instructions, then of each its code, jumps and constant. Two ancillary loads.
_LOAD_MARK = "32 0 0 4294963220"
_LOAD_CHANCE = "32 0 0 4294963256"
_GO_ON, _DROP, _MATCH = "6 0 0 4294967295", "6 0 0 2", "6 0 0 4294967295"
_NO_MATCH = "6 0 0 0"


def _program(*instructions: str) -> str:
    return ",".join([str(len(instructions)), *instructions]) + ","


_NEW = _program(_LOAD_MARK, f"21 0 1 {delay_line.MARK}", _NO_MATCH, _MATCH)  # frames that have not waited


def _lose(loss: float) -> str:
    """Return the program that drops a share of those frames that have not waited, and lets the others go on."""
    below = round(loss * 2**32)
    return _program(_LOAD_MARK, f"21 3 0 {delay_line.MARK}", _LOAD_CHANCE, f"53 1 0 {below}", _DROP, _GO_ON)
