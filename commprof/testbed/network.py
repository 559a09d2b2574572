"""An emulated cluster: N hosts on this machine whose wire is known.

    commprof-host0  eth0 --veth-- port0 \\
    commprof-host1  eth0 --veth-- port1  | bridge in commprof-switch
    ...                                 /

Each host is a network namespace with a name of its own. Whatever leaves a host passes a token bucket of the line's rate
(tc-tbf), and every message of a ring leaves one host for the next, so a ring all-reduce meets a wire of that rate.

A full frame of TCP over Ethernet takes the line as long as 1538 bytes: 1514 that the kernel counts, and checksum, preamble and
gap, which a card adds. So the bucket runs at 1514/1538 of the rate, and TCP goes without timestamps (12 bytes of each frame's
payload otherwise): the line then carries as much payload as a card's would.

All of it, the bridge too, lies in namespaces called commprof-*: nothing is added to the machine's own network, and to delete
the namespaces is to clean up. The hosts share this machine's cores.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.machine.hardware import WIRE_VARIABLE
from commprof.commbench.units import printable
from commprof.testbed.wire import Wire

MAX_HOSTS = 64
_SWITCH = "commprof-switch"
_HOST = re.compile(r"commprof-host(\d+)")
_NETWORK = "10.77.0"  # seen by nobody outside the namespaces
_COUNTED_SHARE = 1514 / 1538
_BURST_BYTES = 128 * 1024  # two of the largest packets that segmentation offload hands down
_BURST_S = 2e-3  # on fast lines as much as makes up for a bucket served late, by processors that also compute
_QUEUE = "50ms"  # what may wait at the bucket; TCP fills it and no more
_MASTER_PORT = "29500"  # torchrun's default; no other process lives in a namespace made a moment ago
_LOCK = Path("/run/commprof-testbed.lock")
_ETC = Path("/etc/netns")  # `ip netns exec` shows <name>/hosts as /etc/hosts
_COMMAND_TIMEOUT_S = 20.0
_KILL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One emulated host as the kernel knows it. `processes` are the ids of those running inside it."""

    name: str
    address: str
    wire: Wire | None
    processes: tuple[int, ...]


@contextmanager
def testbed(num_hosts: int, wire: Wire) -> Iterator[None]:
    """Have a testbed while the block runs, whatever was left of an earlier one gone; take it down afterwards.

    Raises BadInput where this machine cannot have one or another process is using it.
    """
    with _in_use(exclusive=True) as lock:
        _build(num_hosts, wire)
        fcntl.flock(lock, fcntl.LOCK_SH)  # from here on ranks may use it too, and nobody may rebuild it
        try:
            yield
        finally:
            remove()


def up(num_hosts: int, wire: Wire) -> None:
    """Make a testbed that stays until `remove`, in place of an earlier one that nobody uses."""
    with _in_use(exclusive=True):
        _build(num_hosts, wire)


def set_wire(wire: Wire) -> None:
    """Change every host's line at once; raise BadInput where there is no testbed."""
    for host in range(len(hosts())):
        _shape(host, wire)


def hosts() -> list[Host]:
    """Return the hosts of the testbed that is up, in order; raise BadInput where there is none."""
    check_usable()
    names = [name for name in _namespaces() if _HOST.fullmatch(name)]
    if not names:
        raise BadInput("no testbed is up; make one with commprof testbed up --hosts 4 --rate 1gbit")
    return [_host(index) for index in range(len(names))]


def remove() -> None:
    """End what runs in the testbed's namespaces and delete them, and nothing else; nothing to delete is fine."""
    check_usable()
    for name in _namespaces():
        _end_processes(name)
        _ip("netns", "del", name)
    for folder in _ETC.glob("commprof-*"):
        if _HOST.fullmatch(folder.name):
            shutil.rmtree(folder)


@contextmanager
def using() -> Iterator[list[Host]]:
    """Return the hosts and keep them from being rebuilt while the block runs."""
    with _in_use(exclusive=False):
        yield hosts()


def host_command(host: int, command: Sequence[str]) -> list[str]:
    """Return the argument list that runs `command` on a host, under the host's own name."""
    name = _name(host)
    renamed = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', _hostname(host))
    return ["ip", "netns", "exec", name, *renamed, *command]


def rank_environment(rank: int, world_size: int, wire: Wire | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of one rank a host: torch's env:// variables, gloo's interface and the wire's name."""
    own = {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": _address(0),
        "MASTER_PORT": environ.get("MASTER_PORT", _MASTER_PORT),
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    named = {} if wire is None else {WIRE_VARIABLE: wire.name}
    # torch warns that it cannot look up the names of addresses, and of a store that went with a failed rank.
    return {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **environ, **own, **named}


def check_usable() -> None:
    """Raise BadInput where this machine cannot have a testbed."""
    if sys.platform != "linux":
        raise BadInput(f"the testbed is made of Linux network namespaces, and this is {sys.platform}")
    if os.geteuid() != 0:
        raise BadInput("the testbed makes network namespaces, which takes root; run commprof as root")
    for program in ("ip", "tc", "unshare"):
        if shutil.which(program) is None:
            raise BadInput(f"the testbed needs the program {program}; install Debian's iproute2 and util-linux")


def _build(num_hosts: int, wire: Wire) -> None:
    if not 2 <= num_hosts <= MAX_HOSTS:
        raise BadInput(f"--hosts {num_hosts}: a testbed has 2 to {MAX_HOSTS} hosts")
    remove()
    try:
        _ip("netns", "add", _SWITCH)
        _ip("link", "add", "bridge0", "type", "bridge", namespace=_SWITCH)
        _ip("link", "set", "bridge0", "up", namespace=_SWITCH)
        for host in range(num_hosts):
            _add_host(host, num_hosts)
            _shape(host, wire)
    except BaseException:
        remove()
        raise


def _add_host(host: int, num_hosts: int) -> None:
    name, port = _name(host), f"port{host}"
    _ip("netns", "add", name)
    _ip("link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", _SWITCH, namespace=name)
    _ip("link", "set", port, "master", "bridge0", "up", namespace=_SWITCH)
    _ip("address", "add", f"{_address(host)}/24", "dev", "eth0", namespace=name)
    for interface in ("lo", "eth0"):
        _ip("link", "set", interface, "up", namespace=name)
    _run(["ip", "netns", "exec", name, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/tcp_timestamps"])
    names = "".join(f"{_address(index)} {_hostname(index)}\n" for index in range(num_hosts))
    (_ETC / name).mkdir(parents=True, exist_ok=True)
    (_ETC / name / "hosts").write_text(f"127.0.0.1 localhost\n{names}")


def _shape(host: int, wire: Wire) -> None:
    """Limit what leaves a host; delay what reaches it, at the bridge's port, where no token bucket is in the way."""
    rate = f"{wire.rate_bits_per_s * _COUNTED_SHARE:.0f}bit"
    burst = f"{max(_BURST_BYTES, wire.rate_bits_per_s / 8 * _BURST_S):.0f}"
    shaped = ("dev", "eth0", "root", "tbf", "rate", rate, "burst", burst, "latency", _QUEUE)
    _run(["tc", "-n", _name(host), "qdisc", "replace", *shaped])
    port = ("dev", f"port{host}", "root")
    if wire.delay_s:
        delayed = (*port, "netem", "delay", f"{wire.delay_s * 1e6:.0f}us", "limit", "100000")
        try:
            _run(["tc", "-n", _SWITCH, "qdisc", "replace", *delayed])
        except RunFailed:
            raise BadInput("this kernel has no netem (sch_netem), which adds the delay; leave --delay out") from None
    elif _queue_of(_SWITCH, f"port{host}", "netem"):
        _run(["tc", "-n", _SWITCH, "qdisc", "del", *port])


def _host(index: int) -> Host:
    name = _name(index)
    shaped, delayed = _queue_of(name, "eth0", "tbf"), _queue_of(_SWITCH, f"port{index}", "netem")
    delay_s = float(delayed["delay"]["delay"]) if delayed else 0.0
    wire = None
    if shaped:
        rate = 8 * shaped["rate"] / _COUNTED_SHARE  # tc keeps whole bytes per second
        wire = Wire(rate_bits_per_s=float(f"{rate:.6g}"), delay_s=delay_s)
    return Host(name=_hostname(index), address=_address(index), wire=wire, processes=_processes(name))


def _queue_of(namespace: str, interface: str, kind: str) -> dict[str, Any] | None:
    """Return the options of an interface's queueing discipline of a kind, None where it has none of it."""
    queues = json.loads(_run(["tc", "-n", namespace, "-j", "qdisc", "show", "dev", interface]) or "[]")
    return next((queue["options"] for queue in queues if queue["kind"] == kind), None)


def _namespaces() -> list[str]:
    """Return the testbed's own namespaces, the hosts in their order."""
    listed = json.loads(_ip("-j", "netns", "list") or "[]")
    names = [entry["name"] for entry in listed]
    found = [(int(match[1]), name) for name in names if (match := _HOST.fullmatch(name))]
    return [name for _, name in sorted(found)] + [name for name in names if name == _SWITCH]


def _processes(namespace: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _ip("netns", "pids", namespace).split())


def _end_processes(namespace: str) -> None:
    """Ask the processes in a namespace to end, and kill those that have not ended within the grace."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        waiting = [pidfd for pid in _processes(namespace) if (pidfd := _signal(pid, signum)) is not None]
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


@contextmanager
def _in_use(*, exclusive: bool) -> Iterator[IO[str]]:
    """Hold the testbed's lock, which the kernel frees when its holder dies; raise BadInput where another one holds it."""
    check_usable()
    with _LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                "the testbed is in use by another commprof; wait for it, or end it with commprof testbed down"
            ) from None
        yield lock


def _name(host: int) -> str:
    return f"commprof-host{host}"


def _hostname(host: int) -> str:
    return f"host{host}"


def _address(host: int) -> str:
    return f"{_NETWORK}.{host + 1}"


def _ip(*words: str, namespace: str | None = None) -> str:
    return _run(["ip", *(("-n", namespace) if namespace else ()), *words])


def _run(command: Sequence[str]) -> str:
    """Run one command of iproute2 and return what it printed; raise RunFailed with its own words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as error:
        words = printable(" ".join(error.stderr.split())[:300])
        raise RunFailed(f"`{' '.join(command)}` failed: {words}; the testbed needs CAP_NET_ADMIN and CAP_SYS_ADMIN") from None
    except subprocess.TimeoutExpired:
        raise RunFailed(f"`{' '.join(command)}` did not end within {_COMMAND_TIMEOUT_S:g} s") from None
    return done.stdout
