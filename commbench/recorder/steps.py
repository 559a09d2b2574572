"""StepRecorder: what each training step did with its time, and when each gradient was ready for the wire.

    with recorder.step():                        for batch in recorder.steps(batches):   # begins "data", then "forward"
        with recorder.phase("forward"):              loss = criterion(model(batch), ...)
            loss = criterion(model(batch), ...)      recorder.begin("backward")
        with recorder.phase("backward"):             loss.backward()
            loss.backward()                          recorder.begin("optimizer")
        ...                                          optimizer.step()

Phases go to `steps.rankNNNNN.jsonl`, one record a step; a phase entered several times in a step, as under gradient
accumulation, is their sum. Rank 0 also writes `gradients.json` (gradients.py). `own_loop.record_steps` makes the run folder for
a loop of the user's own.

On a GPU a step is read once the next one has been asked for: the host stays a step ahead, as it does in a loop that nobody
records, and launches and data hide behind the device's work as they do there.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled
from torch.profiler import record_function

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.recorder.gradients import Backward, GradientRecorder
from commprof.commbench.records.rundir import RecordWriter, write_document
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from commprof.commbench.timing import Clock

Phase = Literal["data", "forward", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = get_args(Phase)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedStep:
    """A step that was asked for and may not have happened yet: its marks, and what is known without the device.

    `read` is when its loss has reached the host.
    """

    step: int
    start: Any
    end: Any
    read: Any
    spans: tuple[tuple[Phase, Any, Any], ...]
    backward: Backward | None
    dropped: list[Any]
    loss: Tensor | None
    num_samples: int
    profiled: bool


class StepRecorder:
    """Records the steps of one rank into a run folder. Entering hooks the model, leaving takes every hook off again.

    Every rank of a DDP model must enter and leave. The first `warmup_steps` after `first_step` are marked as warm-up, also in
    a run that goes on: DDP lays its buckets out anew. `last` is the last step that was read, on a GPU the one before the
    last. `exchanges` is False where DDP's group holds this rank alone.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        folder: Path,
        rank: int,
        clock: Clock,
        samples_per_rank: int,
        warmup_steps: int,
        first_step: int = 0,
        exchanges: bool = True,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._clock = clock
        self._samples_per_rank = samples_per_rank
        self._warmup_end = first_step + warmup_steps
        self._step = first_step
        self._gradients = GradientRecorder(model, rank, clock)
        self._spans: list[tuple[Phase, Any, Any]] = []
        self._under_way: tuple[Phase, Any, Any] | None = None
        self._in_step = False
        self._exchanges = exchanges
        self._loss: Tensor | None = None
        self.queued: QueuedStep | None = None
        self.last: StepMeasurement | None = None

    def __enter__(self) -> Self:
        self._gradients.attach()
        self._writer = RecordWriter(self._folder / f"steps.rank{self._rank:05d}.jsonl")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # After an error the device may never come to the last step: a rank may be lost, and the error is to be heard.
        if self.queued is not None and (kind is None or self._clock.happened(self.queued.read)):
            self.catch_up()
        self._gradients.detach()
        self._writer.__exit__(kind, error, tb)
        if self._rank == 0 and self._gradients.has_samples:
            self._write_timeline(self._folder / "gradients.json")

    @contextmanager
    def step(self, num_samples: int | None = None, *, profiled: bool = False) -> Iterator[None]:
        """Time one step. It has no record where an exception ends it.

        Its record is on disk when the step ends; on a GPU when the next one does, or when the recorder is left. `num_samples`
        is this rank's, by default what every step has. Steps that torch.profiler watches are marked as such.
        """
        self._spans.clear()
        self._gradients.forget_step()
        self._loss = None
        self._in_step = True
        start = self._clock.mark()
        with record_function("step"):
            try:
                yield
            finally:
                self._end_phase()
                self._in_step = False
        queued = self._queue(start, num_samples or self._samples_per_rank, profiled or _profiler_enabled())
        self.catch_up()
        self.queued = queued
        if not self._clock.runs_behind:
            self.catch_up()

    def steps(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, each in a step of its own: fetching it is the data phase, what follows begins as forward.

        The step under way ends with the loop's body; one left by `break` is not recorded.
        """
        remaining = iter(batches)
        while True:
            try:
                with self.step():
                    self.begin("data")
                    batch = next(remaining)
                    self.begin("forward")
                    yield batch
            except StopIteration:  # `next` had no batch, and the step that was to hold it has no record
                return

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time one phase of the step under way; the trace shows it as a range of the same name."""
        self.begin(name)
        try:
            yield
        finally:
            self._end_phase()

    def begin(self, name: Phase) -> None:
        """End the phase under way, if there is one, and begin another; raise BadInput outside of a step."""
        if name not in PHASES:
            raise BadInput(f"{name!r} is not a phase of a training step; use one of {', '.join(PHASES)}")
        if not self._in_step:
            raise BadInput(f"the phase {name!r} begins outside of a step; put it inside recorder.step() or recorder.steps()")
        self._end_phase()
        named: Any = record_function(name)
        named.__enter__()
        mark = self._clock.mark()
        if name == "backward":
            self._gradients.begin(mark)
        self._under_way = name, mark, named

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step's loss; it is read only after the step has ended on the device."""
        self._loss = loss.detach()

    def catch_up(self) -> None:
        """Wait for the step that has been asked for and not read yet, if there is one, and write it down."""
        queued, self.queued = self.queued, None
        if queued is None:
            return
        seconds = self._clock.seconds
        seconds(queued.start, queued.read)  # everything before has happened then
        phases = {f"{name}_s": sum(seconds(a, b) for each, a, b in queued.spans if each == name) for name in PHASES}
        record = StepMeasurement(
            step=queued.step,
            **phases,
            step_s=seconds(queued.start, queued.end),
            num_samples=queued.num_samples,
            loss=None if queued.loss is None else float(queued.loss),
            warmup=queued.step < self._warmup_end,
            profiled=queued.profiled,
            synchronised=self._exchanges and self._gradients.synchronised(queued.backward),
            last_backward_s=self._gradients.backward_s(queued.backward),
        )
        self._writer.append(record)
        self.last = record
        if record.counts:
            self._gradients.keep(queued.backward)
        self._clock.release(_marks_of(queued))

    def timeline(self) -> GradientTimeline:
        """Return medians over the steps that count so far."""
        return self._gradients.timeline()

    def _write_timeline(self, path: Path) -> None:
        try:
            write_document(path, self.timeline())
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}; make room, the steps are kept") from None

    def _end_phase(self) -> None:
        if self._under_way is None:
            return
        name, start, named = self._under_way
        self._under_way = None
        end = self._clock.mark()
        if name == "backward":
            self._gradients.end(end)
        self._spans.append((name, start, end))
        named.__exit__(None, None, None)

    def _queue(self, start: Any, num_samples: int, profiled: bool) -> QueuedStep:  # noqa: ANN401  a clock's mark
        """End the step under way on the device's timeline and let its loss follow, without waiting for either."""
        end = self._clock.mark()
        backward, dropped = self._gradients.take_step()
        loss = _on_its_way(self._loss)
        queued = QueuedStep(
            step=self._step,
            start=start,
            end=end,
            read=self._clock.mark() if self._clock.runs_behind else end,
            spans=tuple(self._spans),
            backward=backward,
            dropped=dropped,
            loss=loss,
            num_samples=num_samples,
            profiled=profiled,
        )
        self._step += 1
        return queued


def _on_its_way(loss: Tensor | None) -> Tensor | None:
    """Let a loss on a GPU be copied to the host once it is there; asking for its value now would wait for it."""
    if loss is None or loss.device.type == "cpu":
        return loss
    host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
    return host.copy_(loss, non_blocking=True)


def _marks_of(queued: QueuedStep) -> Iterator[Any]:
    yield from {id(mark): mark for mark in (queued.start, queued.end, queued.read)}.values()
    for _, start, end in queued.spans:
        yield from (start, end)
    yield from queued.dropped
    if queued.backward is not None:
        yield from queued.backward.marks
