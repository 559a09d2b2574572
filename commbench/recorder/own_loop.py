"""A run folder for a training loop of the user's own, written around it in a few lines.

    from commprof import record_steps

    with record_steps(model, samples_per_rank=8) as recorder:        recorder = record_steps(model, samples_per_rank=8)
        for tokens, targets in recorder.steps(loader):               recorder.start()
            ...                                                      for tokens, targets in recorder.steps(loader):
                                                                         ...
                                                                     recorder.stop()

The folder is what `commprof train` makes: steps, gradients, the machine and its telemetry, the same identity card. The
process group is the script's own, or there is none; the recorder opens none, closes none and takes over no signal. Its own
errors, once it has begun, end the recording and never the job.
"""

import atexit
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch
import torch.distributed as dist
from torch import nn

from commprof.commbench.errors import BadInput
from commprof.commbench.machine import hardware
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import gather_text
from commprof.commbench.ranks.session import make_run, marked, sampled
from commprof.commbench.recorder.bucket_tap import told_by
from commprof.commbench.recorder.ddp_settings import assumed_settings, ddp_settings, element_bytes, frozen_bytes
from commprof.commbench.recorder.exchange import Exchange
from commprof.commbench.recorder.gradients import bare, uncompiled
from commprof.commbench.recorder.own_work import OwnWork, say
from commprof.commbench.recorder.parallelism import training_kind, wrapper_of
from commprof.commbench.recorder.sharded.choice import sends_because
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import RUN_FILE, new_run_path, read_info, write_document
from commprof.commbench.records.training import EXCHANGED_PASSES
from commprof.commbench.records.types import Workload
from commprof.commbench.timing import device_clock


def record_steps(
    model: nn.Module,
    *,
    samples_per_rank: int,
    experiment: str | None = None,
    scaling: Literal["weak", "strong"] = "weak",
    sequence_length: int | None = None,
    dataset: str | None = None,
    warmup_steps: int = 5,
    folder: Path | str | None = None,
    accumulation: int = 1,
    compute_only: bool = False,
    bucket_cap_mb: float | None = None,
) -> "OwnLoop":
    """Record a loop's steps into a new run folder, by default below `runs/`. Every rank enters, after `model` is wrapped.

    `samples_per_rank` is what each rank trains on in one optimizer step, of `accumulation` batches; `scaling` says whether it
    stays (weak) or shrinks (strong) as ranks are added. `experiment` names the training, by default after the script: runs
    are compared where it and the model agree. `dataset` names what is trained on. `compute_only` keeps gradients and shards on
    their rank, so that the steps are those of ranks side by side that send nothing. `bucket_cap_mb` is what the script gives
    DDP where it has ranks to wrap for; on a wrapped model it is read. Raises BadInput where nothing is to be recorded, or the
    model is on a device that is neither the host nor a CUDA one; entering raises it where the folder cannot be made.
    """
    if samples_per_rank < 1 or warmup_steps < 0 or accumulation < 1:
        told = f"samples_per_rank={samples_per_rank}, warmup_steps={warmup_steps}"
        if accumulation < 1:
            raise BadInput(f"accumulation={accumulation}: use at least 1")
        raise BadInput(f"{told}: use at least 1 and at least 0")
    if bucket_cap_mb is not None and not bucket_cap_mb > 0:
        raise BadInput(f"bucket_cap_mb={bucket_cap_mb:g}: use what DDP is given, in MiB, above 0")
    if not any(parameter.requires_grad for parameter in bare(model).parameters()):
        raise BadInput("the model has no parameter that is trained; give record_steps the one that your optimizer has")
    wrapped = uncompiled(wrapper_of(uncompiled(model)) if dist.is_initialized() else model)
    num_parameters, gradient_bytes = element_bytes(wrapped)
    settings = ddp_settings(wrapped, None if bucket_cap_mb is None else int(bucket_cap_mb * 2**20))
    workload = Workload(
        experiment=experiment or Path(sys.argv[0]).stem or "own-loop",
        num_parameters=num_parameters,
        gradient_bytes=gradient_bytes,
        frozen_bytes=frozen_bytes(wrapped),
        samples_per_rank=samples_per_rank,
        sequence_length=sequence_length,
        synchronised=not compute_only,
        synchronisation="compute_only" if compute_only else "normal",
        scaling=scaling,
        precision="unknown",
        accumulation=accumulation,
        dataset=dataset,
        kind=training_kind(wrapped, exchanged=False),
        assumed=assumed_settings(wrapped, bucket_cap_mb is not None),
        **asdict(settings),
    )
    if compute_only and dist.is_initialized() and (reason := sends_because(wrapped)):
        raise BadInput(
            f"compute_only keeps gradients and shards on their rank, and not this model's ({workload.kind}): {reason}"
        )
    return OwnLoop(wrapped, workload, warmup_steps, None if folder is None else Path(folder))


class OwnLoop(StepRecorder):
    """A StepRecorder with a run folder of its own, made on entering (`with`, or start) and marked on leaving (or stop)."""

    def __init__(self, model: nn.Module, workload: Workload, warmup_steps: int, folder: Path | None) -> None:
        self._model, self._workload = model, workload
        self._device = next(bare(model).parameters()).device
        clock = device_clock(self._device)
        self._context = own_place(self._device)
        super().__init__(
            model,
            folder=folder or new_run_path(Path("runs"), "train", self._context.world_size),
            rank=self._context.rank,
            clock=clock,
            samples_per_rank=workload.samples_per_rank,
            warmup_steps=max(warmup_steps, 0 if workload.synchronised else EXCHANGED_PASSES + 1),
            own_work=OwnWork(self._let_go),
            compute_only=not workload.synchronised and dist.is_initialized(),
            accumulation=workload.accumulation,
        )
        self._open_until_left = ExitStack()

    def start(self) -> Self:
        """Begin to record, as `with` does; every rank, and once. A script that ends without stop() is stopped as it ends."""
        self.__enter__()
        atexit.register(self._stop_late)
        return self

    def stop(self) -> None:
        """End the recording, as leaving `with` does; every rank."""
        atexit.unregister(self._stop_late)
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        backend = "nccl" if self._device.type == "cuda" else "gloo"
        self._run = make_run("train", self._context, self._device, self._folder, backend=backend, workload=self._workload)
        self._folder = self._run.path
        with ExitStack() as stack:
            stack.enter_context(marked(self._run))
            stack.enter_context(sampled(self._folder, self._context))
            super().__enter__()
            self._exchange = Exchange()
            self._open_until_left = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.settle(failed=kind is not None)
        if self._rank == 0:
            self._own_work.do_anyway(self._complete)
        super().__exit__(kind, error, tb)
        self._own_work.do_anyway(self._open_until_left.__exit__, kind, error, tb)
        if self._rank == 0 and kind is None:
            say(f"the steps are in {self._folder}")

    def _stop_late(self) -> None:
        error = getattr(sys, "last_value", None)
        self.__exit__(None if error is None else type(error), error, None)

    def _let_go(self, reason: str) -> None:
        """Say why there will be no more records, and mark the run: its steps until here stay."""
        say(f"rank {self._rank} is not recorded any more, the training goes on ({reason})")
        try:
            self._run.mark_ended("failed", f"rank {self._rank} was not recorded any more: {reason}")
        except OSError as error:
            say(f"{self._folder} could not be marked failed ({error.strerror})")

    def _complete(self) -> None:
        """Add to the run's card what only the steps could tell."""
        info = read_info(self._folder)
        assert info.workload is not None
        kind = training_kind(self._model, exchanged=self._exchange.seen(self.num_steps))
        measured = replace(
            info.workload,
            **asdict(ddp_settings(self._model)) if kind == "ddp" else {},
            accumulation=self.accumulation,
            kind=kind,
            **told_by(self.gradients.tap, self.units),
        )
        unseen = self.unseen()
        write_document(self._folder / RUN_FILE, replace(info, workload=measured, unseen=unseen))
        for text in unseen:
            say(text)


def own_place(device: torch.device) -> RankContext:
    """Say which rank this is, by the script's own process group, and how many share its host."""
    if not dist.is_initialized():
        return RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")
    hosts = gather_text(hardware.hostname(), device)
    rank = dist.get_rank()
    return RankContext(
        rank=rank,
        local_rank=hosts[:rank].count(hosts[rank]),
        world_size=len(hosts),
        local_world_size=max(map(hosts.count, hosts)),
        launcher="own",
    )
