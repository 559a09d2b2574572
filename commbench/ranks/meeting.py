"""Where do the ranks meet, who holds their store, and who has not come?

The launcher holds it under --nproc and torchrun, else rank 0: on the loopback address alone where that is the meeting place, on
every interface where ranks of other nodes have to reach it. The store has no password (torch has none to give); nothing that
comes from it is executed or unpickled.

Each rank says that it has come before it waits for the others, so that those who have not can be named. torch waits without
end for the greeting of whoever listens at the port: a rank that gets none within the time ends its process.
"""

import ipaddress
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from commprof.commbench.errors import RunFailed
from commprof.commbench.ranks.launched import RankContext, named, where_ranks_meet

_LEAST_PATIENCE_S = 1.0  # of who waits for a greeting, beyond the store's own timeout


def is_held_by_launcher(environ: Mapping[str, str]) -> bool:
    """Say whether torchrun, or our keeper, holds the store; torch reads the same variable."""
    return environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def came(store: Any, rank: int) -> bool:  # noqa: ANN401  torch's store
    """Say whether a rank has come to the store."""
    return bool(store.check([_came_key(rank)]))


def meet(context: RankContext, timeout_s: float, errors: int) -> Store:
    """Return the store once every rank has come to it; `errors` is the file that this process's last line goes to.

    Raises RunFailed saying who did not come, or why this rank could not, and BadInput where no meeting place is given.
    """
    host, port = where_ranks_meet(context, os.environ)
    place, timeout = f"{host}:{port}", timedelta(seconds=timeout_s)

    def late() -> str:
        if _listens(host, port):
            silent = f"rank {context.rank} got no answer at {place} within {timeout_s:g} s"
            return f"{silent}; if another program listens there, set MASTER_PORT"
        return _not_met(context.rank, host, place, timeout_s)

    with _ending_after(timeout_s + _LEAST_PATIENCE_S, late, errors):
        try:
            store = _store(context, host, port, timeout)
        except (dist.DistNetworkError, dist.DistStoreError, OSError) as error:
            raise RunFailed(_why_not(error, context.rank, host, place, timeout_s)) from None
        _await_all(store, context, place, timeout)
    return PrefixStore(f"commprof/{_attempt()}/group", store)


def _store(context: RankContext, host: str, port: int, timeout: timedelta) -> Store:
    if context.rank != 0 or is_held_by_launcher(os.environ):
        return TCPStore(host, port, is_master=False, timeout=timeout)
    own = _loopback(host, port)
    if own is None:
        return TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=timeout)
    family, address = own
    listening = socket.create_server(address, family=family, backlog=1024).detach()
    return TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=listening)


def _loopback(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]] | None:
    """Return the loopback address to listen at; None where the host is, or may be, reached from elsewhere."""
    try:
        found = [(family, str(address[0])) for family, _, _, _, address in socket.getaddrinfo(host, port)]
    except OSError:
        return None
    if not found or not all(ipaddress.ip_address(address).is_loopback for _, address in found):
        return None
    family, address = min(found)  # IPv4 where there is one
    return family, (address, port)


def _await_all(store: Store, context: RankContext, place: str, timeout: timedelta) -> None:
    keys = [_came_key(rank) for rank in range(context.world_size)]
    try:
        store.set(keys[context.rank], "")
        store.wait(keys, timeout)
    except (dist.DistStoreError, dist.DistNetworkError):
        raise RunFailed(_who_is_missing(store, context, place, timeout.total_seconds())) from None


def _who_is_missing(store: Store, context: RankContext, place: str, timeout_s: float) -> str:
    try:
        missing = [rank for rank in range(context.world_size) if not came(store, rank)]
    except (dist.DistStoreError, dist.DistNetworkError):
        return f"rank {context.rank} lost the store at {place}: whoever held it has gone"
    return f"{named(missing)} did not come to {place}, where the ranks meet, within {timeout_s:g} s; see that all are started"


def _came_key(rank: int) -> str:
    return f"commprof/{_attempt()}/came/{rank}"


def _attempt() -> str:
    """Tell apart what ranks that torchrun has started again find in the one store."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def _why_not(error: Exception, rank: int, host: str, place: str, timeout_s: float) -> str:
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return f"the port of {place} is taken; set MASTER_PORT to a free one, or let torchrun --standalone choose"
    return _not_met(rank, host, place, timeout_s)


def _not_met(rank: int, host: str, place: str, timeout_s: float) -> str:
    if not _resolves(host):
        return f"rank {rank} finds no address for {host}, where the ranks meet; set MASTER_ADDR to one that every node knows"
    return f"rank {rank} did not meet the others at {place} within {timeout_s:g} s; check MASTER_ADDR, firewall, all ranks"


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _LEAST_PATIENCE_S).close()
    except OSError:
        return False
    return True


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


@contextmanager
def _ending_after(seconds: float, words: Callable[[], str], errors: int) -> Iterator[None]:
    """End the process with a line where the block takes longer: what it waits in knows no timeout."""

    def end() -> None:
        os.write(errors, f"commprof: error: {words()}\n".encode())
        os._exit(RunFailed.exit_code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def held_back_errors() -> Iterator[int]:
    """Hold back standard error, and show it only if the block succeeds; yield the file that it would go to.

    On a failure torch's C++ prints a stack trace for each of its tries; the error that it raises says the same.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        own = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield own
        finally:
            os.dup2(own, 2)
            os.close(own)
        held.seek(0)
        sys.stderr.write(held.read().decode(errors="replace"))
