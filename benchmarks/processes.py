"""Run a few processes side by side until all have ended, and leave none behind."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import IO

from commprof.commbench.errors import RunFailed
from commprof.commbench.units import printable

_GRACE_S = 20.0  # what a launcher takes to end its ranks


def run_together(commands: Sequence[list[str]], timeout_s: float, environ: dict[str, str] | None = None) -> str:
    """Run all commands at once, `environ` added to ours, and return the first one's standard output.

    Raises RunFailed when one fails or is not done after `timeout_s`: one line, with the last that it wrote.
    """
    with ExitStack() as stack:
        logs = [
            (stack.enter_context(tempfile.TemporaryFile()), stack.enter_context(tempfile.TemporaryFile())) for _ in commands
        ]
        started: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, started)
        deadline_s = time.monotonic() + timeout_s
        for command, (out, err) in zip(commands, logs, strict=True):
            started.append(
                subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True, env={**os.environ, **(environ or {})})
            )
        late = _wait(started, deadline_s)
        for process, (out, err) in zip(started, logs, strict=True):
            if process.poll():
                reason = _last_line(err) or _last_line(out) or "it wrote no reason"
                raise RunFailed(f"{_name(process)} failed with code {process.returncode}: {reason}")
        if late is not None:
            raise RunFailed(f"{_name(late)} had not ended after {timeout_s:g} s")
        return _read(logs[0][0])


def _wait(processes: Sequence[subprocess.Popen[bytes]], deadline_s: float) -> subprocess.Popen[bytes] | None:
    """Wait for all of them; return one that did not end in time."""
    for process in processes:
        try:
            process.wait(timeout=max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return process
    return None


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs, first by SIGINT, so that a launcher can end its own ranks, then by SIGKILL."""
    for process in processes:
        for signum in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signum)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_GRACE_S)


def _name(process: subprocess.Popen[bytes]) -> str:
    assert isinstance(process.args, list)
    return printable(" ".join(map(str, process.args)))[:200]


def _last_line(log: IO[bytes]) -> str:
    lines = _read(log).strip().splitlines()
    return printable(lines[-1])[:300] if lines else ""


def _read(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")
