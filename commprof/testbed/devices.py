"""Which devices make a testbed, how do they come, and how do they go?

    commprof-host0  eth0 --veth-- port0 \\
    commprof-host1  eth0 --veth-- port1  | bridge0 in commprof-switch
    ...                                 /

Each host is a network namespace with a name of its own. With lines inside the hosts each rank has one as well, and its host
is a bridge to which its ranks and the way out are joined:

    commprof-host0-rank0  eth0 --veth-- rank0 \\
    commprof-host0-rank1  eth0 --veth-- rank1  | inside, in commprof-host0, with its eth0

TCP goes without timestamps, 12 bytes of each frame's payload otherwise. All of it, the bridges too, lies in namespaces called
commprof-*: nothing is added to the machine's own network, and to delete the namespaces is to clean up.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

from commprof.testbed.fabric import (
    NAMESPACE,
    PREFIX_BITS,
    SWITCH,
    Fabric,
    host_address,
    host_namespace,
    hostname,
    rank_address,
    rank_namespace,
)
from commprof.testbed.iproute import ip, run

_ETC = Path("/etc/netns")  # `ip netns exec` shows <name>/hosts as /etc/hosts
_KILL_GRACE_S = 5.0


def build(fabric: Fabric) -> None:
    """Make the namespaces and join them by lines that have no rate yet; none of them may exist."""
    ip("netns", "add", SWITCH)
    ip("link", "add", "bridge0", "type", "bridge", namespace=SWITCH)
    ip("link", "set", "bridge0", "up", namespace=SWITCH)
    for host in range(fabric.num_hosts):
        _add_host(fabric, host)


def delete() -> None:
    """End what runs in the testbed's namespaces and delete them, and nothing else; nothing to delete is fine."""
    for name in namespaces():
        _end_processes(name)
        ip("netns", "del", name)
    for folder in _ETC.glob("commprof-*"):
        if NAMESPACE.fullmatch(folder.name):
            shutil.rmtree(folder)


def namespaces() -> list[str]:
    """Return those of a testbed that exist, the switch last."""
    listed = json.loads(ip("-j", "netns", "list") or "[]")
    names = [entry["name"] for entry in listed if NAMESPACE.fullmatch(entry["name"])]
    return sorted(names, key=lambda name: (name == SWITCH, name))


def processes(namespace: str) -> tuple[int, ...]:
    """Return the ids of those running inside."""
    return tuple(int(word) for word in ip("netns", "pids", namespace).split())


def _add_host(fabric: Fabric, host: int) -> None:
    name, port = host_namespace(host), f"port{host}"
    _add_namespace(fabric, name)
    ip("link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", SWITCH, namespace=name)
    ip("link", "set", port, "master", "bridge0", "up", namespace=SWITCH)
    inside = "eth0"
    if fabric.has_inside:
        inside = "inside"
        ip("link", "add", inside, "type", "bridge", namespace=name)
        ip("link", "set", "eth0", "master", inside, namespace=name)
        for local in range(fabric.ranks_per_host):
            _add_rank(fabric, host, local)
        ip("link", "set", inside, "up", namespace=name)
    ip("address", "add", f"{host_address(host)}/{PREFIX_BITS}", "dev", inside, namespace=name)
    ip("link", "set", "eth0", "up", namespace=name)


def _add_rank(fabric: Fabric, host: int, local_rank: int) -> None:
    name, own = host_namespace(host), rank_namespace(fabric, host, local_rank)
    _add_namespace(fabric, own)
    ip("link", "add", "eth0", "type", "veth", "peer", "name", f"rank{local_rank}", "netns", name, namespace=own)
    ip("link", "set", f"rank{local_rank}", "master", "inside", "up", namespace=name)
    ip("address", "add", f"{rank_address(fabric, host, local_rank)}/{PREFIX_BITS}", "dev", "eth0", namespace=own)
    ip("link", "set", "eth0", "up", namespace=own)


def _add_namespace(fabric: Fabric, name: str) -> None:
    """Make a namespace where the hosts are known by their names."""
    ip("netns", "add", name)
    ip("link", "set", "lo", "up", namespace=name)
    run(["ip", "netns", "exec", name, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/tcp_timestamps"])
    names = "".join(f"{host_address(host)} {hostname(host)}\n" for host in range(fabric.num_hosts))
    (_ETC / name).mkdir(parents=True, exist_ok=True)
    (_ETC / name / "hosts").write_text(f"127.0.0.1 localhost\n{names}")


def _end_processes(namespace: str) -> None:
    """Ask the processes in a namespace to end, and kill those that have not ended within the grace."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        waiting = [pidfd for pid in processes(namespace) if (pidfd := _signal(pid, signum)) is not None]
        deadline = time.monotonic() + _KILL_GRACE_S
        for pidfd in waiting:
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))  # readable once the process has ended
            os.close(pidfd)


def _signal(pid: int, signum: signal.Signals) -> int | None:
    """Send a signal and return what can be waited for until the process has ended; None where it has already."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signum)
    return pidfd
