"""Started by tests: loads torch once and forks a zygote for whoever connects, off which commands are forked, launchers, keepers
and ranks alike.

A command's processes are what they always are, but that the launcher, the keeper, a rank that needs none and ranks that are
recorded are forked where they would be started anew, as if they had been executed. So a command costs a tenth of the processor
time of a real start. What becomes of a real start is for tests that make one. Requests are JSON lines, answers are numbers:

    {"argv": ["commprof" or "-m", ...], "ranks": N, "folder": ..., "out": ..., "err": ..., "environ": {...}, "phase": ...}
        a command or a module in a folder, its output in two files; N ranks of it without a launcher, of any script then, unless
        N is 0; held at a phase (tests/faults/holding.py) unless that is ""; answered by its process
    {"reap": PID}
        answered by its exit code, as subprocess counts
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
from commprof import cli
from commprof.analysis.report.sections import build  # noqa: F401  what verbs that explain load, scipy and matplotlib with it
from commprof.commbench.foreign.asked import VARIABLE
from commprof.commbench.ranks import keeper
from commprof.study import cli as study  # noqa: F401
from tests import forked_ranks  # loads torch, before any fork
from tests.faults import holding

Popen = subprocess.Popen
run_path = runpy.run_path


class ForkedPopen(Popen):  # type: ignore[type-arg]
    """A Popen whose keepers and single ranks are forks of this process, in every other respect as if executed."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        words = [str(word) for word in args]
        become = program(words)
        if become is None:
            super()._execute_child(args, executable, preexec_fn, *rest)
            return
        (_, _, _, environ, _, _, _, _, _, _, out, _, err, _, _, _, _, _, new_session, group) = rest
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()
        self.pid = os.fork()
        if self.pid == 0:
            weakref.finalize._registry.clear()  # type: ignore[attr-defined]  our temporary folders are not the program's to remove
            begin(environ, out, err, new_session=new_session, group=group, preexec=preexec_fn)
            run(become, words)
        self._child_created = True
        self._close_pipe_fds(*rest[7:13])  # type: ignore[attr-defined]


def program(words: list[str]) -> Callable[[], int] | None:
    """Return what a command line would have run, where it is a keeper's, another module's of ours, the console script's or that
    of ranks without a launcher."""
    if keeper.__name__ in words:
        return lambda: keeper.main(words[words.index(keeper.__name__) + 1 :])
    if words[0].endswith("/commprof"):
        return enter
    if words[1:3] == ["-P", "-m"] and words[3].startswith("commprof."):
        return lambda: run_module(words[3:])
    if words[1:2] == [forked_ranks.__file__]:
        return lambda: run_ranks(words[2:])
    return None


def begin(environ: Any, out: int, err: int, *, new_session: bool, group: int, preexec: Callable[[], None] | None) -> None:
    """Do what lies between a fork and a program: session, streams, signals, environment, files that are not handed on."""
    if new_session:
        os.setsid()
    if group >= 0:
        os.setpgid(0, group)
    for handle, number in ((out, 1), (err, 2)):
        if handle >= 0:
            os.dup2(handle, number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  the old ones know the old files' ways
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.closerange(3, 512)
    if preexec is not None:
        preexec()
    if environ is not None:
        os.environ.clear()
        os.environ.update(environ)


def run(become: Callable[[], int], words: list[str]) -> None:
    code = 1
    try:
        sys.argv = words
        code = become()
    except SystemExit as ending:
        code = int(ending.code or 0)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException:  # noqa: BLE001  a fork must not go on as its parent would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def enter() -> int:
    """Become a rank, which holds at its phase, or the launcher."""
    if os.environ.get("RANK") is not None and holding.PHASE in os.environ:
        holding.hold_at(os.environ[holding.PHASE])
    cli.enter()


def run_module(words: list[str]) -> int:
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    return 0


def run_ranks(words: list[str]) -> int:
    """Be Python as it starts, which `commprof record` may have told to look into a folder of its own, then the ranks."""
    if VARIABLE in os.environ:
        from commprof.commbench.foreign.startup import sitecustomize

        sitecustomize._arm()
    runpy.run_path = run_path
    return forked_ranks.main(int(words[0]), words[1:])


def start(request: dict[str, Any]) -> int:
    if (pid := os.fork()) != 0:
        return pid
    out, err = (os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("out", "err"))
    if request["phase"]:
        holding.come_up_soon()
    held = {holding.FOLDER: request["folder"], holding.PHASE: request["phase"]} if request["phase"] else {}
    begin({**request["environ"], **held}, out, err, new_session=True, group=-1, preexec=None)
    os.chdir(request["folder"])
    if ranks := request["ranks"]:
        run(lambda: forked_ranks.main(ranks, request["argv"]), request["argv"])
    subprocess.Popen = ForkedPopen  # type: ignore[misc]
    runpy.run_path = lambda *_, **__: {"__name__": enter()}  # type: ignore[assignment]  what the keeper's forks become
    if request["argv"][0] == "-m":
        run(lambda: run_module(request["argv"][1:]), request["argv"][1:])
    run(enter, request["argv"])
    raise AssertionError


def serve(connection: socket.socket) -> None:
    """Be one client's zygote until it hangs up."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    requests = connection.makefile("rw")
    for line in requests:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = start(request)
        requests.write(f"{answer}\n")
        requests.flush()


def main(listening: socket.socket) -> None:
    """Fork a zygote for each connection until standard input ends, with whoever started this; then wait for their ends."""
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            serve(connection)
            return
        connection.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
