"""Start a verb on N ranks: with torchrun, on this machine, leaving nothing behind.

torchrun turns every exit code into 1 and explains a dead rank over forty lines. The launcher lets the ranks' own words
through, keeps torchrun's for the one line that matters, and writes down what ended the run even when rank 0 is dead.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

from commprof.commbench.display.terminal import clear_line
from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed
from commprof.commbench.progress import TERMINAL_VARIABLE, terminal
from commprof.commbench.ranks.stopping import die_with_parent, raise_on_sigterm
from commprof.commbench.records.rundir import RUN_FILE, finish_run, new_run_path, read_info
from commprof.commbench.records.types import RunKind
from commprof.commbench.units import printable

_KINDS: dict[str, RunKind] = {"bench": "bench", "links": "links", "contention": "contention", "train": "train"}
_STOP_GRACE_S = 15.0  # torchrun forwards the signal, waits for its ranks, then kills them
_REAP_GRACE_S = 4.0  # for the other ranks once one has failed; torchrun would wait 30 s for one that was stopped
# torchrun's own log, and the probe lines that Kineto prints when a profiler starts and stops.
_CHATTER = re.compile(r"[WI]\d{4} .*torch/distributed/|USDT:")
_TORCHRUN_FAILURE = re.compile(r"E\d{4} .*torch/distributed/")
_WORDS = "commprof: error: "
_DEAD_RANK = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")


def run_verb(name: str, argv: Sequence[str], args: argparse.Namespace) -> int:
    """Start `commprof NAME ARGV` on args.nproc ranks and return the exit code; raise RunFailed when a rank died."""
    resumed = getattr(args, "resume", None)
    run = resumed or args.folder or new_run_path(args.out, _KINDS[name], args.nproc)
    folder = [] if resumed else ["--folder", str(run)]
    watched = {TERMINAL_VARIABLE: "1"} if terminal() is sys.stderr else {}
    try:
        launch(local_command([name, *_without_launch_flags(argv), *folder], args.nproc), run, environ=watched)
    except (KeyboardInterrupt, Interrupted):
        if name == "bench" and (run / RUN_FILE).exists():  # what its ranks say of it is not heard any more
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
) -> None:
    """Run a command that starts the ranks of `run` until it ends, all output to `log` or else to the terminal.

    `environ` goes over the environment; one thread a rank is the default, as torchrun's. `on_line` sees each line of the
    ranks' standard error as it comes. On any failure the run folder, if it exists, is marked failed (interrupted on SIGINT).
    Raises RunFailed naming the rank that died, or KeyboardInterrupt.
    """
    raise_on_sigterm()
    child = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  one system call: a killed launcher must not leave torchrun behind
        env={"OMP_NUM_THREADS": "1", **os.environ, **environ},  # torchrun's own choice, made here without its warning
    )
    assert child.stderr is not None
    heard = _Heard()
    reader = threading.Thread(target=_forward, args=(child.stderr, log or sys.stderr, heard, on_line), daemon=True)
    reader.start()
    try:
        code = _wait(child, heard)
    except (KeyboardInterrupt, Interrupted) as error:
        heard.noise.append("interrupted\n")  # from here on the user knows why; torchrun's traceback adds nothing
        _stop(child)
        if not _is_interrupted(run):  # the ranks' own words say how to go on
            _mark(run, "interrupted", str(error) or "stopped by SIGINT")
        raise
    except BaseException:
        _stop(child)
        raise
    reader.join(timeout=_STOP_GRACE_S)
    if code != 0:
        raise _explain(heard, run, code)


def local_command(verb_argv: Sequence[str], num_ranks: int) -> list[str]:
    """Return what runs `commprof VERB_ARGV` on ranks of this machine: torchrun at any free port.

    One rank needs no torchrun and trains without DDP: the baseline of a speedup is the program people had before. Ranks are
    started by the console script, so that a user's own train.py is never imported.
    """
    if num_ranks == 1:
        return [str(console_script()), *verb_argv]
    return [
        *(sys.executable, "-P", "-m", "torch.distributed.run"),
        *("--standalone", "--nproc-per-node", str(num_ranks), "--no-python"),
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


@dataclass(slots=True)
class _Heard:
    """What the ranks' standard error held besides output: their own error lines, and torchrun's words (both bounded)."""

    words: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    failure: threading.Event = field(default_factory=threading.Event)


def _forward(source: IO[str], target: IO[str], heard: _Heard, on_line: Callable[[str], None] | None) -> None:
    """Copy lines, but keep the ranks' error lines and, once it begins to explain a failure, all of torchrun's."""
    for line in source:
        if line.startswith(_WORDS):
            heard.words.append(line.removeprefix(_WORDS).strip()[:1000])
            del heard.words[500:]
            heard.failure.set()
        elif heard.noise or _TORCHRUN_FAILURE.match(line):
            heard.noise.append(line[:1000])
            del heard.noise[500:]
            heard.failure.set()
        elif not _CHATTER.match(line):
            clear_line(target)
            target.write(line)
            target.flush()
            if on_line is not None:
                on_line(line)


def _explain(heard: _Heard, run: Path, code: int) -> CommprofError:
    """Put what ended the run into one line: who was killed, or the ranks' own words, or torchrun's exit codes."""
    dead = _DEAD_RANK.search("".join(heard.noise))
    known = (run / RUN_FILE).exists()
    where = f"; what was measured until then is in {run}" if known else ""
    if code < 0:
        reason = f"the launcher was killed ({signal.Signals(-code).name})"
    elif dead is not None and int(dead[1]) < 0:
        reason = f"rank {dead[2]} was killed ({signal.Signals(-int(dead[1])).name})"
    elif known and (info := read_info(run)).status == "interrupted":
        return Interrupted(f"{info.failure}{where}")
    elif heard.words:
        reason = heard.words[0]
    elif dead is not None:
        reason = f"rank {dead[2]} failed; its own words are above"
    else:
        reason = "the ranks could not be started or did not end well; their own words are above"
    _mark(run, "failed", reason)
    return RunFailed(f"{reason}{where}")


def _mark(run: Path, status: str, reason: str) -> None:
    assert status in ("failed", "interrupted")
    if (run / RUN_FILE).is_file():
        finish_run(run, "failed" if status == "failed" else "interrupted", printable(reason), override=True)


def _is_interrupted(run: Path) -> bool:
    return (run / RUN_FILE).is_file() and read_info(run).status == "interrupted"


def _wait(child: subprocess.Popen[str], heard: _Heard) -> int:
    """Wait for torchrun to end; once a rank has failed, kill those that have not ended within the grace."""
    while (code := child.poll()) is None:
        if heard.failure.wait(timeout=0.2):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=_REAP_GRACE_S)
            for rank in _children(child.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGKILL)
            return child.wait()
    return code


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started; none where the system does not tell (it is not Linux)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _stop(child: subprocess.Popen[str]) -> None:
    """End torchrun, and through it its ranks; kill what does not listen."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signum)
        try:
            child.wait(timeout=_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        return
