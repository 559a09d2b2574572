"""commprof as a job step: srun alone is a launcher, and a batch script is not a rank."""

import json
import sys
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.training import StepMeasurement
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import SCRIPT, finish

pytestmark = pytest.mark.slurm

BENCH = (SCRIPT, "bench", "-b", "8", "-e", "64", "-n", "3", "--folder", "r")


@pytest.mark.parametrize(
    ("placed", "environ", "num_nodes"),
    [(("-N1", "-n2", "--overcommit"), {}, 1), (("-N2", "-n2"), {"MASTER_ADDR": "127.0.0.1"}, 2)],
)
def test_srun_alone_starts_the_ranks(
    slurm: Cluster, tmp_path: Path, placed: tuple[str, ...], environ: dict[str, str], num_nodes: int
) -> None:
    done = slurm.run("srun", *placed, *BENCH, "--timeout", "60", cwd=tmp_path, **environ)
    assert (done.returncode, "Traceback" in done.stdout) == (0, False), done.stdout
    info = read_info(tmp_path / "r")
    assert (info.status, info.world_size, info.num_nodes, info.launcher) == ("completed", 2, num_nodes, "srun")


def test_a_first_node_that_nobody_finds_is_named(slurm: Cluster, tmp_path: Path) -> None:
    done = slurm.run("srun", "-n2", *BENCH, "--timeout", "4", cwd=tmp_path)
    assert "finds no address for n1, where the ranks meet; set MASTER_ADDR" in done.stdout
    assert (done.returncode, (tmp_path / "r").exists()) == (1, False)


# As users write it who start with srun alone: SLURM's variables say which rank this is.
MINE = """
import os
from pathlib import Path
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
rank, ranks = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
dist.init_process_group("gloo", init_method=Path("store").absolute().as_uri(), rank=rank, world_size=ranks)
model = DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(8):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
dist.destroy_process_group()
"""


def test_a_batch_script_is_no_rank_and_may_start_its_own(slurm: Cluster, tmp_path: Path) -> None:
    """By --nproc, and as the ranks of a training that srun starts on both nodes and `record` watches."""
    (tmp_path / "mine.py").write_text(MINE)
    script = tmp_path / "job.sh"
    watched = f"{SCRIPT} record --folder w -- srun -N2 -n2 {sys.executable} mine.py"
    script.write_text(f"#!/bin/sh\n{SCRIPT} bench -b 8 -e 64 -n 3 --nproc 2 --folder r\n{watched}\n")
    _, output = finish(slurm, tmp_path, "-N2", script)
    assert (read_info(tmp_path / "r").launcher, read_info(tmp_path / "r").world_size) == ("commprof", 2)
    assert "commprof: 7 steps on 2 ranks, " in output, output
    info = read_info(tmp_path / "w")
    assert (info.status, info.world_size, info.num_nodes) == ("completed", 2, 2)
    assert [(rank.rank, rank.local_rank) for rank in info.ranks] == [(0, 0), (1, 0)]
    assert info.workload is not None
    assert (info.workload.kind, info.workload.samples_per_rank, info.unseen) == ("ddp", 2, ())
    for rank in range(2):
        assert sum(1 for _ in read_records(tmp_path / "w" / f"steps.rank{rank:05d}.jsonl", StepMeasurement)) == 7


def test_ranks_that_start_ranks_are_refused(slurm: Cluster, tmp_path: Path) -> None:
    done = slurm.run("srun", "-n2", *BENCH, "--nproc", "2", cwd=tmp_path)
    assert "--nproc 2: srun has started 2 ranks already; drop --nproc" in done.stdout
    assert done.returncode == 2


def test_env_tells_the_step_it_runs_in(slurm: Cluster, tmp_path: Path) -> None:
    done = slurm.run("srun", "-n1", SCRIPT, "env", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["environ"]["SLURM_JOB_NUM_NODES"] == "1"
