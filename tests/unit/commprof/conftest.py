"""A finished study and two ranks' traces, made once, to which nobody writes; and a place for a script that is not ours."""

import os
from pathlib import Path

import pytest

from tests.report_runs import add_study
from tests.traces import all_reduce, header, kernel, profiler_step, write_trace

COMMAND = "python train.py --lr 1e-3"
RUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.fixture
def script_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with train.py, and a PATH with python and accelerate."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    for name in ("python", "accelerate", "torchrun", "bash"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_study(tmp_path_factory.mktemp("api") / "demo")


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks that compute for 50 us; rank 0 waits 15 us for rank 1, then both transfer for 20 us."""
    folder = tmp_path_factory.mktemp("traces")
    for rank, start_us in enumerate((60.0, 75.0)):
        events = [
            profiler_step(1, 0.0, 100.0),
            *kernel("gemm", 5.0, 55.0, launched_us=1.0, correlation=1),
            *all_reduce(start_us, 95.0, launched_us=3.0, correlation=2),
        ]
        write_trace(folder / f"rank{rank}.json", events, header(rank))
    return folder
