"""Jobs as users submit them, on a real SLURM of two nodes that lasts for the session."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factory import write_tiny_config
from tests.slurm.cluster import Cluster, cluster, why_not

SCRIPT = Path(sys.executable).parent / "commprof"
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
SCRIPTS = Path(__file__).resolve().parents[2] / "slurm"


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as own:
        own.environ["COMMPROF"] = str(SCRIPT)
        yield own


@pytest.fixture
def slurm(_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with both nodes idle, before and after."""
    yield _cluster
    _cluster.clear()


def submit(slurm: Cluster, cwd: Path, *words: str | Path, **environ: str) -> str:
    """Submit `sbatch WORDS` from a folder and return the job's id; its output goes to job.log there."""
    done = slurm.run("sbatch", "--output=job.log", *words, cwd=cwd, **environ)
    found = re.search(r"Submitted batch job (\d+)", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def finish(slurm: Cluster, cwd: Path, *words: str | Path, **environ: str) -> tuple[str, str]:
    """Submit `sbatch WORDS`, wait for the job's end and return its id and its output; assert that it left no process."""
    job = submit(slurm, cwd, *words, **environ)
    slurm.wait_until("the job to end", lambda: slurm.state_of(job) not in UNFINISHED)  # sbatch --wait looks ever more rarely
    slurm.wait_until("the job's processes to end", lambda: not slurm.processes_of(job), 60.0)
    return job, (cwd / "job.log").read_text()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A training configuration whose step takes milliseconds, with a cache of its own."""
    return write_tiny_config(tmp_path, "batch_size: 8, epochs: 100000, max_steps: 20, evaluate: false")
