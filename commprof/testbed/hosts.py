"""One command on every host of the testbed, one rank each, as torchrun would start it on a cluster.

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
from commprof.commbench.ranks.stopping import child_dies_with, raise_when_stopped
from commprof.testbed.network import Host, host_command, rank_environment

_FAILURE_GRACE_S = 5.0  # for the other ranks once one has failed
_STOP_GRACE_S = 15.0  # for ranks asked to stop: they mark the run and leave the process group


@dataclass(slots=True)
class _Rank:
    number: int
    process: "subprocess.Popen[bytes]"
    pidfd: int


def run_on_hosts(hosts: Sequence[Host], command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run `command` as rank 0..N-1 of N hosts until all have ended; their output goes where ours goes.

    Raises RunFailed naming the first rank that failed. On SIGINT, SIGTERM or SIGHUP the ranks are sent the same, then killed.
    """
    raise_when_stopped()
    ranks: list[_Rank] = []
    try:
        for number, host in enumerate(hosts):
            environment = rank_environment(number, len(hosts), host.wire, environ)
            ranks.append(_start(number, host_command(number, command), environment))
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


def _start(number: int, command: Sequence[str], environ: Mapping[str, str]) -> _Rank:
    """Start one rank in a session of its own: Ctrl-C reaches it through us, once."""
    die_with_us = child_dies_with(os.getpid(), signal.SIGTERM)
    process = subprocess.Popen(command, env=environ, start_new_session=True, preexec_fn=die_with_us)  # noqa: PLW1509
    return _Rank(number=number, process=process, pidfd=os.pidfd_open(process.pid))


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
    return f"rank {rank.number} on host{rank.number} {ending}"
