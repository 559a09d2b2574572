"""Start N ranks on this machine, hold the store they meet at, and end with them: what torchrun does on one machine.

    python -P -m commprof.commbench.ranks.keeper --nproc N --timeout S [--to-train] -- SCRIPT ARGS...

torchrun's stores listen on every interface, and it takes a signal for a crash and explains it over many lines. Here the store
listens on the loopback address, and what ended the ranks is one line on standard error, for the launcher:

    commprof: ranks: rank 1 was killed (SIGTERM)

Who lives with whom: Linux kills the keeper with its launcher and sends a rank SIGTERM with the keeper, from before it runs
anything of its own. Each rank is a process group of the keeper's session, so that Linux also wakes a stopped one (SIGHUP and
SIGCONT) when the keeper goes. No wait is longer than the timeout, neither for torch nor for ranks that do not come up or do not
end.

torch is loaded once, here, and the ranks are forks that have it (forking.py). The store has threads, so it comes after them;
until then their connections wait at its socket.
"""

import argparse
import contextlib
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from commprof.commbench.errors import Interrupted
from commprof.commbench.ranks.forking import fork_script
from commprof.commbench.ranks.launched import KEPT_VARIABLE, named
from commprof.commbench.ranks.loading import load_torch
from commprof.commbench.ranks.stopping import STOPPING, stopped_by

WORDS = "commprof: ranks: "
HOST = "127.0.0.1"
_FAILURE_GRACE_S = 4.0  # for the other ranks once one has failed: they say what they lost
_STOP_GRACE_S = 15.0  # for ranks that were asked to stop, then SIGTERM; as long again, then SIGKILL
_LEAST_START_S = 30.0  # to load torch on a busy machine, or to come up, however short the timeout
_LOOK_EVERY_S = 0.2  # while the ranks come up


@dataclass(slots=True)
class Rank:
    """A rank's process; `code` once it has ended, as subprocess counts, and whether it was we who killed it."""

    number: int
    pid: int
    pidfd: int
    code: int | None = None
    killed: bool = False


@dataclass(slots=True)
class Watch:
    """What is known of the ranks so far, and until when those that are left may take; pure, but for the clock's readings.

    `late` says of those that are killed at `deadline_s` what they did not do.
    """

    timeout_s: float
    deadline_s: float
    late: str
    up: bool = False
    ending: bool = False
    failed: bool = False
    asked: list[int] = field(default_factory=list)
    overdue: list[int] = field(default_factory=list)

    def note_up(self) -> None:
        """All ranks have met: from now on they may take as long as they want."""
        self.up = True
        if not self.ending:
            self.deadline_s = float("inf")

    def note_end(self, code: int, now_s: float) -> None:
        """A rank has ended: the others follow it within the timeout, or within seconds if it failed."""
        if code != 0 and not self.failed:
            self.failed = True
            self._allow(now_s + min(_FAILURE_GRACE_S, self.timeout_s / 4), "")
        elif code == 0:
            self._allow(now_s + self.timeout_s, f"did not end within {self.timeout_s:g} s of the others")

    def note_signal(self, signum: int, now_s: float) -> None:
        """The ranks were asked to stop: each further time they get half as long."""
        self.asked.append(signum)
        self._allow(now_s + 2 * _STOP_GRACE_S / len(self.asked), "")

    def _allow(self, until_s: float, late: str) -> None:
        self.ending = True
        if until_s < self.deadline_s:
            self.deadline_s, self.late = until_s, late


def explain(ranks: Sequence[Rank], watch: Watch) -> str:
    """Say in one line what ended the ranks, "" if all is well: who stopped them, was killed, did not end, or failed."""
    killed = [rank for rank in ranks if rank.code is not None and rank.code < 0 and not rank.killed]
    failed = [rank for rank in ranks if rank.code not in (0, None) and not rank.killed]
    if watch.asked:
        return stopped_by(watch.asked[0])
    if killed:
        code = killed[0].code
        assert code is not None
        return f"rank {killed[0].number} was killed ({signal.Signals(-code).name})"
    if failed and failed[0].code == Interrupted.exit_code:
        return f"rank {failed[0].number} was stopped (SIGINT)"  # its own words say which signal, if it had got so far
    if failed:
        return f"rank {failed[0].number} failed with exit code {failed[0].code}"
    if watch.overdue and watch.late:
        return f"{named(watch.overdue)} {watch.late}"
    return ""


class _Keeper:
    """Starts the ranks and watches them until all have ended."""

    def __init__(self, timeout_s: float) -> None:
        up_s = start_s(timeout_s)
        self.watch = Watch(timeout_s, time.monotonic() + up_s, f"did not come up within {up_s:g} s")
        self.ranks: list[Rank] = []
        self._selector = selectors.DefaultSelector()
        self._came: list[int] = []
        woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        self._woken = woken
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for signum in STOPPING:
            signal.signal(signum, lambda number, _: self._came.append(number))

    def start(self, script: Sequence[str], environments: Sequence[Mapping[str, str]], close: Callable[[], None]) -> None:
        """Fork the ranks; each calls `close` first, for what is open here and none of its business."""

        def forget() -> None:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            self._woken.close()
            self._wake.close()
            for rank in self.ranks:
                os.close(rank.pidfd)
            close()

        for number, environ in enumerate(environments):
            pid = fork_script(script, environ, forget)
            self.ranks.append(Rank(number=number, pid=pid, pidfd=os.pidfd_open(pid)))
            self._selector.register(self.ranks[-1].pidfd, selectors.EVENT_READ, self.ranks[-1])

    def wait(self, missing: Callable[[], Sequence[int]]) -> None:
        """Wait until all ranks have ended; `missing` are those that have not met the others yet."""
        while any(rank.code is None for rank in self.ranks):
            for key, _ in self._selector.select(self._patience_s()):
                if key.data is not None:
                    self._reap(key.data)
            self._hand_on()
            if not self.watch.up and not missing():
                self.watch.note_up()
            if time.monotonic() >= self.watch.deadline_s:
                self._kill_overdue(missing())
        for rank in self.ranks:
            _signal(rank, signal.SIGKILL)  # what a rank has left behind in its group

    def _patience_s(self) -> float | None:
        left_s = max(0.0, self.watch.deadline_s - time.monotonic())
        if not self.watch.up:
            return min(left_s, _LOOK_EVERY_S)
        return None if left_s == float("inf") else left_s

    def _reap(self, rank: Rank) -> None:
        self._selector.unregister(rank.pidfd)
        os.close(rank.pidfd)
        rank.code = os.waitstatus_to_exitcode(os.waitpid(rank.pid, 0)[1])
        if not rank.killed:
            self.watch.note_end(rank.code, time.monotonic())

    def _hand_on(self) -> None:
        """Send the ranks what we were sent."""
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(512, socket.MSG_DONTWAIT)
        while self._came:
            signum = self._came.pop(0)
            self.watch.note_signal(signum, time.monotonic())
            for rank in self.ranks:
                if rank.code is None:
                    os.kill(rank.pid, signum)

    def _kill_overdue(self, missing: Sequence[int]) -> None:
        late = [rank for rank in self.ranks if rank.code is None]
        named = [rank.number for rank in late if rank.number in missing] if not self.watch.up else []
        self.watch.overdue = named or [rank.number for rank in late]
        for rank in late:
            rank.killed = True
            _signal(rank, signal.SIGKILL)
        self.watch.deadline_s = float("inf")


def _signal(rank: Rank, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(rank.pid, signum)


class _Store:
    """The store that the ranks meet at, on the loopback address alone; a socket at first, that holds whoever connects."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        self._store: object | None = None

    def close(self) -> None:
        self._listening.close()

    def serve(self) -> None:
        """Answer the ranks from now on; threads do."""
        from torch._C._distributed_c10d import TCPStore

        held = self._listening.detach()
        self._store = TCPStore(HOST, self.port, is_master=True, wait_for_workers=False, master_listen_fd=held)

    def missing(self, num_ranks: int) -> list[int]:
        """Return the ranks that have not come to the store yet."""
        from commprof.commbench.ranks.meeting import came

        return [rank for rank in range(num_ranks) if not came(self._store, rank)]


def rank_environments(num_ranks: int, port: int, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Return each rank's environment: torchrun's variables, for what reads those, and our mark."""
    return [
        {
            **environ,
            KEPT_VARIABLE: "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(num_ranks),
            "LOCAL_WORLD_SIZE": str(num_ranks),
            "MASTER_ADDR": HOST,
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's word for a store that no rank holds
        }
        for rank in range(num_ranks)
    ]


def load_in_time(start_s: float, *, to_train: bool) -> None:
    """Load torch, or be ended by SIGALRM: an import that hangs in a file system hears nothing that Python would do.

    Nor is there anything yet that would have to be ended in order, so that here every signal does what it does by default.
    """
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # blocked until here by the launcher
    signal.alarm(math.ceil(start_s))
    load_torch(to_train=to_train)
    signal.alarm(0)


def keep(num_ranks: int, timeout_s: float, script: Sequence[str]) -> int:
    """Run the script as so many ranks until all have ended; return 0, 1 where one failed, 130 where they were stopped."""
    keeper, store = _Keeper(timeout_s), _Store()
    keeper.start(script, rank_environments(num_ranks, store.port, os.environ), store.close)
    store.serve()
    keeper.wait(lambda: store.missing(num_ranks))
    words = explain(keeper.ranks, keeper.watch)
    if words:
        sys.stderr.write(f"{WORDS}{words}\n")
        sys.stderr.flush()
    return 130 if keeper.watch.asked else int(bool(words))


def start_s(timeout_s: float) -> float:
    """Return how long torch may take to be loaded, and then the ranks to meet."""
    return max(timeout_s, _LEAST_START_S)


def main(words: Sequence[str]) -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(prog="commprof.commbench.ranks.keeper")
    parser.add_argument("--nproc", type=int, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--to-train", action="store_true")
    parser.add_argument("script", nargs="+")
    args = parser.parse_args(words)
    load_in_time(start_s(args.timeout), to_train=args.to_train)
    return keep(args.nproc, args.timeout, args.script)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the store's threads outlive the interpreter
