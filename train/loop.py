"""The training step and the loop around it, plain on one process and under DDP on several.

One step: fetch a batch, forward, backward (DDP all-reduces buckets meanwhile), optimizer. Under weak scaling N ranks
process N times as many samples per step as one, under strong scaling as many as one.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

from commbench.launched import RankContext
from commbench.progress import Report, progress
from commbench.recorder import StepRecorder
from commbench.records import EvaluationMeasurement
from commbench.rundir import RecordWriter
from commbench.runtime import gather_values
from commbench.stopping import StopRequest
from commbench.timing import device_clock
from train.checkpoint import Checkpoint, CheckpointKeeper, drop_later_records
from train.config import TrainConfig
from train.data import NUM_CLASSES, EncodedText
from train.model import TextClassifier
from train.profiling import StepTracer
from train.schedule import count_steps, samples_per_rank

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What one rank trains: the model (wrapped by DDP where there are peers) and its optimizer, on a device."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device


def build_trainee(config: TrainConfig, device: torch.device) -> Trainee:
    """Build model and optimizer, alike on every rank; wrap the model in DDP where a process group is open."""
    torch.manual_seed(config.training.seed)
    model: nn.Module = TextClassifier(config.model, NUM_CLASSES).to(device)
    if dist.is_initialized():
        model = DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            bucket_cap_mb=config.distributed.bucket_cap_mb,
        )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.training.learning_rate, weight_decay=config.training.weight_decay
    )
    return Trainee(model=model, optimizer=optimizer, device=device)


def train(
    config: TrainConfig,
    trainee: Trainee,
    training: EncodedText,
    evaluation: EncodedText,
    context: RankContext,
    run: Path,
    *,
    resumed: Checkpoint | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Train as configured, from the start or a checkpoint on, recording every step and evaluation into the run folder.

    With checkpoints, `stop` is asked after each step; raises Interrupted on every rank when one rank was asked to stop.
    """
    begun_step, begun_s = (0, 0.0) if resumed is None else (resumed.step, resumed.elapsed_s)
    if resumed is not None:
        drop_later_records(run, context.rank, resumed.step)
    loader = batches_of(training, config, context)
    num_steps = count_steps(len(training.labels), config, context.world_size)
    steps = range(begun_step, num_steps)
    num_samples = samples_per_rank(config.training, context.world_size)
    keeper = _keeper(config, trainee, context, run, stop)
    recorder = _recorder(config, trainee, context, run, begun_step)
    tracing = StepTracer(run, context, steps, config.profiling, trainee.device)
    reporting = progress("step", num_steps, first=begun_step, enabled=context.rank == 0)
    start_s = time.monotonic() - begun_s
    with recorder, tracing as tracer, reporting as report:
        stream = endless(loader, begun_step)
        for step in steps:
            with tracer.step(step), recorder.step(profiled=tracer.touches(step)):
                train_step(trainee, stream, recorder, synchronise=config.distributed.synchronise)
            _say(report, step + 1, recorder)
            if _epoch_ends(step + 1, num_steps, len(loader)) and config.training.evaluate:
                result = evaluate(trainee, evaluation, num_samples, context)
                _record_evaluation(run, context, result, step + 1, len(loader), time.monotonic() - start_s)
            if keeper is not None and step + 1 < num_steps:
                keeper.after_step(step + 1, time.monotonic() - start_s)


def train_step(trainee: Trainee, stream: Iterator[Batch], recorder: StepRecorder, *, synchronise: bool) -> None:
    """Take one batch and one optimizer step. Without `synchronise` nothing goes over the wire (DDP's no_sync)."""
    with recorder.phase("data"):
        tokens, labels = (part.to(trainee.device, non_blocking=True) for part in next(stream))
    with _no_sync(trainee.model, synchronise):
        with recorder.phase("forward"):
            loss = functional.cross_entropy(trainee.model(tokens.long()), labels)
        with recorder.phase("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
    with recorder.phase("optimizer"):
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()
    recorder.note_loss(loss)


def batches_of(text: EncodedText, config: TrainConfig, context: RankContext) -> DataLoader[Batch]:
    """Return this rank's share of the shuffled articles in full batches: tokens [batch, sequence], labels [batch]."""
    dataset: Any = TensorDataset(torch.from_numpy(text.tokens), torch.from_numpy(text.labels))
    sampler: DistributedSampler[int] = DistributedSampler(
        dataset, context.world_size, context.rank, shuffle=True, seed=config.training.seed, drop_last=True
    )
    batch_sampler = BatchSampler(sampler, samples_per_rank(config.training, context.world_size), drop_last=True)
    own = torch.Generator()  # an epoch's beginning must take nothing from dropout's: a run may go on in the midst of one
    return DataLoader(dataset, sampler=batch_sampler, batch_size=None, generator=own)


def endless(loader: DataLoader[Batch], first_step: int = 0) -> Iterator[Batch]:
    """Yield batches epoch after epoch from a step on, each epoch shuffled anew and alike on all ranks."""
    epoch, skipped = divmod(first_step, len(loader))
    while True:
        assert isinstance(loader.sampler, BatchSampler) and isinstance(loader.sampler.sampler, DistributedSampler)
        loader.sampler.sampler.set_epoch(epoch)
        yield from islice(loader, skipped, None)
        epoch, skipped = epoch + 1, 0


@torch.inference_mode()
def evaluate(trainee: Trainee, text: EncodedText, batch_size: int, context: RankContext) -> tuple[float, float, int]:
    """Return (mean loss, accuracy, number of samples) over all ranks; rank r takes every world_size-th article from r."""
    module = trainee.model.module if isinstance(trainee.model, DistributedDataParallel) else trainee.model
    module.eval()
    mine = slice(context.rank, None, context.world_size)
    tokens, labels = torch.from_numpy(text.tokens[mine]), torch.from_numpy(text.labels[mine])
    totals = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(labels), batch_size):
        logits = module(tokens[start : start + batch_size].to(trainee.device).long())
        wanted = labels[start : start + batch_size].to(trainee.device)
        loss = functional.cross_entropy(logits, wanted, reduction="sum")
        correct = (logits.argmax(1) == wanted).sum()
        totals += torch.tensor([float(loss), float(correct), float(len(wanted))], dtype=torch.float64)
    module.train()
    loss_sum, correct_sum, count = (sum(column) for column in zip(*gather_values(totals.tolist(), trainee.device), strict=True))
    return loss_sum / count, correct_sum / count, int(count)


def _recorder(config: TrainConfig, trainee: Trainee, context: RankContext, run: Path, first_step: int) -> StepRecorder:
    return StepRecorder(
        trainee.model,
        folder=run,
        rank=context.rank,
        clock=device_clock(trainee.device.type),
        samples_per_rank=samples_per_rank(config.training, context.world_size),
        warmup_steps=config.profiling.warmup_steps,
        first_step=first_step,
    )


def _keeper(
    config: TrainConfig, trainee: Trainee, context: RankContext, run: Path, stop: StopRequest | None
) -> CheckpointKeeper | None:
    if config.training.checkpoint_every is None:
        return None
    assert stop is not None
    return CheckpointKeeper(
        config, trainee.model, trainee.optimizer, device=trainee.device, context=context, run=run, stop=stop
    )


def _no_sync(model: nn.Module, synchronise: bool) -> AbstractContextManager[None]:
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not synchronise else nullcontext()


def _epoch_ends(done: int, num_steps: int, per_epoch: int) -> bool:
    return done == num_steps or done % per_epoch == 0


def _say(report: Report, done: int, recorder: StepRecorder) -> None:
    last = recorder.last
    assert last is not None
    loss = "" if last.loss is None else f"loss {last.loss:.3f}  "
    report(done, f"{loss}{last.step_s * 1e3:.0f} ms/step")


def _record_evaluation(
    run: Path, context: RankContext, result: tuple[float, float, int], step: int, per_epoch: int, elapsed_s: float
) -> None:
    if context.rank == 0:
        loss, accuracy, num_samples = result
        record = EvaluationMeasurement(
            step=step,
            epoch=-(-step // per_epoch),
            loss=loss,
            accuracy=accuracy,
            num_samples=num_samples,
            elapsed_s=elapsed_s,
        )
        with RecordWriter(run / "evaluations.jsonl") as writer:
            writer.append(record)
