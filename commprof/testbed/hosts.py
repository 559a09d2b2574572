"""One command on every host of the testbed, so many ranks each, as torchrun would start it on a cluster.

torchrun itself would be one more Python with torch in it for each host, and these share one machine's cores: the ranks get
torch's env:// variables directly. When one of them fails, the others are given a few seconds to say so and are then killed.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commprof.commbench.errors import Interrupted, RunFailed
from commprof.commbench.machine.hardware import WIRE_VARIABLE
from commprof.commbench.ranks.stopping import child_dies_with, raise_when_stopped
from commprof.testbed.fabric import Fabric, Place, hostname, places, rank_address

_MASTER_PORT = "29500"  # torchrun's default; no other process lives in a namespace made a moment ago
_FAILURE_GRACE_S = 5.0  # for the other ranks once one has failed
_STOP_GRACE_S = 15.0  # for ranks asked to stop: they mark the run and leave the process group


@dataclass(slots=True)
class _Rank:
    place: Place
    process: "subprocess.Popen[bytes]"
    pidfd: int


def run_on_hosts(
    fabric: Fabric, command: Sequence[str], environ: Mapping[str, str], *, num_hosts: int, ranks_per_host: int
) -> None:
    """Run `command` as so many ranks on each of the first hosts until all have ended; their output goes where ours goes.

    Raises BadInput where the testbed has fewer, RunFailed naming the first rank that failed. On SIGINT, SIGTERM or SIGHUP the
    ranks are sent the same, then killed.
    """
    where = places(fabric, num_hosts, ranks_per_host)
    raise_when_stopped()
    ranks: list[_Rank] = []
    try:
        for place in where:
            own = rank_environment(fabric, place, len(where), ranks_per_host, environ)
            ranks.append(_start(place, command_in(place.namespace, place.host, command), own))
        failed = _wait(ranks, deadline_s=None)
        if failed is not None:
            _wait(ranks, deadline_s=time.monotonic() + _FAILURE_GRACE_S)
            raise RunFailed(_explain(failed))
    except (KeyboardInterrupt, Interrupted) as error:
        _signal(ranks, signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.signum)
        _wait(ranks, deadline_s=time.monotonic() + _STOP_GRACE_S)
        raise
    finally:
        _signal(ranks, signal.SIGKILL)
        for rank in ranks:
            rank.process.wait()
            os.close(rank.pidfd)


def command_in(namespace: str, host: int, command: Sequence[str]) -> list[str]:
    """Return the argument list that runs `command` in a namespace, under the name of its host."""
    renamed = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', hostname(host))
    return ["ip", "netns", "exec", namespace, *renamed, *command]


def rank_environment(
    fabric: Fabric, place: Place, world_size: int, ranks_per_host: int, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of one rank: torchrun's variables, gloo's interface and the wire's name."""
    own = {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(ranks_per_host),
        "GROUP_RANK": str(place.host),
        "GROUP_WORLD_SIZE": str(world_size // ranks_per_host),
        "MASTER_ADDR": rank_address(fabric, 0, 0),
        "MASTER_PORT": environ.get("MASTER_PORT", _MASTER_PORT),
        "GLOO_SOCKET_IFNAME": "eth0",
        WIRE_VARIABLE: fabric.wire.name,
    }
    # torch warns that it cannot look up the names of addresses, and of a store that went with a failed rank.
    return {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **environ, **own}


def _start(place: Place, command: Sequence[str], environ: Mapping[str, str]) -> _Rank:
    """Start one rank in a session of its own: Ctrl-C reaches it through us, once."""
    die_with_us = child_dies_with(os.getpid(), signal.SIGTERM)
    process = subprocess.Popen(command, env=environ, start_new_session=True, preexec_fn=die_with_us)  # noqa: PLW1509
    return _Rank(place=place, process=process, pidfd=os.pidfd_open(process.pid))


def _wait(ranks: Sequence[_Rank], *, deadline_s: float | None) -> _Rank | None:
    """Wait for the ranks to end. Without a deadline return the first that failed at once; with one wait for all of them."""
    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            code = rank.process.poll()
            if code is None:
                selector.register(rank.pidfd, selectors.EVENT_READ, rank)
            elif code != 0 and deadline_s is None:
                return rank  # it failed while the others were still being started
        while selector.get_map():
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            ended = selector.select(left_s)
            if not ended:
                return None
            for key, _ in ended:
                selector.unregister(key.fd)
                if key.data.process.wait() != 0 and deadline_s is None:
                    failed: _Rank = key.data
                    return failed
    return None


def _signal(ranks: Sequence[_Rank], signum: int) -> None:
    for rank in ranks:
        if rank.process.poll() is None:
            rank.process.send_signal(signum)


def _explain(rank: _Rank) -> str:
    code = rank.process.returncode
    ending = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed with exit code {code}"
    return f"rank {rank.place.rank} on {hostname(rank.place.host)} {ending}"
