"""A training that is killed or asked to stop goes on as if nothing had happened: the same losses, each step once."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.training import EvaluationMeasurement
from tests.distributed.conftest import DEADLINE_S, Commprof, processes_of, ranks_of, steps_of, told
from tests.distributed.test_faults import Fork, lines, wait_until

ENDLESS = ("training.epochs=100000", "training.max_steps=100000", "training.checkpoint_every=7")


def saved_steps(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*.pt"))


def losses(run: Path, rank: int) -> list[tuple[int, float | None]]:
    return [(s.step, s.loss) for s in steps_of(run, rank)]


def evaluations(run: Path) -> list[tuple[int, float, float]]:
    return [(e.step, e.loss, e.accuracy) for e in read_records(run / "evaluations.jsonl", EvaluationMeasurement)]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(
    fork: Fork, commprof: Commprof, forked: Commprof, tmp_path: Path, tiny: Path, num_ranks: int
) -> None:
    run = tmp_path / "r"
    process = fork("train", tiny, *ENDLESS, "--nproc", num_ranks, "--folder", run)
    wait_until("a checkpoint in the second epoch", lambda: max(saved_steps(run), default=0) > 75 // num_ranks)
    pids = processes_of(run)
    for signum in (signal.SIGSTOP, signal.SIGKILL):  # none has time to write down that another has gone
        for pid in pids:
            os.kill(pid, signum)
    process.communicate(timeout=DEADLINE_S)
    wait_until("the ranks to end", lambda: ranks_of(run) == [])
    assert read_info(run).status == "running"
    begun = saved_steps(run)[-1]
    num_steps = max(lines(run / f"steps.rank{rank:05d}.jsonl") for rank in range(num_ranks)) + 20

    train = commprof if num_ranks == 1 else partial(forked, num_ranks)
    words = ("train", tiny, *ENDLESS, f"training.max_steps={num_steps}")
    done = train(*words, "--resume", run)
    assert done.returncode == 0, done.stderr
    assert read_info(run).status == "completed"
    done = train(*words, "--folder", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    for rank in range(num_ranks):
        assert losses(run, rank) == losses(tmp_path / "whole", rank)
        assert [s.step for s in steps_of(run, rank) if s.warmup] == [0, 1, 2, begun, begun + 1, begun + 2]
    assert evaluations(run) == evaluations(tmp_path / "whole")
    assert len(saved_steps(run)) == 2


@pytest.mark.parametrize(
    ("signum", "to"),
    [
        (signal.SIGUSR2, "one"),
        (signal.SIGUSR2, "all, until they are gone"),
        (signal.SIGTERM, "one"),
        (signal.SIGINT, "terminal"),
    ],
)
def test_one_rank_that_is_asked_to_stop_stops_all_after_the_same_step(
    fork: Fork, commprof: Commprof, tmp_path: Path, tiny: Path, signum: signal.Signals, to: str
) -> None:
    run = tmp_path / "r"
    process = fork("train", tiny, *ENDLESS, "--nproc", "2", "--folder", run)
    wait_until("a checkpoint", lambda: saved_steps(run) != [])
    if to == "terminal":
        os.killpg(process.pid, signum)
    elif to == "one":
        os.kill(ranks_of(run)[0], signum)
    while to == "all, until they are gone" and (pids := ranks_of(run)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    info = read_info(run)
    found = re.fullmatch(
        rf"stopped by {signum.name} after step (\d+); commprof (.* --resume {run}) goes on", info.failure or ""
    )
    assert found is not None, info.failure
    assert (info.status, saved_steps(run)[-1], ranks_of(run)) == ("interrupted", int(found[1]), [])
    assert [lines(run / f"steps.rank0000{rank}.jsonl") for rank in range(2)] == [int(found[1])] * 2
    if signum == signal.SIGUSR2:
        done = commprof(*shlex.split(found[2]), f"training.max_steps={int(found[1]) + 9}")
        assert done.returncode == 0, done.stderr
        assert [s.step for s in steps_of(run, 1)] == list(range(int(found[1]) + 9))


def test_without_checkpoints_a_run_neither_saves_nor_listens(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    run = tmp_path / "r"
    process = fork("train", tiny, *ENDLESS[:2], "--folder", run)
    wait_until("the tenth step", lambda: lines(run / "steps.rank00000.jsonl") >= 10)
    os.kill(process.pid, signal.SIGUSR2)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGUSR2
    assert not (run / "checkpoints").exists()


def test_a_disk_without_room_for_a_checkpoint_is_one_line(commprof: Commprof, tmp_path: Path, tiny: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        done = commprof("train", tiny, "training.checkpoint_every=7", "--nproc", "2", "--folder", disk / "r")
        assert done.returncode == 1
        (line,) = told(done.stderr)
        assert "step-00000007.pt: [Errno 28] No space left on device; make room" in line
        assert list((disk / "r" / "checkpoints").iterdir()) == []
        assert read_info(disk / "r").status == "failed"
    finally:
        subprocess.run(["umount", disk], check=True)
