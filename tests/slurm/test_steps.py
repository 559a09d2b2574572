"""commprof as a job step: srun alone is a launcher, and a batch script is not a rank."""

import json
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info
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


def test_a_batch_script_is_no_rank_and_may_start_its_own(slurm: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n{SCRIPT} bench -b 8 -e 64 -n 3 --nproc 2 --folder r\n")
    finish(slurm, tmp_path, "-N2", script)
    assert (read_info(tmp_path / "r").launcher, read_info(tmp_path / "r").world_size) == ("commprof", 2)


def test_ranks_that_start_ranks_are_refused(slurm: Cluster, tmp_path: Path) -> None:
    done = slurm.run("srun", "-n2", *BENCH, "--nproc", "2", cwd=tmp_path)
    assert "--nproc 2: srun has started 2 ranks already; drop --nproc" in done.stdout
    assert done.returncode == 2


def test_env_tells_the_step_it_runs_in(slurm: Cluster, tmp_path: Path) -> None:
    done = slurm.run("srun", "-n1", SCRIPT, "env", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["environ"]["SLURM_JOB_NUM_NODES"] == "1"
