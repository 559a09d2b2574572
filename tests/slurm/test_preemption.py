"""A training that SLURM takes the nodes from goes on where it stopped, to the last bit."""

import os
import signal
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.training import StepMeasurement
from tests.forked import Zygote
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import SCRIPTS, UNFINISHED, finish, submit

pytestmark = pytest.mark.slurm


def losses(run: Path, rank: int) -> list[tuple[int, float | None]]:
    return [(step.step, step.loss) for step in read_records(run / f"steps.rank{rank:05d}.jsonl", StepMeasurement)]


def start_again(slurm: Cluster, job: str) -> None:
    """Let a requeued job start now: SLURM would let two minutes pass, and refuses what starts within the second."""
    slurm.wait_until("the job to be back in the queue", lambda: slurm.state_of(job) == "PENDING")
    slurm.ask("scontrol", "update", f"jobid={job}", "starttime=now+3")


def test_a_warned_job_of_shards_is_requeued_a_cancelled_one_is_not_and_both_go_on_bit_for_bit(
    slurm: Cluster, zygote: Zygote, tmp_path: Path, tiny: Path
) -> None:
    """One training in three parts: warned, cancelled in its second part, and submitted again with --resume to its end."""
    words = (SCRIPTS / "train.sbatch", tiny, "training.checkpoint_every=25", "distributed.strategy=fsdp")
    job = submit(slurm, tmp_path, "--nodes=2", *words, "training.max_steps=100000")
    run = tmp_path / "runs" / f"slurm-{job}"
    warn(slurm, job, run)
    start_again(slurm, job)
    warned_at = last_checkpoint(run)
    assert "User defined signal" not in (tmp_path / "job.log").read_text()  # srun's words for who died of the warning
    slurm.wait_until("a checkpoint of the second part", lambda: last_checkpoint(run) > warned_at)
    assert f"--resume runs/slurm-{job}" in (tmp_path / "job.log").read_text()
    cancel(slurm, job, run)

    num_steps = last_checkpoint(run) + 10
    again, said = finish(slurm, tmp_path, "--nodes=2", *words, f"training.max_steps={num_steps}", "--resume", run)
    assert (slurm.state_of(again), read_info(run).status) == ("COMPLETED", "completed"), said
    whole = zygote.run(
        tmp_path, "commprof", "train", *words[1:], f"training.max_steps={num_steps}", "--folder", "whole", ranks=2
    )
    assert whole.returncode == 0, whole.stderr
    for rank in range(2):
        assert losses(run, rank) == losses(tmp_path / "whole", rank)
        assert [step for step, _ in losses(run, rank)] == list(range(num_steps))


def warn(slurm: Cluster, job: str, run: Path) -> None:
    """Send SLURM's warning once there is a checkpoint; assert that the ranks save and end."""
    slurm.wait_until("a checkpoint", lambda: last_checkpoint(run) > 0)
    slurm.ask("scancel", "--batch", "--signal=USR2", job)
    slurm.wait_until("the run to be marked", lambda: read_info(run).status != "running")
    info = read_info(run)
    assert info.status == "interrupted"
    assert (info.failure or "").startswith("stopped by SIGUSR2 after step ")


def cancel(slurm: Cluster, job: str, run: Path) -> None:
    """Cancel the job; assert that it stays so."""
    slurm.ask("scancel", job)
    slurm.wait_until("the job's processes to end", lambda: not slurm.processes_of(job))
    slurm.wait_until("SLURM to know it", lambda: slurm.state_of(job) not in ("RUNNING", "COMPLETING"))
    assert (slurm.state_of(job), read_info(run).status) == ("CANCELLED", "interrupted")
    assert (read_info(run).failure or "").startswith("stopped by SIGTERM")


def last_checkpoint(run: Path) -> int:
    """Return the number of steps before the run's last checkpoint, 0 without one."""
    return max((int(path.stem.removeprefix("step-")) for path in run.glob("checkpoints/step-*.pt")), default=0)


def test_a_job_requeued_before_its_first_checkpoint_begins_anew(slurm: Cluster, tmp_path: Path, tiny: Path) -> None:
    job = submit(slurm, tmp_path, SCRIPTS / "train.sbatch", tiny, "training.max_steps=100000")
    run = tmp_path / "runs" / f"slurm-{job}"
    slurm.wait_until("the run to begin", (run / "environment.json").exists)
    slurm.ask("scontrol", "requeue", job)
    start_again(slurm, job)
    again = run.with_name(f"slurm-{job}-1")
    slurm.wait_until("the second run to begin", (again / "environment.json").exists)
    assert (read_info(run).status, read_info(again).status) == ("interrupted", "running")


def test_a_training_that_loses_a_rank_fails_and_does_not_come_back(slurm: Cluster, tmp_path: Path, tiny: Path) -> None:
    words = (tiny, "training.max_steps=100000", "training.checkpoint_every=25")
    job = submit(slurm, tmp_path, "--nodes=2", SCRIPTS / "train.sbatch", *words)
    run = tmp_path / "runs" / f"slurm-{job}"
    slurm.wait_until("a checkpoint", lambda: any(run.glob("checkpoints/step-*.pt")))
    os.kill(slurm.processes_of(job, "RANK=1")[0], signal.SIGKILL)
    slurm.wait_until("the job's processes to end", lambda: not slurm.processes_of(job))
    slurm.wait_until("SLURM to know it", lambda: slurm.state_of(job) not in UNFINISHED[1:])
    assert (slurm.state_of(job), read_info(run).status in ("failed", "interrupted")) == ("FAILED", True)
    assert read_info(run).failure
