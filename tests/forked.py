"""Commands as forks of one process that has loaded torch (tests/zygote.py), for tests that do not ask how a process starts."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests import ROOT

DEADLINE_S = 240  # many times what it takes: a busy machine is no failure


@contextlib.contextmanager
def fork_server() -> Iterator[str]:
    """Start the process that zygotes are forked off, and yield the name by which they are had; it loads torch meanwhile."""
    name = f"commprof-tests-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        handle = listening.fileno()
        command = [sys.executable, "-m", "tests.zygote", str(handle)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[handle], cwd=ROOT)
    try:
        yield name
    finally:
        process.communicate(timeout=DEADLINE_S)


class Zygote:
    """The process that commands are forked off."""

    def __init__(self, server: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(f"\0{server}")
        self._lines = self._connection.makefile("rw")

    def _ask(self, request: Mapping[str, object]) -> int:
        self._lines.write(json.dumps(request) + "\n")
        self._lines.flush()
        return int(self._lines.readline())

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        out: Path,
        err: Path,
        ranks: int = 0,
        environ: Mapping[str, str] | None = None,
        phase: str = "",
    ) -> int:
        """Start `commprof ...`, or any script as so many `ranks` without a launcher, and return its process."""
        files = {"folder": str(folder), "out": str(out), "err": str(err)}
        return self._ask({
            "argv": list(words), "ranks": ranks, "environ": {**os.environ, **(environ or {})}, "phase": phase, **files
        })  # fmt: skip

    def reap(self, pid: int) -> int:
        """Return the exit code of a process that was started here, as subprocess counts."""
        return self._ask({"reap": pid})

    def run(
        self, folder: Path, *words: str | Path, ranks: int = 0, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a folder and return what it printed and its exit code, as subprocess.run does."""
        argv = [str(word) for word in words]
        with tempfile.TemporaryDirectory() as home:
            out, err = Path(home, "out"), Path(home, "err")
            pid = self.start(argv, folder, out=out, err=err, ranks=ranks, environ=environ)
            in_time = ended(pid, DEADLINE_S)
            if not in_time:
                os.killpg(pid, signal.SIGKILL)
            code = self.reap(pid)
            said, errors = (path.read_text(errors="replace") for path in (out, err))
        assert in_time, f"{argv} did not end within {DEADLINE_S} s: {said}{errors}"
        return subprocess.CompletedProcess(argv, code, said, errors)

    def end(self) -> None:
        self._lines.close()
        self._connection.close()


class Command:
    """A forked command, used as a Popen of it would be: its errors go where its output goes, to a file or a terminal."""

    def __init__(
        self,
        zygote: Zygote,
        words: Sequence[str | Path],
        folder: Path,
        out: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._zygote, self._out, self.args = zygote, out, [str(word) for word in words]
        self.pid = zygote.start(self.args, folder, out=out, err=out, environ=environ)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and ended(self.pid, 0):
            self.returncode = self._zygote.reap(self.pid)
        return self.returncode

    def wait(self, timeout: float = DEADLINE_S) -> int:
        if self.returncode is None:
            if not ended(self.pid, timeout):
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._zygote.reap(self.pid)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, None]:
        """Wait for its end and return what it printed to a file."""
        self.wait(timeout)
        return self._out.read_text(errors="replace"), None

    def kill(self) -> None:
        """End it if it is still there, and have it reaped."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def ended(pid: int, within_s: float) -> bool:
    """Say whether a process ends within a time."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            return bool(select.select([handle], [], [], within_s)[0])
        finally:
            os.close(handle)
    return True
