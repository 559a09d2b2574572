"""A delay in no need of the kernel's netem: frames to the hosts wait here, in a process in the switch's namespace.

    bridge -> portK -> (tc) -> tap lateK -> this process, for so long -> portK, marked -> hostK

Frames come as large as segmentation offload makes them, so that a line of 1 Gbit/s is some 2000 of them a second. They leave in
the order in which they came. Whoever deletes the namespace ends the process.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.stopping import child_dies_with, die_with_parent
from commprof.testbed.fabric import SWITCH

MARK = 1  # of frames that have waited
_READY_S = 20.0
_MOST_BYTES = 2**17  # more than a frame with its header has
_QUEUE_BYTES = 2**28  # of one port's socket: its token bucket decides what is dropped, not the socket
_NET_TUN = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_OFFLOADS = 0x01 | 0x02 | 0x04  # checksum, TCP over IPv4 and IPv6
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15  # linux/if_packet.h
_SO_SNDBUFFORCE = 32


def tap_of(host: int) -> str:
    return f"late{host}"


def start(num_hosts: int, delay_s: float) -> None:
    """Start the delay line of the switch and return once its taps exist; raise RunFailed where it cannot be."""
    command = ["ip", "netns", "exec", SWITCH, sys.executable, "-P", "-m", __name__, str(num_hosts), f"{delay_s:.6f}"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
        preexec_fn=child_dies_with(os.getpid(), 9),  # noqa: PLW1509  until it is known to live in the namespace
    )
    assert process.stdout is not None
    said = process.stdout.readline() if select.select([process.stdout], [], [], _READY_S)[0] else b""
    process.stdout.close()
    if said.strip() != b"ready":
        process.kill()
        process.wait()
        raise RunFailed(f"the delay line did not start: {said.decode(errors='replace').strip() or 'it said nothing'}")


@dataclass(slots=True)
class _Port:
    """One host's: the frames that wait, each with the time (monotonic) at which it goes on."""

    tap: int
    out: socket.socket
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, delay_s: float) -> None:
        """Take what has come."""
        with suppress(BlockingIOError):
            while True:
                frame = os.read(self.tap, _MOST_BYTES)
                self.waiting.append((time.monotonic() + delay_s, frame))

    def hand_on(self) -> None:
        """Send what has waited long enough; the kernel drops what its queue has no room for, as a switch does."""
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            with suppress(OSError):
                self.out.send(self.waiting.popleft()[1])


def _open_port(host: int) -> _Port:
    tap = os.open(_NET_TUN, os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", tap_of(host).encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
    fcntl.ioctl(tap, _TUNSETIFF, request)
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _OFFLOADS)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # of no protocol: it sends and receives nothing
    out.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    out.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE_BYTES)
    out.bind((f"port{host}", 0))
    out.setblocking(False)
    return _Port(tap=tap, out=out)


def _carry(ports: Sequence[_Port], delay_s: float) -> None:
    by_tap = {port.tap: port for port in ports}
    while True:
        first_s = min((port.waiting[0][0] for port in ports if port.waiting), default=None)
        left_s = None if first_s is None else max(0.0, first_s - time.monotonic())
        for tap in select.select([*by_tap], [], [], left_s)[0]:
            by_tap[tap].take(delay_s)
        for port in ports:
            port.hand_on()


def main() -> None:
    num_hosts, delay_s = int(sys.argv[1]), float(sys.argv[2])
    ports = [_open_port(host) for host in range(num_hosts)]
    with suppress(PermissionError):  # the ranks compute on the same cores, and would make it late
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    die_with_parent(0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _carry(ports, delay_s)


if __name__ == "__main__":
    main()
