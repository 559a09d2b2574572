"""A study whose stages are SLURM jobs: predictions before checks, a model that fails beside one that works."""

import signal
import subprocess
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info
from tests.factory import retime_steps
from tests.forked import DEADLINE_S
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import SCRIPT, SCRIPTS, UNFINISHED

pytestmark = pytest.mark.slurm


def write_study(folder: Path, models: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        f"name: s\nlauncher: slurm\nmodels: [{models}]\nworld_sizes: [1, 2]\ncontention: {{rounds: 0}}\n"
        "bench: {min_bytes: 64K, max_bytes: 16M, seconds: 2}\noverrides: [profiling.trace_steps=0]\n"
        f"slurm: {{scripts: {SCRIPTS}, options: [--time=5]}}\n"
    )
    return path


def test_a_stopped_study_leaves_its_jobs_and_the_same_command_collects_them_and_says_what_failed(
    slurm: Cluster, tmp_path: Path, tiny: Path
) -> None:
    broken = "{config: tiny.yaml, name: broken, overrides: [distributed.backend=nccl]}"
    study = write_study(tmp_path, f"{broken}, {{config: tiny.yaml}}")
    folder = tmp_path / "runs" / "s"
    done = stop_and_collect(slurm, study, tmp_path)
    assert done.returncode == 1, done.stdout
    assert "failed: broken-profile-n1: job" in done.stdout
    assert "backend nccl needs a CUDA device" in (folder / "logs" / "broken-profile-n1.log").read_text()
    assert "broken-train-n2" in done.stdout and "3 of 7 stages failed" in done.stdout
    for name in ("bench-n2", "tiny-profile-n1", "tiny-compute-n2", "tiny-train-n2"):
        assert read_info(folder / name).status == "completed"
    check = read_info(folder / "tiny-train-n2")
    assert (check.num_nodes, check.num_machines, check.environ["SLURM_NTASKS"]) == (2, 1, "2")
    predictions = folder / "analysis" / "tiny" / "predictions.json"
    assert predictions.exists(), (folder / "logs" / "tiny-predict.log").read_text()
    written, begun = predictions.stat().st_mtime, (folder / "tiny-train-n2" / "steps.rank00000.jsonl").stat().st_mtime
    assert written < begun
    assert (folder / "analysis" / "report.html").exists()

    again = slurm.run(SCRIPT, "study", study, "--only", "report", cwd=tmp_path)
    assert again.returncode == 0 and "report.html" in again.stdout


def stop_and_collect(slurm: Cluster, study: Path, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Stop a study once its jobs are in the queue, and give its command again; assert that no job is submitted twice."""
    submitted = tmp_path / "runs" / "s" / "jobs.json"
    stopped = subprocess.Popen([SCRIPT, "study", study], cwd=tmp_path, env=slurm.environ, stderr=subprocess.PIPE, text=True)
    slurm.wait_until("the last job to be submitted", lambda: submitted.exists() and "tiny-train-n2" in submitted.read_text())
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=DEADLINE_S)
    assert "the jobs stay in the queue; scancel" in said
    jobs = read_document(submitted, dict[str, str])
    slurm.ask("scontrol", "hold", jobs["tiny-predict"])
    slurm.wait_until("the profile", lambda: slurm.state_of(jobs["tiny-profile-n1"]) not in UNFINISHED)
    retime_steps(submitted.with_name("tiny-profile-n1"), 0.001)  # measured beside others, it could be slower than two ranks
    slurm.ask("scontrol", "release", jobs["tiny-predict"])
    assert set(jobs) >= {"bench-n2", "tiny-predict", "tiny-train-n2"}
    done = slurm.run(SCRIPT, "study", study, cwd=tmp_path, deadline_s=400)
    again = read_document(submitted, dict[str, str])
    assert all(again[name] == job for name, job in jobs.items() if not name.startswith("broken")), "none is submitted twice"
    return done


def test_without_slurm_the_launcher_says_so(slurm: Cluster, tmp_path: Path, tiny: Path) -> None:
    study = write_study(tmp_path, "{config: tiny.yaml}")
    done = slurm.run(SCRIPT, "study", study, cwd=tmp_path, PATH="/nowhere")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        2,
        "commprof: error: there is no squeue here; launcher: slurm is for a machine that submits SLURM jobs",
    )
