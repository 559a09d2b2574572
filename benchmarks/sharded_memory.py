"""How far off is the predicted memory of a rank, for each strategy?

    make benchmark-sharded-memory      five minutes of two cores; results in docs/results/sharded-memory.md

Three models on two and four ranks of this machine under gloo; DDP, FSDP, ZeRO-2, and HSDP on four. Predicted from a run of
`commprof train` on one rank, sharded over itself. Measured is the most that torch's CPU allocator had given out in the third
step, from the model's making on: what it counts on all threads, gloo's among them, as the profiler reads it. Cells kept
in `--runs` are not measured again.
"""

import argparse
import ctypes
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.machine import describe_machine
from commprof.analysis.runs.load import load_run
from commprof.analysis.strategies.memory import Keeping, ddp_memory, sharded_memory
from commprof.analysis.strategies.results import Memory, Strategy
from commprof.commbench.records.rundir import read_document, write_document, write_text
from commprof.commbench.records.sharding import ShardingTimeline
from commprof.commbench.units import format_bytes
from commprof.train.config.load import load_config
from commprof.train.config.types import TrainConfig
from commprof.train.step import train_step
from commprof.train.text.dataset import NUM_CLASSES
from commprof.train.trainee import build_trainee

REPO = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).parent / "commprof")
MODELS = ("small", "large", "wide")
RANKS = (2, 4)
LOOKED_AT: Final = "step 2"  # the third: its optimizer has its state
SHARDED: Final[dict[Strategy, tuple[str, ...]]] = {
    "ddp": (),
    "fsdp": ("distributed.strategy=fsdp",),
    "hsdp": ("distributed.strategy=hsdp",),
    "zero2": ("distributed.strategy=fsdp", "distributed.reshard_after_forward=false"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    model: str
    ranks: int
    strategy: Strategy
    predicted: Memory
    measured_bytes: int

    @property
    def error(self) -> float:
        return self.predicted.total / self.measured_bytes - 1


class Unrecorded:
    """Listens to a step and notes nothing."""

    @contextmanager
    def phase(self, name: Literal["data", "forward", "backward", "optimizer"]) -> Iterator[None]:
        del name
        yield

    def note_loss(self, loss: Tensor) -> None:
        del loss


def timeline_of(model: str, folder: Path) -> ShardingTimeline:
    """Return what a run on one rank, sharded over itself, tells of its units."""
    words = ("distributed.strategy=fsdp", "distributed.backend=gloo", "training.max_steps=4", "training.evaluate=false")
    quiet = ("profiling.trace_steps=0", "profiling.warmup_steps=2", "distributed.threads_per_rank=1")
    config = str(REPO / "configs" / f"{model}.yaml")
    place = folder / f"profile-{model}"
    command = [SCRIPT, "train", config, *words, *quiet, "--folder", str(place)]
    if not place.exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    timeline = load_run(place).units
    assert timeline is not None
    return timeline


def predicted(timeline: ShardingTimeline, strategy: Strategy, ranks: int) -> Memory:
    if strategy == "ddp":
        return ddp_memory(timeline, bucket_view=False)
    shards = ranks // 2 if strategy == "hsdp" else ranks
    return sharded_memory(timeline, Keeping(num_shards=shards, resharded=strategy != "zero2", gloo=True))


def measured_bytes(model: str, ranks: int, strategy: Strategy, store: Path) -> int:
    """Fork so many ranks; return the most that the allocator of rank 0 had given out in the step looked at."""
    forking = multiprocessing.get_context("fork")
    told: SimpleQueue[int] = forking.SimpleQueue()
    of_ranks = [
        forking.Process(target=_train, args=(rank, ranks, model, SHARDED[strategy], store, told)) for rank in range(ranks)
    ]
    for process in of_ranks:
        process.start()
    for process in of_ranks:
        process.join(timeout=200)
    if any(process.exitcode for process in of_ranks) or told.empty():
        raise RuntimeError(f"{model}, {strategy} on {ranks} ranks did not end: {[each.exitcode for each in of_ranks]}")
    return told.get()


def _train(rank: int, ranks: int, model: str, words: Sequence[str], store: Path, told: "SimpleQueue[int]") -> None:
    torch.set_num_threads(1)
    os.environ["KINETO_LOG_LEVEL"] = "6"
    _count_on_all_threads()
    config = load_config(TrainConfig, REPO / "configs" / f"{model}.yaml", words)
    dist.init_process_group("gloo", store=FileStore(str(store), ranks), rank=rank, world_size=ranks)
    batch, length = config.training.batch_size, config.model.sequence_length
    tokens = torch.randint(1, config.model.vocabulary, (batch, length), dtype=torch.int32)
    labels = torch.randint(0, NUM_CLASSES, (batch,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        trainee = build_trainee(config, torch.device("cpu"))
        for step in range(3):
            with record_function(f"step {step}"):
                train_step(trainee, iter([(tokens, labels)]), Unrecorded(), config, learning_rate=1e-3)
    if rank == 0:
        told.put(_peak_bytes(profiler))
    dist.barrier()
    dist.destroy_process_group()


def _count_on_all_threads() -> None:
    """Let the allocator count also what threads take that the profiler does not follow, as gloo's; it prints nothing."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    ctypes.c_bool.in_dll(library, "FLAGS_caffe2_report_cpu_memory_usage").value = True


def _peak_bytes(profiler: profile) -> int:
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results
    assert events is not None
    (step,) = (event for event in events.events() if event.name() == LOOKED_AT)
    within = range(step.start_ns(), step.start_ns() + step.duration_ns())
    levels = _levels(events.experimental_event_tree())
    return max(total for start_ns, total in levels if start_ns in within)


def _levels(events: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield when something was allocated or freed and the bytes given out then."""
    for event in events:
        if event.tag == _EventType.Allocation:
            yield event.start_time_ns, event.extra_fields.total_allocated
        yield from _levels(event.children)


HEAD = (
    "model", "ranks", "strategy", "predicted", "measured", "error", "parameters, optimizer", "gradients", "whole units",
    "buckets", "activations, computing",
)  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for row in rows:
        own = row.predicted
        lasting, passing = own.parameters + own.optimizer, (own.activations or 0) + (own.working or 0)
        parts = map(format_bytes, (lasting, own.gradients, own.unsharded, own.buckets, passing))
        sizes = (format_bytes(own.total), format_bytes(row.measured_bytes), f"{row.error:+.1%}")
        yield f"| {' | '.join((row.model, str(row.ranks), row.strategy, *sizes, *parts))} |"


def summary(rows: Sequence[Row]) -> str:
    errors = [abs(row.error) for row in rows]
    worst = max(rows, key=lambda row: abs(row.error))
    within = sum(error <= 0.1 for error in errors)
    return (
        f"- {len(rows)} cells: median error {median(errors):.1%}, worst {worst.error:+.1%} ({worst.model}, {worst.strategy} on "
        f"{worst.ranks}); within 10 %: {within}"
    )


def rows_of(models: Sequence[str], root: Path) -> Iterator[Row]:
    """Predict and then measure every cell that is not kept in `root`; two copies of one shard each shard nothing: left out."""
    for model, ranks, strategy in product(models, RANKS, SHARDED):
        if strategy == "hsdp" and ranks == min(RANKS):
            continue
        kept = root / f"{model}-{ranks}-{strategy}.json"
        if not kept.exists():
            memory = predicted(timeline_of(model, root), strategy, ranks)
            with tempfile.TemporaryDirectory() as folder:
                taken = measured_bytes(model, ranks, strategy, Path(folder) / "store")
            row = Row(model=model, ranks=ranks, strategy=strategy, predicted=memory, measured_bytes=taken)
            sys.stderr.write(f"{row.model} {row.ranks} {row.strategy}: {row.error:+.1%}\n")
            write_document(kept, row)
        yield read_document(kept, Row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs/sharded-memory"), metavar="DIR", help="what is done already")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="these models only")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    rows = list(rows_of(args.models, args.runs))
    head = ["# A rank's memory under each strategy: predicted, and measured", "", describe_machine(), summary(rows), ""]
    text = "\n".join([*head, *table(rows)]) + "\n"
    write_text(args.out / "sharded-memory.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
