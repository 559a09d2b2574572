"""Two commands that want one run, and one whose output nobody takes: on forks of one process."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.types import CollectiveMeasurement
from tests.faults.conftest import DEADLINE_S, come_to_hold, let_go, wait_until
from tests.forked import Zygote, ended

SWEEP = ("-b", "8", "-e", "128", "-n", "2", "-w", "1", "--place", "out", "--timeout", "30")


class Commands:
    """Starts benches of one run folder, each with a folder of its own for what it says."""

    def __init__(self, zygote: Zygote, home: Path) -> None:
        self._zygote, self._home, self.run = zygote, home, home / "r"

    def start(self, name: str, flags: Sequence[str], phase: str = "", out: str | None = None) -> int:
        folder = self._home / name
        folder.mkdir()
        words = ["commprof", "bench", "--nproc", "2", *flags]
        return self._zygote.start(words, folder, out=Path(out or folder / "out"), err=folder / "err", phase=phase)

    def end(self, name: str, pid: int) -> tuple[int, str]:
        """Return the exit code and what was said on standard error."""
        assert ended(pid, DEADLINE_S)
        return self._zygote.reap(pid), (self._home / name / "err").read_text()

    def hold(self, name: str, pid: int) -> None:
        come_to_hold(pid, self._home / name)

    def go(self, *names: str) -> None:
        for name in names:
            let_go(self._home / name)

    def measured(self) -> list[int]:
        return [m.message_bytes for m in read_records(self.run / "collectives.jsonl", CollectiveMeasurement)]


@pytest.fixture
def commands(zygote: Zygote, tmp_path: Path) -> Commands:
    return Commands(zygote, tmp_path)


def test_the_loser_of_a_new_folder_does_not_mark_the_winners_run(commands: Commands) -> None:
    flags = (*SWEEP, "--folder", str(commands.run))
    pids = {name: commands.start(name, flags, "meeting") for name in ("a", "b")}
    for name, pid in pids.items():
        commands.hold(name, pid)
    commands.go(*pids)
    (lost, said), (won, _) = sorted((commands.end(name, pid) for name, pid in pids.items()), reverse=True)
    assert (won, lost) == (0, 1)
    assert said.splitlines()[-1].endswith("r already exists; a run never overwrites another, choose a new folder")
    assert (read_info(commands.run).status, read_info(commands.run).failure) == ("completed", None)
    assert commands.measured() == [8, 16, 32, 64, 128]


def test_a_run_that_is_alive_is_not_gone_on_with_and_of_two_that_go_on_one_does(commands: Commands) -> None:
    first = commands.start("first", (*SWEEP, "--folder", str(commands.run)), "measuring")
    commands.hold("first", first)
    wait_until("the plan", (commands.run / "bench.json").exists)
    code, said = commands.end("early", commands.start("early", ("--resume", str(commands.run))))
    assert code == 2
    assert "r is being written by process " in said
    assert said.endswith("; wait for it, or stop it first\n")
    assert read_info(commands.run).status == "running"
    os.kill(first, 15)
    commands.go("first")
    assert commands.end("first", first)[0] == 130
    assert read_info(commands.run).failure == "stopped by SIGTERM"

    pids = {name: commands.start(name, ("--resume", str(commands.run)), "meeting") for name in ("a", "b")}
    for name, pid in pids.items():
        commands.hold(name, pid)
    commands.go(*pids)
    codes = sorted(commands.end(name, pid)[0] for name, pid in pids.items())
    assert codes == [0, 1]
    assert commands.measured() == [8, 16, 32, 64, 128]
    assert read_info(commands.run).status == "completed"


@pytest.mark.parametrize(("gone", "code"), [("reader", 0), ("disk", 1)])
def test_output_that_nobody_takes_does_not_end_the_measurement(
    commands: Commands, tmp_path: Path, gone: str, code: int
) -> None:
    out = tmp_path / "out"
    os.mkfifo(out)
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    flags = (*SWEEP, "--folder", str(commands.run))
    bench = commands.start("a", flags, "meeting", str(out) if gone == "reader" else "/dev/full")
    commands.hold("a", bench)
    os.close(reader)
    commands.go("a")
    ending, said = commands.end("a", bench)
    assert ending == code, said
    assert "the output goes nowhere from here on (" in said
    assert "rank" not in said.partition("the output goes")[0]
    assert ("cannot write the output: No space left on device" in said) == (gone == "disk")
    assert (read_info(commands.run).status, commands.measured()) == ("completed", [8, 16, 32, 64, 128])
