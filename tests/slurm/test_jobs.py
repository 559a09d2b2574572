"""The sbatch scripts as users submit them: nothing edited, every value from the command line or the environment."""

import shutil
import sys
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import SCRIPT, SCRIPTS, finish

pytestmark = pytest.mark.slurm

SHARDED = "distributed.strategy=fsdp"
SHORT = ("-b", "8", "-e", "64", "-n", "3", "--timeout", "60")


def test_a_bench_runs_on_two_nodes_and_shows_its_torchrun(slurm: Cluster, tmp_path: Path) -> None:
    job, output = finish(slurm, tmp_path, "--nodes=2", "--time=5", SCRIPTS / "bench.sbatch", "all_gather", *SHORT)
    info = read_info(tmp_path / "runs" / f"slurm-{job}")
    assert (info.status, info.kind, info.world_size, info.num_nodes) == ("completed", "bench", 2, 2)
    assert (info.launcher, [rank.local_rank for rank in info.ranks]) == ("torchrun", [0, 0])
    assert info.environ["SLURM_JOB_ID"] == job
    (shown,) = [line for line in output.splitlines() if line.startswith("+ ")]
    assert "--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d" in shown
    assert f"--rdzv-endpoint=127.0.0.1:{10_000 + int(job)}" in shown
    assert shown.endswith(f"commprof bench --folder runs/slurm-{job} all_gather {' '.join(SHORT)}")


def test_a_training_takes_its_settings_from_the_environment_and_reduces_its_traces_on_its_nodes(
    slurm: Cluster, tmp_path: Path, tiny: Path
) -> None:
    settings = {
        "COMMPROF_REDUCE": "1",
        "NPROC_PER_NODE": "2",
        "OUT": str(tmp_path / "my results"),
        "MODULES": "cuda/12.4",
        "VENV": sys.prefix,
        "COMMPROF": "commprof",
    }
    job, output = finish(
        slurm, tmp_path, "--nodes=2", SCRIPTS / "train.sbatch", tiny, "training.batch_size=4", SHARDED, **settings
    )
    run = tmp_path / "my results" / f"slurm-{job}"
    info = read_info(run)
    assert (info.status, info.kind, info.world_size, info.num_nodes) == ("completed", "train", 4, 2)
    assert [rank.local_rank for rank in info.ranks] == [0, 1, 0, 1]
    assert info.workload is not None
    assert (info.workload.samples_per_rank, info.workload.kind) == (4, "fsdp2")
    assert (run / "units.json").exists()
    assert 'MODULES="cuda/12.4" is skipped' in output
    reduced = sorted(path.name for path in (run / "reduced").iterdir())
    assert reduced == [f"rank0000{rank}.reduced.gz" for rank in range(4)], output
    assert output.count("2 reduced traces, ") == 2
    shutil.rmtree(run / "traces")
    done = slurm.run(SCRIPT, "trace", run, cwd=tmp_path)
    assert "4 of 4 ranks" in done.stdout


USERS = """
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(100_000):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


def test_a_training_that_nobody_changed_is_recorded_on_two_nodes(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USERS)
    words = (SCRIPTS / "record.sbatch", "--max-steps", "12", "--", sys.executable, "-u", "mine.py")
    job, output = finish(slurm, tmp_path, "--nodes=2", *words)
    info = read_info(tmp_path / "runs" / f"slurm-{job}")
    assert (info.status, info.kind, info.world_size, info.num_nodes) == ("completed", "train", 2, 2), output
    assert info.workload is not None and info.workload.kind == "ddp"
    assert f"+ {sys.executable} -m torch.distributed.run --nnodes=2 --nproc-per-node=1" in output


def test_one_rank_is_started_without_torchrun(slurm: Cluster, tmp_path: Path, tiny: Path) -> None:
    job, output = finish(slurm, tmp_path, SCRIPTS / "train.sbatch", tiny)
    info = read_info(tmp_path / "runs" / f"slurm-{job}")
    assert (info.status, info.launcher, "torchrun" in output) == ("completed", "single", False)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"COMMPROF": "/nowhere/commprof"}, "/nowhere/commprof is not found on"),
        ({"VENV": "/nowhere"}, "VENV=/nowhere is no virtual environment that"),
    ],
)
def test_a_wrong_setting_ends_the_job_with_one_line(
    slurm: Cluster, tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    job, output = finish(slurm, tmp_path, SCRIPTS / "bench.sbatch", *SHORT, **environ)
    assert output.startswith(f"slurm: error: {words}")
    assert (len(output.splitlines()), slurm.state_of(job)) == (1, "FAILED")


def test_a_wrong_flag_fails_the_job_with_the_tools_own_words(slurm: Cluster, tmp_path: Path) -> None:
    job, output = finish(slurm, tmp_path, SCRIPTS / "bench.sbatch", "-b", "4M", "-e", "8")
    assert "commprof: error: -b 4M -e 8: need 0 < smallest size <= largest size" in output
    assert slurm.state_of(job) == "FAILED"


def test_a_study_runs_in_one_node(slurm: Cluster, tmp_path: Path) -> None:
    _, output = finish(slurm, tmp_path, "--nodes=2", SCRIPTS / "study.sbatch", "study.yaml")
    assert output.startswith("slurm: error: a study's stages run on one node, this job has 2")
    _, output = finish(slurm, tmp_path, SCRIPTS / "study.sbatch", "study.yaml")
    assert "commprof: error: " in output
    assert "study.yaml" in output.partition("commprof: error: ")[2]
