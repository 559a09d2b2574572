"""Start a verb on N ranks here, leaving nothing.

    commprof VERB --nproc N     the launcher: waits, says in one line what went wrong, marks the run
      keeper                    loads torch, forks the ranks, holds their store, watches (commbench/ranks/keeper.py)
        rank 0 .. N-1           commprof VERB

The launcher lets the ranks' own words through, keeps their error lines and the keeper's for the one line that matters, and
writes down what ended the run even when rank 0 is dead.
"""

import argparse
import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

from commprof.commbench.display.terminal import clear_line
from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed
from commprof.commbench.machine.processes import is_stopped
from commprof.commbench.progress import TERMINAL_VARIABLE, terminal
from commprof.commbench.ranks import keeper
from commprof.commbench.ranks.heard import Heard, forward, waited_for
from commprof.commbench.ranks.stopping import STOPPING, answering_later, child_dies_with, raise_when_stopped, stopped_by
from commprof.commbench.records.ownership import MARK_VARIABLE, belongs_to, take
from commprof.commbench.records.rundir import RUN_FILE, finish_run, new_run_path, read_info
from commprof.commbench.records.types import RunKind, RunStatus
from commprof.commbench.units import printable

_KINDS: dict[str, RunKind] = {"bench": "bench", "links": "links", "contention": "contention", "train": "train"}
_STOP_GRACE_S = 40.0  # for the keeper, which gives its ranks 30 s
_LOOK_EVERY_S = 1.0
_LOOKS_STOPPED = 3  # in a row, before a child that is stopped is made to go on
_DRAIN_S = 15.0  # for the last words of ranks that were killed


def run_verb(name: str, argv: Sequence[str], args: argparse.Namespace) -> int:
    """Start `commprof NAME ARGV` on args.nproc ranks and return the exit code; raise RunFailed when a rank died."""
    resumed = getattr(args, "resume", None)
    run = resumed or args.folder or new_run_path(args.out, _KINDS[name], args.nproc)
    folder = [] if resumed else ["--folder", str(run)]
    watched = {TERMINAL_VARIABLE: "1"} if terminal() is sys.stderr else {}
    command = local_command([name, *_without_launch_flags(argv), *folder], args.nproc, args.timeout)
    try:
        launch(command, run, environ=watched)
    except (KeyboardInterrupt, Interrupted) as error:
        ours = not isinstance(error, Interrupted) or error.signum != 0
        if ours and name == "bench" and (run / RUN_FILE).exists():  # what its ranks say of it is not heard any more
            again = f"commprof bench --resume {run} --nproc {args.nproc} goes on with the rest"
            sys.stderr.write(printable(f"what was measured is in {run}; {again}") + "\n")
        raise
    finally:
        clear_line(sys.stderr)  # a rank that was killed left its line of progress behind
    return 0


def launch(
    command: Sequence[str],
    run: Path,
    *,
    environ: Mapping[str, str] = MappingProxyType({}),
    log: IO[str] | None = None,
    on_line: Callable[[str], None] | None = None,
    orphaned: signal.Signals = signal.SIGKILL,
) -> None:
    """Run a command that starts the ranks of `run` until it ends, all output to `log` or else to the terminal.

    `environ` goes over the environment; one thread a rank is the default, as torchrun's. `on_line` sees each line of the
    ranks' standard error as it comes. `orphaned` ends the command where we are killed: one that has to end others in turn is
    told by SIGTERM. On any failure the run folder, if it exists, is marked failed (interrupted on SIGINT).
    Raises RunFailed naming the rank that died, or Interrupted, or KeyboardInterrupt.
    """
    raise_when_stopped()
    mark, is_keeper = secrets.token_hex(8), keeper.__name__ in command
    child = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_begin_as_child(os.getpid(), orphaned, blocks=is_keeper),  # noqa: PLW1509  a killed launcher leaves nobody behind
        env={"OMP_NUM_THREADS": "1", **os.environ, **environ, MARK_VARIABLE: mark},
    )
    assert child.stderr is not None
    heard = Heard()
    reader = threading.Thread(target=forward, args=(child.stderr, log or sys.stderr, heard, on_line), daemon=True)
    reader.start()
    try:
        code = _wait(child, is_keeper=is_keeper)
    except (KeyboardInterrupt, Interrupted) as error:
        heard.stopped = True
        reason = str(error) or stopped_by(signal.SIGINT)
        _stop(child, signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.signum or signal.SIGTERM)
        with answering_later():
            if not _is_interrupted(run):  # the ranks' own words say how to go on
                _mark(run, mark, "interrupted", reason)
        raise
    except BaseException:
        _stop(child, signal.SIGTERM)
        raise
    reader.join(timeout=_DRAIN_S)
    if code != 0:
        raise _explain(heard, run, mark, code, "rank 0" if _is_a_rank(command) else "the launcher of the ranks")


def _wait(child: subprocess.Popen[str], *, is_keeper: bool) -> int:
    """Wait for the child's end. A keeper that is stopped holds the store, where its ranks would wait for ever: it is made to go
    on. Looks are counted, not seconds, so that a command that was stopped as a whole is not taken for one.
    """
    ending, stopped_looks = os.pidfd_open(child.pid), 0
    try:
        while is_keeper and not select.select([ending], [], [], _LOOK_EVERY_S)[0]:
            stopped_looks = stopped_looks + 1 if is_stopped(child.pid) else 0
            if stopped_looks == _LOOKS_STOPPED:
                sys.stderr.write("the process that watches over the ranks was stopped; it is made to go on\n")
                os.kill(child.pid, signal.SIGCONT)
                stopped_looks = 0
    finally:
        os.close(ending)
    return child.wait()


def _begin_as_child(launcher: int, orphaned: signal.Signals, *, blocks: bool) -> Callable[[], None]:
    """Return what the child does first: die with us, and a keeper, which alone `blocks` what stops it, hear that once it can
    answer. Nobody else would ever unblock it.
    """
    die_with_us = child_dies_with(launcher, orphaned)

    def begin() -> None:
        if blocks:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        die_with_us()

    return begin


def _is_a_rank(command: Sequence[str]) -> bool:
    return command[0] == str(console_script()) and command[1] != "testbed"


def local_command(verb_argv: Sequence[str], num_ranks: int, timeout_s: float) -> list[str]:
    """Return what runs `commprof VERB_ARGV` on ranks of this machine, which wait for each other as long as the timeout.

    One rank needs no keeper and trains without DDP: the baseline of a speedup is the program people had before. Ranks are
    started by the console script, so that a user's own train.py is never imported.
    """
    if num_ranks == 1:
        return [str(console_script()), *verb_argv]
    return [
        *(sys.executable, "-P", "-m", keeper.__name__),
        *("--nproc", str(num_ranks), "--timeout", f"{timeout_s:g}", *(["--to-train"] if verb_argv[0] == "train" else []), "--"),
        *(str(console_script()), *verb_argv),
    ]


def console_script() -> Path:
    """Return this installation's `commprof`, wherever the shell's PATH points."""
    script = Path(sys.executable).parent / "commprof"
    if not script.exists():
        raise BadInput(f"{script} is missing; install the package into this environment (pip install .)")
    return script


def _without_launch_flags(argv: Sequence[str]) -> Iterator[str]:
    """Drop --nproc, --folder and --out with their values: every rank gets the one folder chosen here."""
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in ("--nproc", "--folder", "--out"):
            skip = True
        elif not word.startswith(("--nproc=", "--folder=", "--out=")):
            yield word


def _explain(heard: Heard, run: Path, mark: str, code: int, child: str) -> CommprofError:
    """Put what ended the run into one line: who was killed, or the ranks' own words, or how the first of them ended."""
    known = _is_ours(run, mark)
    where = _what_is_left(run) if known else ""
    if code == -signal.SIGALRM:
        reason = "torch was not loaded in time; look at the file system that it lies on, or give it more with --timeout"
    elif code < 0:
        reason = f"{child} was killed ({signal.Signals(-code).name})"
    elif "was killed" in heard.ending:
        reason = waited_for(heard, read_info(run).world_size if known else None) or heard.ending
    elif known and (info := read_info(run)).status == "interrupted":
        return Interrupted(f"{info.failure}{where}")
    elif code == Interrupted.exit_code:
        reason = next(iter([*filter(None, [heard.ending]), *heard.words]), stopped_by(signal.SIGINT))
        _mark(run, mark, "interrupted", reason)
        return Interrupted(f"{reason}{where}")
    elif heard.words and heard.words[0].startswith("stopped by "):  # after its run was marked
        return Interrupted(f"{heard.words[0]}{where}")
    else:
        unheard = "the ranks could not be started or did not end well; their own words are above"
        reason = next(iter([*heard.words, *filter(None, [heard.ending])]), unheard)
    _mark(run, mark, "failed", reason)
    return RunFailed(f"{reason}{where}")


def _mark(run: Path, mark: str, status: RunStatus, reason: str) -> None:
    """Mark the run where it is ours and nobody has gone on with it meanwhile."""
    if not _is_ours(run, mark):
        return
    try:
        owned = take(run, mark)
    except BadInput:
        return  # another command has it; it wrote its own mark after we looked
    try:
        finish_run(run, status, printable(reason), override=True)
    finally:
        owned.release()


def _is_ours(run: Path, mark: str) -> bool:
    return (run / RUN_FILE).is_file() and belongs_to(run, mark)


def _what_is_left(run: Path) -> str:
    """Say where the measurements are, or that there are none: then there is nothing to go on with."""
    if any(path.stat().st_size for path in run.glob("*.jsonl") if not path.name.startswith("telemetry")):
        return f"; what was measured until then is in {run}"
    return f"; nothing was measured, {run} says why: start anew, in a new folder"


def _is_interrupted(run: Path) -> bool:
    return (run / RUN_FILE).is_file() and read_info(run).status == "interrupted"


def _stop(child: subprocess.Popen[str], signum: int) -> None:
    """Have the keeper end its ranks as we are ended; hand on what else comes meanwhile, and kill what does not listen."""
    deadline_s = time.monotonic() + _STOP_GRACE_S
    while child.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signum)
            os.kill(child.pid, signal.SIGCONT)  # one that is stopped hears nothing else
        try:
            child.wait(timeout=deadline_s - time.monotonic())
        except subprocess.TimeoutExpired:
            break
        except KeyboardInterrupt:
            signum = signal.SIGINT
        except Interrupted as error:
            signum = error.signum
    if child.poll() is None:
        child.kill()
        child.wait()
