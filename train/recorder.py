"""StepRecorder: what each training step did with its time, and when each gradient was ready for the wire.

    with StepRecorder(model, folder=run, rank=rank, clock=clock, warmup_steps=5) as recorder:
        for tokens, labels in batches:
            with recorder.step(num_samples=len(labels)):
                with recorder.phase("forward"):
                    loss = criterion(model(tokens), labels)
                ...
                recorder.note_loss(loss)

Phases go to `steps.rankNNNNN.jsonl`, one record a step. Rank 0 also writes `gradients.json`: for every parameter the
moment its gradient was accumulated, for every DDP bucket the moments it was complete, launched and landed, all in seconds
after backward began and as medians over the steps that count. Nothing waits for the device before the step's end.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from commbench.records import BucketTiming, GradientTimeline, ParameterTiming, StepMeasurement
from commbench.rundir import RecordWriter, write_document
from commbench.timing import Clock

Phase = Literal["data", "forward", "backward", "optimizer"]
_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "optimizer")
_KEPT_STEPS = 512  # medians over the last steps that count; bounds memory in a long run


class StepRecorder:
    """Records the steps of one rank. Entering hooks the model, leaving unhooks it and writes gradients.json."""

    def __init__(
        self,
        model: nn.Module,
        *,
        folder: Path,
        rank: int,
        clock: Clock,
        warmup_steps: int,
        first_step: int = 0,
        synchronised: bool = True,
    ) -> None:
        self._model = model
        self._folder = folder
        self._rank = rank
        self._clock = clock
        self._warmup_end = first_step + warmup_steps  # a run that goes on warms up again: DDP lays its buckets out anew
        self._synchronised = synchronised
        module = model.module if isinstance(model, DistributedDataParallel) else model
        self._names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
        self._bytes = {name: p.numel() * p.element_size() for name, p in module.named_parameters()}
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._step = first_step
        self._loss: Tensor | None = None
        self.last: StepMeasurement | None = None
        self._phases: dict[Phase, tuple[Any, Any]] = {}
        self._ready: dict[str, Any] = {}
        self._launched: dict[int, Any] = {}
        self._landed: dict[int, Any] = {}
        self._members: dict[int, list[str]] = {}
        self._bucket_bytes: dict[int, int] = {}
        self._samples: dict[tuple[str, str | int], deque[float]] = defaultdict(partial(deque, maxlen=_KEPT_STEPS))

    def __enter__(self) -> Self:
        self._writer = RecordWriter(self._folder / f"steps.rank{self._rank:05d}.jsonl")
        self._hooks = [p.register_post_accumulate_grad_hook(self._note_ready) for p in self._parameters]
        if isinstance(self._model, DistributedDataParallel):
            self._model.register_comm_hook(self._model.process_group, self._all_reduce_bucket)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._writer.__exit__(kind, error, tb)
        if self._rank == 0 and self._samples:
            write_document(self._folder / "gradients.json", self.timeline())

    @contextmanager
    def step(self, num_samples: int, *, profiled: bool = False) -> Iterator[None]:
        """Time one step; its record is on disk when the step ends. Steps under the profiler are marked as such."""
        for marks in (self._phases, self._ready, self._launched, self._landed):
            marks.clear()
        start = self._clock.mark()
        yield
        end = self._clock.mark()
        self._clock.synchronize()
        seconds = {phase: self._clock.seconds(*self._phases[phase]) for phase in self._phases}
        record = StepMeasurement(
            step=self._step,
            **{f"{phase}_s": seconds.get(phase, 0.0) for phase in _PHASES},
            step_s=self._clock.seconds(start, end),
            num_samples=num_samples,
            loss=None if self._loss is None else float(self._loss),
            warmup=self._step < self._warmup_end,
            profiled=profiled,
            synchronised=self._synchronised,
        )
        self._writer.append(record)
        self.last = record
        if record.counts and "backward" in seconds:
            self._keep_gradient_times(seconds["backward"])
        self._step += 1

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time one phase of the step under way; the trace shows it as a range of the same name."""
        with record_function(name):
            start = self._clock.mark()
            if name == "backward":
                self._backward_start = start
            yield
            self._phases[name] = (start, self._clock.mark())

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step's loss; it is read only after the step has ended on the device."""
        self._loss = loss.detach()

    def timeline(self) -> GradientTimeline:
        """Return medians over the steps that count so far, parameters in the order their gradients became ready."""
        backward_s = self._samples["backward", "s"]
        parameters = [
            ParameterTiming(name=name, num_bytes=self._bytes[name], ready_s=median(self._samples["ready", name]))
            for name in self._names.values()
            if ("ready", name) in self._samples
        ]
        buckets = [
            BucketTiming(
                index=index,
                num_bytes=num_bytes,
                ready_s=median(self._samples["bucket_ready", index]),
                launched_s=median(self._samples["launched", index]),
                done_s=median(self._samples["done", index]),
            )
            for index, num_bytes in sorted(self._bucket_bytes.items())
            if ("launched", index) in self._samples
        ]
        return GradientTimeline(
            rank=self._rank,
            num_steps=len(backward_s),
            backward_s=median(backward_s),
            parameters=tuple(sorted(parameters, key=lambda p: p.ready_s)),
            buckets=tuple(buckets),
        )

    def _note_ready(self, parameter: Tensor) -> None:
        self._ready[self._names[id(parameter)]] = self._clock.mark()

    def _all_reduce_bucket(self, group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """Do what DDP does without a hook, mean over ranks, and mark when it begins and ends."""
        index, buffer = bucket.index(), bucket.buffer()
        self._members[index] = [self._names[id(parameter)] for parameter in bucket.parameters()]
        self._bucket_bytes[index] = buffer.numel() * buffer.element_size()
        self._launched[index] = self._clock.mark()
        work = dist.all_reduce(buffer.div_(group.size()), group=group, async_op=True)
        assert work is not None

        def landed(future: torch.futures.Future[list[Tensor]]) -> Tensor:
            self._landed[index] = self._clock.mark()
            return future.value()[0]

        reduced: torch.futures.Future[Tensor] = work.get_future().then(landed)
        return reduced

    def _keep_gradient_times(self, backward_s: float) -> None:
        ready = {name: self._clock.seconds(self._backward_start, mark) for name, mark in self._ready.items()}
        self._samples["backward", "s"].append(backward_s)
        for name, seconds in ready.items():
            self._samples["ready", name].append(seconds)
        for index, mark in self._launched.items():
            self._samples["launched", index].append(self._clock.seconds(self._backward_start, mark))
            self._samples["done", index].append(self._clock.seconds(self._backward_start, self._landed[index]))
            self._samples["bucket_ready", index].append(max(ready[name] for name in self._members[index]))
