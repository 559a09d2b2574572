"""Started by the grid: loads torch once and forks commands off it, launcher, keeper and ranks alike.

A command's processes are what they always are, but that the launcher, the keeper and a rank that needs none are forked where
they would be started anew, as if they had been executed. So a fault costs a tenth of the processor time of a real start.
Requests are JSON lines on standard input, answers on standard output:

    {"argv": [...], "folder": "...", "phase": "..."}   a command that holds at the phase in each rank, its output in the folder
                                                       or in "out"; answered by its process
    {"reap": PID}                                      answered by its exit code, as subprocess counts

A rank that holds has written its process id to `held.RANK` in the folder, and goes on once somebody has opened `go.RANK` for
writing.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel  # noqa: F401  loaded before the fork

from commprof import cli
from commprof.commbench.bench import run as _bench  # noqa: F401
from commprof.commbench.bench import timer
from commprof.commbench.contention import overlap
from commprof.commbench.links import copies
from commprof.commbench.ranks import keeper, runtime, session
from commprof.train import loop
from tests.faults.grid import START_S

Popen = subprocess.Popen
keeper._LEAST_START_S = START_S


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
            begin(environ, out, err, new_session=new_session, group=group, preexec=preexec_fn)
            run(become, words)
        self._child_created = True
        for handle in (out, err):
            if handle > 2:
                os.close(handle)


def program(words: list[str]) -> Callable[[], int] | None:
    """Return what a command line would have run, where it is a keeper's or the console script's."""
    if keeper.__name__ in words:
        return lambda: keeper.main(words[words.index(keeper.__name__) + 1 :])
    if words[0].endswith("/commprof"):
        return enter
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
    """Become a rank that holds at the phase, or the launcher."""
    if os.environ.get("RANK") is not None:
        hold_at(os.environ["FAULT_PHASE"])
    cli.enter()


def hold_at(phase: str) -> None:
    if phase == "loading":
        hold()
    elif phase == "meeting":
        before(runtime, "meet")
    elif phase == "set-up":
        before(session, "_describe_hosts")
    elif phase == "measuring":
        before(timer.CallTimer, "_exchange")
        before(copies, "time_calls")
        before(overlap, "gather_values")
        before(loop, "train_step")
    elif phase == "teardown":
        before(dist, "destroy_process_group")


def before(home: Any, name: str) -> None:
    """Hold before a function is called for the first time."""
    called = getattr(home, name)

    def held(*args: Any, **named: Any) -> Any:
        setattr(home, name, called)
        hold()
        return called(*args, **named)

    setattr(home, name, held)


def hold() -> None:
    """Say that this rank has come to the phase, and wait to be let go."""
    folder, rank = Path(os.environ["FAULT_FOLDER"]), os.environ["RANK"]
    os.mkfifo(folder / f"go.{rank}")
    (folder / f"held.{rank}.part").write_text(str(os.getpid()))
    (folder / f"held.{rank}.part").rename(folder / f"held.{rank}")
    os.close(os.open(folder / f"go.{rank}", os.O_RDONLY))


def start(request: dict[str, Any]) -> int:
    folder = Path(request["folder"])
    if (pid := os.fork()) != 0:
        return pid
    names = (request.get("out", folder / "out"), folder / "err")
    out, err = (os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in names)
    environ = {**os.environ, "FAULT_FOLDER": str(folder), "FAULT_PHASE": request["phase"]}
    begin(environ, out, err, new_session=True, group=-1, preexec=None)
    os.chdir(folder)
    subprocess.Popen = ForkedPopen  # type: ignore[misc]
    runpy.run_path = lambda *_, **__: {"__name__": enter()}  # type: ignore[assignment]  what the keeper's forks become
    run(enter, request["argv"])
    raise AssertionError


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = start(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
