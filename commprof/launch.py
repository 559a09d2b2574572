"""Start a verb on N ranks of this machine with torchrun, and leave nothing behind.

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from commbench.errors import BadInput, CommprofError, RunFailed
from commbench.records import RunKind
from commbench.rundir import RUN_FILE, finish_run, new_run_path
from commbench.units import printable

_KINDS: dict[str, RunKind] = {"bench": "bench", "links": "links", "contention": "contention", "train": "train"}
_STOP_GRACE_S = 15.0  # torchrun forwards the signal, waits for its ranks, then kills them
# torchrun's own log, and the probe lines that Kineto prints when a profiler starts and stops.
_CHATTER = re.compile(r"[WI]\d{4} .*torch/distributed/|USDT:")
_TORCHRUN_FAILURE = re.compile(r"E\d{4} .*torch/distributed/")
_DEAD_RANK = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")


def run_verb(name: str, argv: Sequence[str], args: argparse.Namespace) -> int:
    """Start `commprof NAME ARGV` on args.nproc ranks and return the exit code; raise RunFailed when a rank died."""
    run = args.folder or new_run_path(args.out, _KINDS[name], args.nproc)
    launch([name, *_without_launch_flags(argv), "--folder", str(run)], args.nproc, run)
    return 0


def launch(
    verb_argv: Sequence[str],
    num_ranks: int,
    run: Path,
    *,
    log: IO[str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run `commprof VERB_ARGV` on `num_ranks` ranks until it ends, all output to `log` or else to the terminal.

    One rank needs no torchrun and trains without DDP: the baseline of a speedup is the program people had before.
    `on_line` sees each line of the ranks' standard error as it comes. On any failure the run folder, if it exists, is
    marked failed (interrupted on SIGINT). Raises RunFailed naming the rank that died, or KeyboardInterrupt.
    """
    child = subprocess.Popen(
        torchrun_command(verb_argv, num_ranks) if num_ranks > 1 else [str(console_script()), *verb_argv],
        stdout=log,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env={"OMP_NUM_THREADS": "1", **os.environ},  # torchrun's own choice, made here without its warning
    )
    assert child.stderr is not None
    noise: list[str] = []
    target = log or sys.stderr
    reader = threading.Thread(target=_forward, args=(child.stderr, target, noise, on_line), daemon=True)
    reader.start()
    try:
        code = child.wait()
    except BaseException:
        noise.append("interrupted\n")  # from here on the user knows why; torchrun's traceback adds nothing
        _stop(child)
        _mark(run, "interrupted", "stopped by SIGINT")
        raise
    reader.join(timeout=_STOP_GRACE_S)
    if code != 0:
        raise _explain("".join(noise), run)


def torchrun_command(verb_argv: Sequence[str], num_ranks: int) -> list[str]:
    """Return the torchrun line: console script, so that a user's own train.py is never imported; any free port."""
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


def _forward(source: IO[str], target: IO[str], noise: list[str], on_line: Callable[[str], None] | None) -> None:
    """Copy lines until torchrun begins to explain a failure; keep its words in `noise` (bounded)."""
    for line in source:
        if noise or _TORCHRUN_FAILURE.match(line):
            noise.append(line[:1000])
            del noise[500:]
        elif not _CHATTER.match(line):
            target.write(line)
            target.flush()
            if on_line is not None:
                on_line(line)


def _explain(noise: str, run: Path) -> CommprofError:
    dead = _DEAD_RANK.search(noise)
    if dead is None:
        reason = "the ranks could not be started or did not end well; their own words are above"
    elif int(dead[1]) < 0:
        reason = f"rank {dead[2]} was killed ({signal.Signals(-int(dead[1])).name})"
    else:
        reason = f"rank {dead[2]} failed; its own words are above"
    _mark(run, "failed", reason)
    where = f"; what was measured until then is in {run}" if (run / RUN_FILE).exists() else ""
    return RunFailed(f"{reason}{where}")


def _mark(run: Path, status: str, reason: str) -> None:
    assert status in ("failed", "interrupted")
    if (run / RUN_FILE).exists():
        finish_run(run, "failed" if status == "failed" else "interrupted", printable(reason), override=True)


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
