"""An emulated cluster: N hosts on this machine whose wire is known.

`devices` are what it is made of, `shaping` holds the rates, `fabric` has the names. What was asked for is written down once all
of it stands: a testbed without that record is one whose making was cut short, and only `up` and `remove` take it.

The hosts share this machine's cores.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import Wire, parse_wire
from commprof.testbed import devices
from commprof.testbed.fabric import Fabric, checked_fabric, host_address, hostname, namespaces_of
from commprof.testbed.shaping import shape

_LOCK = Path("/run/commprof-testbed.lock")
_RECORD = Path("/run/commprof-testbed.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One emulated host. `line_bits_per_s` is its line's rate, each way; `processes` are the ids of those running inside it."""

    name: str
    address: str
    line_bits_per_s: float
    processes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    num_hosts: int
    ranks_per_host: int
    wire: str


@contextmanager
def testbed(num_hosts: int, wire: Wire, *, ranks_per_host: int = 1) -> Iterator[None]:  # noqa: PT028  no test
    """Have a testbed while the block runs, whatever was left of an earlier one gone; take it down afterwards.

    Raises BadInput where this machine cannot have one or another process is using it.
    """
    fabric = checked_fabric(num_hosts, ranks_per_host, wire)
    with _in_use(exclusive=True) as lock:
        _build(fabric)
        fcntl.flock(lock, fcntl.LOCK_SH)  # from here on ranks may use it too, and nobody may rebuild it
        try:
            yield
        finally:
            remove()


def up(num_hosts: int, wire: Wire, *, ranks_per_host: int = 1) -> None:
    """Make a testbed that stays until `remove`, in place of an earlier one that nobody uses."""
    fabric = checked_fabric(num_hosts, ranks_per_host, wire)
    with _in_use(exclusive=True):
        _build(fabric)


def set_wire(wire: Wire) -> None:
    """Change the whole wire; raise BadInput where there is no testbed, or it cannot have that wire as it stands."""
    before = read_fabric()
    fabric = checked_fabric(before.num_hosts, before.ranks_per_host, wire)
    if fabric.has_inside != before.has_inside:
        raise BadInput("lines inside the hosts come and go with the testbed; make it anew with commprof testbed up")
    _RECORD.unlink()
    shape(fabric)
    _write(fabric)


def read_fabric() -> Fabric:
    """Return what the testbed that is up was made as; raise BadInput where there is none, or half of one."""
    check_usable()
    if not devices.namespaces():
        raise BadInput("no testbed is up; make one with commprof testbed up --hosts 4 --rate 1gbit")
    try:
        record = msgspec.json.decode(_RECORD.read_bytes(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):
        raise BadInput("the testbed is half made, its maker was stopped; make it anew with commprof testbed up") from None
    return checked_fabric(record.num_hosts, record.ranks_per_host, parse_wire(record.wire))


def hosts() -> list[Host]:
    """Return the hosts of the testbed that is up, in order; raise BadInput where there is none."""
    fabric = read_fabric()
    return [_host(fabric, host) for host in range(fabric.num_hosts)]


def remove() -> None:
    """End what runs in the testbed's namespaces and delete them, and nothing else; nothing to delete is fine."""
    check_usable()
    _RECORD.unlink(missing_ok=True)
    devices.delete()


@contextmanager
def using() -> Iterator[Fabric]:
    """Return what the testbed is and keep it from being rebuilt while the block runs."""
    with _in_use(exclusive=False):
        yield read_fabric()


def check_usable() -> None:
    """Raise BadInput where this machine cannot have a testbed."""
    if sys.platform != "linux":
        raise BadInput(f"the testbed is made of Linux network namespaces, and this is {sys.platform}")
    if os.geteuid() != 0:
        raise BadInput("the testbed makes network namespaces, which takes root; run commprof as root")
    for program in ("ip", "tc", "unshare"):
        if shutil.which(program) is None:
            raise BadInput(f"the testbed needs the program {program}; install Debian's iproute2 and util-linux")


def _build(fabric: Fabric) -> None:
    remove()
    try:
        devices.build(fabric)
        shape(fabric)
        _write(fabric)
    except BaseException:
        remove()
        raise


def _write(fabric: Fabric) -> None:
    record = _Record(num_hosts=fabric.num_hosts, ranks_per_host=fabric.ranks_per_host, wire=fabric.wire.name)
    new = _RECORD.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(record))
    new.replace(_RECORD)


def _host(fabric: Fabric, host: int) -> Host:
    return Host(
        name=hostname(host),
        address=host_address(host),
        line_bits_per_s=fabric.wire.line_bits_per_s(host),
        processes=tuple(pid for name in namespaces_of(fabric, host) for pid in devices.processes(name)),
    )


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
