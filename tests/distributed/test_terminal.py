"""Ranks, their launcher and a line of progress share one terminal, and leave it whole."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.distributed.conftest import DEADLINE_S, end_all, ranks_of
from tests.forked import Command, Zygote
from tests.terminals import Watched, screen

Started = tuple[Command, Watched]


@pytest.fixture
def fork_watched(tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Started]]:
    """Start `commprof ARGS` as a shell would, in the foreground of a terminal of 80 columns."""
    monkeypatch.setenv("TERM", "xterm")
    started: list[Command] = []

    def run(*args: str | Path) -> Started:
        watched = Watched()
        started.append(Command(zygote, ("commprof", *args), tmp_path, Path(os.ttyname(watched.theirs))))
        return started[-1], watched

    yield run
    for command in started:
        command.kill()
    end_all(tmp_path)


def ended(process: Command, watched: Watched) -> list[str]:
    """Return what stands on the terminal after the process has ended; its cursor must show."""
    process.wait(DEADLINE_S)
    lines, cursor = screen(watched.seen())
    assert cursor
    assert not any("━" in line or "remaining" in line for line in lines)
    return lines


def test_a_bench_leaves_its_table_alone(fork_watched: Callable[..., Started], tmp_path: Path) -> None:
    process, watched = fork_watched("bench", "-e", "64K", "--seconds", "3", "--nproc", "2", "--folder", tmp_path / "r")
    watched.wait_for("/28  ", DEADLINE_S)  # 14 sizes, in and out of place
    lines = ended(process, watched)
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert process.returncode == 0
    assert [int(row[0]) for row in rows] == [2**k for k in range(3, 17)]
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_training_that_is_stopped_leaves_no_half_line(
    fork_watched: Callable[..., Started], tmp_path: Path, tiny: Path, how: str
) -> None:
    run = tmp_path / "r"
    words = ("training.max_steps=100000", "training.epochs=100000", "--nproc", "2", "--folder", run)
    process, watched = fork_watched("train", tiny, *words)
    watched.wait_for("/100000  loss", DEADLINE_S)
    if how == "interrupted":
        os.killpg(process.pid, signal.SIGINT)
    else:
        for pid in ranks_of(run):
            with suppress(ProcessLookupError):  # the launcher ends the others when it sees the first one gone
                os.kill(pid, signal.SIGKILL)
    lines = ended(process, watched)
    assert not any("/100000" in line for line in lines)
    assert [line for line in lines if line][-1].startswith("commprof: ")
