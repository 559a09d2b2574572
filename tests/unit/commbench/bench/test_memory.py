"""How much memory a bench takes, and what it says when that ends in the midst of a size, after its buffers had found room."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from commprof.cli import main
from commprof.commbench.bench.burst import measure_burst
from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.plan import BenchPlan, Effort
from commprof.commbench.bench.sweep import Bench
from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.types import CollectiveMeasurement, SizeFailure
from commprof.commbench.timing import MonotonicClock

NCCL = """NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error \
(run with NCCL_DEBUG=WARN for details), NCCL version 2.28.9
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
Cuda failure 2 'out of memory'"""


@contextmanager
def leaving_no_group() -> Iterator[None]:
    """After a failure the ranks leave their group to the end of the process, which here goes on."""
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_burst_takes_no_more_memory_than_its_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    block = Arena._block

    def counted(arena: Arena, num_bytes: int) -> torch.Tensor:
        taken.append(num_bytes)
        return block(arena, num_bytes)

    monkeypatch.setattr(Arena, "_block", counted)
    buckets = (2**20,) * 16
    bench = Bench(
        plan=plan(buckets), device=torch.device("cpu"), clock=MonotonicClock(), rotate_bytes=100 * 2**20, stop=lambda: False,
        announce=lambda doing: None, arena=Arena(torch.device("cpu")),
    )  # fmt: skip
    measured, _ = measure_burst(bench)
    assert (measured.bucket_bytes, measured.num_wrong) == (buckets, 0)
    assert sum(taken) == sum(buckets)


def plan(buckets: tuple[int, ...]) -> BenchPlan:
    effort = Effort(iterations=2, precision=0.1, budget_s=1.0)
    return BenchPlan(
        op="all_reduce", dtype="float32", reduction="sum", root=0, sizes=(8,), cells=(), bucket_bytes=buckets, bucket_source="",
        effort=effort, warmup_iterations=1, check=True, hot=False, cuda_graph=False,
    )  # fmt: skip


@pytest.mark.processes  # a run asks git for the commit
@pytest.mark.parametrize("error", [RuntimeError(NCCL), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")])
@pytest.mark.parametrize("method", ["run", "count_wrong"])
def test_the_size_is_named_and_what_came_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: RuntimeError, method: str
) -> None:
    real = getattr(Collective, method)

    def full(collective: Collective, *arguments: int) -> object:
        if collective.message_bytes > 64:
            raise error
        return real(collective, *arguments)

    monkeypatch.setattr(Collective, method, full)
    monkeypatch.chdir(tmp_path)
    words = ["bench", "--backend", "gloo", "-b", "64", "-e", "1K", "-n", "2", "--place", "in", "--folder", "r"]
    with leaving_no_group():
        assert main(words) == 1
    assert "out of memory for all_reduce of 128 bytes" in capsys.readouterr().err
    assert [m.message_bytes for m in read_records(Path("r/collectives.jsonl"), CollectiveMeasurement)] == [64]
    (failure,) = read_records(Path("r/failures.jsonl"), SizeFailure)
    assert (failure.message_bytes, failure.rank, failure.reason) == (128, 0, "out of memory")
    assert read_info(Path("r")).status == "failed"
