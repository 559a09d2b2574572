"""What the options of a training promise, with real ranks: the same gradients, or others in a known way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.records.rundir import read_document, read_info
from commprof.commbench.records.sharding import UNITS_FILE, ShardingTimeline
from commprof.commbench.records.training import GradientTimeline, TrainingSummary
from commprof.train.hooks import delayed
from tests.distributed.conftest import DEADLINE_S, Commprof, processes_of, steps_of
from tests.distributed.test_faults import Fork, lines, wait_until
from tests.forked import Zygote


def verified(zygote: Zygote, folder: Path, num_ranks: int) -> dict[str, dict[str, Any]]:
    script = Path(__file__).parent / "verify_training.py"
    done = zygote.run(folder, script, ranks=num_ranks)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def recorded_as_it_went(timeline: ShardingTimeline) -> None:
    """Two blocks and a root over two ranks: what is gathered and reduced, how large, and in which order."""
    assert (timeline.num_shards, timeline.num_replicas, timeline.num_steps, timeline.num_others) == (2, 1, 5, 0)
    assert [unit.name for unit in timeline.units] == ["", "encoder.layers.0", "encoder.layers.1"]
    assert [unit.resharded for unit in timeline.units] == [False, True, True]
    block = 4 * (4 * 16 * 16 + 4 * 16 + 2 * 16 * 32 + 32 + 16 + 4 * 16)
    assert [unit.num_bytes for unit in timeline.units[1:]] == [block, block]
    assert [(unit.gather_dtype, unit.reduce_dtype) for unit in timeline.units] == [("float32", "float32")] * 3
    assert all(unit.gather_bytes == unit.num_bytes for unit in timeline.units)
    landed = [(span.until, span.unit) for span in timeline.spans if span.until in ("gather_landed", "reduce_landed")]
    ahead = [("gather_landed", unit) for unit in (0, 1, 2, 2, 1)]
    assert [each for each in landed if each[0] == "gather_landed"] == ahead
    assert [unit for until, unit in landed if until == "reduce_landed"] == [2, 1, 0]
    gathering = [(span.until, span.unit) for span in timeline.spans if span.gathers and span.until.endswith("ready")]
    assert gathering == [("ready", 0), ("ready", 1), ("ready", 2), ("back_ready", 2), ("back_ready", 1)]
    assert timeline.spans[-1].until == "ended"


def keeps_its_own_from_the_fifth_pass_on(difference: dict[str, list[float]]) -> None:
    """Compute-only ranks exchange in four passes; then each keeps its own gradients, as its hook would have handed them on."""
    assert max(difference["compute only"][:4]) == 0
    assert min(difference["compute only"][4:]) > 1e-3
    assert 0 < difference["compute only bf16"][-1] < 5e-3, "converted"
    assert difference["compute only powersgd"][4] == 0
    assert difference["compute only powersgd"][5] > 1e-3, "as factors"


def test_options_give_the_gradients_they_should(zygote: Zygote, tmp_path: Path) -> None:
    rows = verified(zygote, tmp_path, 2)
    difference = {name: row["difference"] for name, row in rows.items()}
    for name in ("static graph", "first bucket", "unused", "delayed", "delayed bf16", "static compute only"):
        assert max(difference[name]) == 0, name
    for name in ("fsdp recorded", "fsdp resumed", "hsdp resumed", "zero2", "fsdp accumulation whole"):
        assert max(difference[name]) == 0, name
    for name in ("fsdp", "hsdp", "fsdp clipped", "fsdp accumulation"):
        assert max(difference[name]) < 1e-6, name
    recorded_as_it_went(read_document(tmp_path / "recorded" / UNITS_FILE, ShardingTimeline))
    for name in ("accumulation", "bucket view accumulation"):
        assert 0 < max(difference[name]) < 1e-6, name
    for name in ("bf16", "fp16", "bfloat16", "float16 clipped", "fsdp bfloat16"):
        assert 0 < min(difference[name]) <= max(difference[name]) < 5e-3, name
    assert difference["powersgd"][:3] == [0, 0, 0]
    assert min(difference["powersgd"][3:]) > 1e-3
    keeps_its_own_from_the_fifth_pass_on(difference)
    for name, row in rows.items():
        assert row["losses"][-1] < row["losses"][0] - 0.1, name
        assert (max(row["apart"]) > 0) == ("compute only" in name), name


def test_three_ranks_evaluate_a_prime_number_of_articles_exactly(zygote: Zygote, tmp_path: Path) -> None:
    row = verified(zygote, tmp_path, 3)["evaluation"]
    assert row["count"] == 13
    assert row["got"] == pytest.approx(row["expected"], rel=1e-6)
    assert row["sharded"][:2] == pytest.approx(row["expected"], rel=1e-5)
    assert row["sharded"][2] == 13


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def backward_through(hook: Any, handed: list[int]) -> DistributedDataParallel:  # noqa: ANN401
    """Return a model with a bucket for each parameter after two backward passes under the delayed hook.

    `handed` gets the number of each bucket that DDP hands over.
    """
    late = delayed(hook)

    def note(state: object, bucket: GradBucket) -> Future[Tensor]:
        handed.append(bucket.index())
        return late(state, bucket)

    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    model = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=1e-6)
    model.register_comm_hook("state", note)
    for _ in range(2):  # DDP makes its buckets after the first
        model.zero_grad()
        model(torch.ones(1, 4)).sum().backward()
    return model


def test_a_delayed_hook_meets_all_buckets_in_order_once_the_last_is_there(group: None) -> None:
    handed: list[int] = []
    met: list[tuple[object, int, list[int], list[float]]] = []

    def double(state: object, bucket: GradBucket) -> Future[Tensor]:
        met.append((state, bucket.index(), handed[-3:], bucket.buffer().tolist()))
        future: Future[Tensor] = Future()
        future.set_result(bucket.buffer() * 2)
        return future

    model = backward_through(double, handed)
    assert [each[:3] for each in met[-3:]] == [("state", index, [0, 1, 2]) for index in range(3)]
    sent = [torch.tensor(values) for *_, values in met[-3:]]
    for parameter, values in zip(reversed(list(model.parameters())), sent, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad.flatten(), 2 * values)


def test_a_delayed_bucket_that_is_lost_fails_the_backward_pass(group: None) -> None:
    def lose(state: object, bucket: GradBucket) -> Future[Tensor]:
        future: Future[Tensor] = Future()
        future.set_exception(RuntimeError("gloo: connection closed by peer"))  # type: ignore[arg-type]
        return future

    with pytest.raises(RuntimeError, match="gloo: connection closed by peer"):
        backward_through(lose, [])


def test_no_loader_worker_outlives_a_killed_rank(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    run = tmp_path / "r"
    endless = ("training.max_steps=100000", "training.epochs=100000", "loader.workers=2")
    process = fork("train", tiny, *endless, "--folder", run)
    wait_until("the tenth step", lambda: lines(run / "steps.rank00000.jsonl") >= 10)
    assert len(processes_of(run)) == 3
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    wait_until("the workers to end", lambda: processes_of(run) == [])


STILL_READING = """
import numpy as np, torch
from commprof.commbench.ranks.launched import RankContext
from commprof.train.text.batches import batches_of, endless
from commprof.train.config.types import LoaderConfig, TrainConfig
from commprof.train.text.dataset import EncodedText
text = EncodedText(tokens=np.ones((99, 4), dtype=np.int32), labels=np.zeros(99, dtype=np.int64))
alone = RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")
stream = endless(batches_of(text, TrainConfig(loader=LoaderConfig(workers=2)), alone, torch.device("cpu")))
print(len(next(stream)[1]))
"""


def test_a_rank_that_ends_in_the_midst_of_reading_does_not_wait_for_its_workers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STILL_READING], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "32\n", "")


def test_a_killed_loader_worker_is_one_line(fork: Fork, tmp_path: Path, tiny: Path) -> None:
    run = tmp_path / "r"
    process = fork("train", tiny, "training.max_steps=100000", "training.epochs=100000", "loader.workers=1", "--folder", run)
    wait_until("the tenth step", lambda: lines(run / "steps.rank00000.jsonl") >= 10)
    (worker,) = set(processes_of(run)) - {process.pid}
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert "rank 0: DataLoader worker" in output
    assert "lower loader.workers" in output


def test_a_run_of_many_options_goes_on_bit_for_bit_with_any_number_of_workers(
    forked: Commprof, tmp_path: Path, tiny: Path
) -> None:
    """Cosine, accumulation, float16's scale and small buckets: gone on in the second epoch, from step 42."""
    options = (
        *("training.checkpoint_every=7", "training.accumulation=2", "training.precision=float16"),
        *("training.schedule=cosine", "training.warmup_updates=5", "training.decay_updates=60", "training.epochs=2"),
        *("distributed.bucket_cap_mb=0.002", "distributed.gradient_as_bucket_view=true"),
    )
    done = forked(2, "train", tiny, *options, "training.max_steps=50", "--folder", "whole")
    assert done.returncode == 0, done.stderr
    assert "samples/s on 2 ranks, 8 samples on each in 2 micro-batches (weak scaling)" in done.stdout
    check_record(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "r")
    info = tmp_path / "r" / "run.json"
    info.write_text(info.read_text().replace('"completed"', '"interrupted"'))
    (tmp_path / "r" / "checkpoints" / "step-00000049.pt").unlink()
    done = forked(2, "train", tiny, *options, "training.max_steps=50", "loader.workers=2", "--resume", "r")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        whole, again = (steps_of(tmp_path / name, rank) for name in ("whole", "r"))
        assert [s.loss for s in whole] == [s.loss for s in again]
        assert len(whole) == 50
        assert [s.step for s in again if s.warmup] == [0, 1, 2, 42, 43, 44]


def check_record(run: Path) -> None:
    work = read_info(run).workload
    assert work is not None
    assert (work.precision, work.accumulation, work.synchronisation) == ("float16", 2, "normal")
    assert work.gradient_as_bucket_view
    summary = read_document(run / "training.json", TrainingSummary)
    assert (summary.num_steps, summary.samples_per_step, summary.tokens_per_sample) == (44, 16, 16)
    assert (len(summary.peak_memory_bytes), summary.memory_kind, summary.peak_flops_per_s) == (2, "resident", None)
    assert all(50e6 < used < 5e9 for used in summary.peak_memory_bytes)


@pytest.mark.parametrize("option", ["distributed.communication_hook=bf16", "distributed.synchronisation=delayed"])
def test_the_recorder_watches_a_configured_hook(forked: Commprof, tmp_path: Path, tiny: Path, option: str) -> None:
    cap = "distributed.bucket_cap_mb=0.005"
    done = forked(2, "train", tiny, "--folder", "r", "profiling.trace_steps=0", cap, option)
    assert done.returncode == 0, done.stderr
    timeline = read_document(tmp_path / "r" / "gradients.json", GradientTimeline)
    assert len(timeline.buckets) > 1
    assert all(0 < b.ready_s <= b.launched_s < b.done_s < timeline.backward_s for b in timeline.buckets)
