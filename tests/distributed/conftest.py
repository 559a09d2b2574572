"""Real processes, each with a deadline of its own: gloo ranks under --nproc, as users start them, or without a launcher.

Commands are forks of a process that has loaded torch where a test asks what they do rather than how they are started; those
start `SCRIPT`.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.records.types import RunInfo, Workload
from tests.factory import write_tiny_config
from tests.forked import DEADLINE_S, Command, Zygote

SCRIPT = Path(sys.executable).parent / "commprof"

FORK = (sys.executable, str(Path(__file__).parents[1] / "forked_ranks.py"))

Commprof = Callable[..., "subprocess.CompletedProcess[str]"]


def run_in(cwd: Path, *command: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder and return what it printed and its exit code."""
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=DEADLINE_S
    )


@pytest.fixture
def commprof(tmp_path: Path, zygote: Zygote) -> Commprof:
    """Run `commprof ARGS` in an empty folder and return what it printed and its exit code."""

    def run(*args: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
        return zygote.run(tmp_path, "commprof", *args, environ=environ)

    return run


@pytest.fixture
def forked(tmp_path: Path, zygote: Zygote) -> Commprof:
    """Run `commprof ARGS` on so many ranks, without a launcher, as `forked(2, ARGS)`."""
    return lambda num_ranks, *args: zygote.run(tmp_path, "commprof", *args, ranks=num_ranks)


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
    end_all(tmp_path)


@pytest.fixture
def fork(tmp_path: Path, zygote: Zygote) -> Iterator[Callable[..., Command]]:
    """Do the same with forks, launcher, keeper and ranks."""
    started: list[Command] = []

    def run(*args: str | Path) -> Command:
        started.append(Command(zygote, ("commprof", *args), tmp_path, tmp_path / f"printed.{len(started)}"))
        return started[-1]

    yield run
    for command in started:
        command.kill()
    end_all(tmp_path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A training configuration whose step takes milliseconds, with a cache of its own."""
    return write_tiny_config(tmp_path)


def steps_of(run: Path, rank: int = 0) -> list[StepMeasurement]:
    return list(read_records(run / f"steps.rank{rank:05d}.jsonl", StepMeasurement))


def the_run(folder: Path) -> tuple[Path, RunInfo, Workload]:
    """Return the one run of `record` in a folder."""
    (run,) = (folder / "runs").iterdir()
    info = read_info(run)
    assert info.workload is not None
    return run, info, info.workload


def told(errors: str) -> list[str]:
    """Return the lines but those of progress, which a slow machine has, and of what watches the host."""
    return [line for line in errors.splitlines() if "telemetry" not in line and not re.match(r"(# )?\w+ \d+/\d+ ", line)]


def processes_with(text: str, cwd: Path | None = None) -> Sequence[int]:
    """Return the ids of live processes whose command line holds `text`, or that are in the folder `cwd`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text in (entry / "cmdline").read_text() or (entry / "cwd").readlink() == cwd:
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def processes_of(run: Path) -> Sequence[int]:
    """Return the ids of a run's live processes: their command lines name it, or they were forked in the folder around it."""
    return processes_with(str(run), run.parent)


def ranks_of(run: Path) -> list[int]:
    """Return the process ids of a run's ranks, which carry their number in the name that top shows."""
    return sorted(pid for pid in processes_of(run) if name_of(pid).startswith("commprof "))


def name_of(pid: int) -> str:
    """Return the name of a process that top shows; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def end_all(folder: Path) -> None:
    """Kill what was started in a folder, or with its name, and is still there."""
    for pid in processes_with(str(folder), folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
