"""A rank that dies, a rank that stalls, a user who loses patience: nothing hangs, nothing measured is lost, nothing stays."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from commprof.commbench.records.rundir import RUN_FILE, read_info
from tests.distributed.conftest import DEADLINE_S, ranks_of
from tests.factory import retime_steps
from tests.forked import Command

Start = Callable[..., "subprocess.Popen[str]"]
Fork = Callable[..., Command]
Process = TypeVar("Process", "subprocess.Popen[str]", Command)


def wait_until(what: str, happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.05)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def begin_training(begin: Callable[..., Process], tmp_path: Path, tiny: Path) -> tuple[Process, Path]:
    run = tmp_path / "r"
    process = begin("train", tiny, "training.max_steps=100000", "training.epochs=100000", "--nproc", "2", "--folder", run)
    wait_until("the tenth step", lambda: lines(run / "steps.rank00001.jsonl") >= 10)
    assert len(ranks_of(run)) == 2
    return process, run


def test_a_killed_rank_ends_the_run_and_what_it_measured_stays(start: Start, tmp_path: Path, tiny: Path) -> None:
    process, run = begin_training(start, tmp_path, tiny)
    os.kill(ranks_of(run)[-1], signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "was killed (SIGKILL)" in output.splitlines()[-1]
    assert "ChildFailedError" not in output
    info = read_info(run)
    assert info.status == "failed"
    assert "was killed (SIGKILL)" in (info.failure or "")
    assert lines(run / "steps.rank00000.jsonl") >= 10
    assert ranks_of(run) == []


def test_a_stalled_rank_is_given_up_within_the_timeout(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("timeout_s: 60", "timeout_s: 8"))
    process, run = begin_training(fork, tmp_path, tiny)
    stalled = ranks_of(run)[-1]
    os.kill(stalled, signal.SIGSTOP)
    began_s = time.monotonic()
    wait_until("the run to be marked", lambda: read_info(run).status == "failed")
    assert time.monotonic() - began_s < 40, "eight seconds, not a minute, and what others need of the cores"
    os.kill(stalled, signal.SIGCONT)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "rank 1 died or stalls in the train run" in output
    assert ranks_of(run) == []


def test_ranks_do_not_outlive_a_killed_launcher(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    process, run = begin_training(fork, tmp_path, tiny)
    (keeper,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    os.kill(keeper, signal.SIGKILL)
    wait_until("the ranks to end", lambda: ranks_of(run) == [])
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert read_info(run).status != "running"


def test_sigterm_marks_a_plain_run(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    run = tmp_path / "r"
    process = fork("train", tiny, "training.max_steps=100000", "training.epochs=100000", "--folder", run)
    wait_until("the tenth step", lambda: lines(run / "steps.rank00000.jsonl") >= 10)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "stopped by SIGTERM" in output
    assert read_info(run).status == "interrupted"


STUDY = """\
name: s
models: [{config: tiny.yaml, name: broken, overrides: [distributed.backend=nccl]}, {config: tiny.yaml}]
world_sizes: [1, 2]
bench: {min_bytes: 64K, max_bytes: 16M, seconds: 2}  # the largest takes many times what a busy machine adds to any
contention: {min_bytes: 4M, max_bytes: 4M, rounds: 4}  # on a busy machine a pass may not fit into a small one
overrides: [training.evaluate=false]
"""


def test_a_study_goes_on_past_a_model_that_cannot_run_and_after_an_interruption_with_what_is_missing(
    fork: Fork, tmp_path: Path, tiny: Path
) -> None:
    study, folder = tmp_path / "study.yaml", tmp_path / "runs" / "s"
    study.write_text(STUDY)
    process = fork("study", study)
    wait_until("the computation to begin", (folder / "tiny-compute-n2" / RUN_FILE).exists)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, output
    assert read_info(folder).status == "interrupted"
    assert read_info(folder / "tiny-profile-n1").status == "completed"
    retime_steps(folder / "tiny-profile-n1", 0.001)  # measured beside others, it could be slower than two ranks
    profiled_at = (folder / "tiny-profile-n1" / RUN_FILE).stat().st_mtime_ns

    process = fork("study", study)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, output
    assert "tiny-profile-n1: already measured" in output
    assert (folder / "tiny-profile-n1" / RUN_FILE).stat().st_mtime_ns == profiled_at
    assert read_info(folder / "incomplete" / "tiny-compute-n2-1").status in ("interrupted", "failed")
    for name in ("bench-n2", "contention-n2", "tiny-compute-n2", "tiny-train-n2"):
        assert (folder / name / RUN_FILE).exists(), output
        assert read_info(folder / name).status == "completed"
    predictions, checked = folder / "analysis" / "tiny" / "predictions.json", folder / "tiny-train-n2" / "steps.rank00000.jsonl"
    assert predictions.stat().st_mtime_ns < checked.stat().st_mtime_ns
    assert "failed: broken-profile-n1: backend nccl needs a CUDA device" in output
    assert "failed: broken-train-n2: it needs broken-profile-n1" in output
    assert output.splitlines()[-1].endswith("3 of 8 stages failed; the same command tries them again")
    assert read_info(folder).status == "failed"
    assert "off in the median" in (folder / "analysis" / "report.html").read_text()
    assert len((folder / "analysis" / "study.csv").read_text().splitlines()) == 3

    study.write_text(study.read_text().replace("seconds: 2", "seconds: 3"))
    process = fork("study", study)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert "holds another study: " in output
