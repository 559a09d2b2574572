"""Real processes: gloo ranks under torchrun, started as users start them, each with a deadline of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.factory import write_tiny_config

DEADLINE_S = 120
SCRIPT = Path(sys.executable).parent / "commprof"

Commprof = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def commprof(tmp_path: Path) -> Commprof:
    """Run `commprof ARGS` in an empty folder and return what it printed and its exit code."""

    def run(*args: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, *map(str, args)], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    return run


@pytest.fixture
def start(tmp_path: Path) -> "Iterator[Callable[..., subprocess.Popen[str]]]":
    """Start `commprof ARGS` in an empty folder, as its own process group, and return the process.

    What a failed test leaves is ended with it, ranks of other sessions too: their command lines name the folder.
    """
    started: list[subprocess.Popen[str]] = []

    def run(*args: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [SCRIPT, *map(str, args)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
    for pid in processes_with(str(tmp_path)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A training configuration whose step takes milliseconds, with a cache of its own."""
    return write_tiny_config(tmp_path)


def processes_with(text: str) -> Sequence[int]:
    """Return the ids of live processes whose command line holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found
