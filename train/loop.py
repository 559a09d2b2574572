"""The loop around the training step, plain on one process and under DDP on several.

One step: fetch a batch, forward, backward (DDP all-reduces buckets meanwhile), optimizer. Under weak scaling N ranks
process N times as many samples per step as one, under strong scaling as many as one.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from commprof.commbench.progress import Report, progress
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import barrier
from commprof.commbench.ranks.stopping import StopRequest
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import RUN_FILE, RecordWriter, read_info, write_document
from commprof.commbench.records.training import EvaluationMeasurement, StepMeasurement
from commprof.commbench.timing import device_clock
from commprof.commbench.units import format_number
from commprof.train.activations import telling_memory, tells_peak
from commprof.train.board import Plot, board
from commprof.train.checkpoint import Checkpoint, CheckpointKeeper, drop_later_records
from commprof.train.config.learning_rate import learning_rate
from commprof.train.config.schedule import count_steps, samples_per_part, samples_per_rank
from commprof.train.config.types import TrainConfig
from commprof.train.evaluation import evaluate
from commprof.train.profiling import StepTracer
from commprof.train.step import train_step
from commprof.train.text.batches import batches_of, endless, naming_lost_workers
from commprof.train.text.dataset import EncodedText
from commprof.train.trainee import Trainee, naming_failed_compilation


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
    loader = batches_of(training, config, context, trainee.device)
    num_steps = count_steps(len(training.labels), config, context.world_size)
    steps = range(begun_step, num_steps)
    keeper = _keeper(config, trainee, context, run, stop)
    recorder = _recorder(config, trainee, context, run, begun_step)
    tracing = StepTracer(run, context, steps, config.profiling, trainee.device)
    reporting = progress("step", num_steps, first=begun_step, enabled=context.rank == 0)
    plotting = board(run / "tensorboard", first_step=begun_step, enabled=config.training.tensorboard and context.rank == 0)
    start_s = time.monotonic() - begun_s
    with _naming_failures(config, context.rank), recorder, tracing as tracer, reporting as report, plotting as plot:
        stream = endless(loader, begun_step)
        for step in steps:
            rate = learning_rate(config.training, step, num_steps)
            if config.distributed.synchronisation == "compute_only" and not _meet_after_backward(config, trainee):
                barrier()  # ranks that compete for memory and cores begin each step together, as in a run that exchanges
            traced, number = tracer.touches(step), step - begun_step
            telling = _telling_memory(trainee, recorder, number) if not traced else nullcontext()
            with telling, tracer.step(step), recorder.step(profiled=traced or tells_peak(trainee.model, number)):
                train_step(trainee, stream, recorder, config, learning_rate=rate)
            if keeper is not None or _epoch_ends(step + 1, num_steps, len(loader)):
                recorder.catch_up()
            if recorder.last is not None:  # on a GPU the step before, and none after the first
                rate = learning_rate(config.training, recorder.last.step, num_steps)
                _say(report, plot, recorder.last, context.world_size, rate)
            if _epoch_ends(step + 1, num_steps, len(loader)) and config.training.evaluate:
                result = evaluate(trainee, evaluation, samples_per_part(config.training, context.world_size), context)
                _record_evaluation(run, context, plot, result, step + 1, len(loader), time.monotonic() - start_s)
            if keeper is not None and step + 1 < num_steps:
                keeper.after_step(step + 1, time.monotonic() - start_s)
        if context.rank == 0:
            _note_waits(run, recorder)


def _meet_after_backward(config: TrainConfig, trainee: Trainee) -> bool:
    """Whether something stands in for the exchange of a whole pass (stand_in.py)."""
    return config.distributed.strategy == "ddp" and trainee.device.type == "cpu"


def _telling_memory(trainee: Trainee, recorder: StepRecorder, number: int) -> AbstractContextManager[None]:
    return telling_memory(trainee.model, trainee.optimizer_bytes, trainee.device, recorder.units, number)


@contextmanager
def _naming_failures(config: TrainConfig, rank: int) -> Iterator[None]:
    """Say in one line what a loader worker or the compiler did."""
    with naming_lost_workers(rank), naming_failed_compilation(rank) if config.training.compile else nullcontext():
        yield


def _recorder(config: TrainConfig, trainee: Trainee, context: RankContext, run: Path, first_step: int) -> StepRecorder:
    return StepRecorder(
        trainee.model,
        folder=run,
        rank=context.rank,
        clock=device_clock(trainee.device),
        samples_per_rank=samples_per_rank(config.training, context.world_size),
        warmup_steps=config.profiling.warmup_steps,
        first_step=first_step,
        compute_only=config.distributed.synchronisation == "compute_only",
    )


def _note_waits(run: Path, recorder: StepRecorder) -> None:
    """Add to the run's card what ranks waited in each step in the exchange's stead, if they did."""
    tap = recorder.gradients.tap
    if tap is None or tap.waited_s is None:
        return
    info = read_info(run)
    assert info.workload is not None
    write_document(run / RUN_FILE, replace(info, workload=replace(info.workload, waited_s=tap.waited_s)))


def _keeper(
    config: TrainConfig, trainee: Trainee, context: RankContext, run: Path, stop: StopRequest | None
) -> CheckpointKeeper | None:
    if config.training.checkpoint_every is None:
        return None
    assert stop is not None
    return CheckpointKeeper(config, trainee, context=context, run=run, stop=stop)


def _epoch_ends(done: int, num_steps: int, per_epoch: int) -> bool:
    return done == num_steps or done % per_epoch == 0


def _say(report: Report, plot: Plot, last: StepMeasurement, world_size: int, rate: float) -> None:
    samples_per_s = world_size * last.num_samples / last.step_s
    assert last.loss is not None
    report(last.step + 1, f"loss {last.loss:.3f}  {format_number(samples_per_s)} samples/s  {last.step_s * 1e3:.0f} ms/step")
    plot(last.step, {"loss": last.loss, "samples per second": samples_per_s, "learning rate": rate})


def _record_evaluation(
    run: Path, context: RankContext, plot: Plot, result: tuple[float, float, int], step: int, per_epoch: int, elapsed_s: float
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
        plot(step, {"accuracy": accuracy, "evaluation loss": loss})
