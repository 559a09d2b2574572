"""StepRecorder: what each training step did with its time, and when each gradient was ready for the wire.

    with recorder.step():                        for batch in recorder.steps(batches):   # begins "data", then "forward"
        with recorder.phase("forward"):              loss = criterion(model(batch), ...)
            loss = criterion(model(batch), ...)      recorder.begin("backward")
        with recorder.phase("backward"):             loss.backward()
            loss.backward()                          recorder.begin("optimizer")
        ...                                          optimizer.step()

Phases go to `steps.rankNNNNN.jsonl`, one record a step; a phase entered several times in a step, as under gradient
accumulation, is their sum. Rank 0 writes its gradients' times to `gradients.json` (gradients.py), the others theirs to
`gradients.rankNNNNN.json`. Between steps, now and then, the machine's pace is probed (pace_probe.py).
`own_loop.record_steps` makes the run folder for a loop of the user's own.

On a GPU a step is read once the next one has been asked for: the host stays a step ahead, as it does in a loop that nobody
records, and launches and data hide behind the device's work as they do there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.recorder.gradients import GradientRecorder, bare, uncompiled
from commprof.commbench.recorder.own_work import OwnWork, say
from commprof.commbench.recorder.pace_probe import PaceRecorder
from commprof.commbench.recorder.phases import PHASES, Phase, PhaseMarks
from commprof.commbench.recorder.queued import QueuedStep, on_its_way
from commprof.commbench.recorder.sharded.choice import unit_recorder
from commprof.commbench.recorder.stand_in import ComputingClock
from commprof.commbench.recorder.step_file import StepFile
from commprof.commbench.records.rundir import write_document
from commprof.commbench.records.training import GradientTimeline, StepMeasurement, gradients_file
from commprof.commbench.timing import Clock, MonotonicClock

_STRAY = (
    'gradients came outside of a backward phase, so nothing tells when each was ready; put recorder.begin("backward") before '
    "loss.backward()"
)

T = TypeVar("T")


class StepRecorder:
    """Records the steps of one rank into a run folder. Entering hooks the model, leaving takes every hook off again.

    Every rank of a DDP model must enter and leave. The first `warmup_steps` after `first_step` are marked as warm-up, also in
    a run that goes on: DDP lays its buckets out anew. `last` is the last step that was read, on a GPU the one before the
    last. With `compute_only` the model's gradients stay on their rank, and what it waits in the exchange's stead is in no step.
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
        own_work: OwnWork | None = None,
        compute_only: bool = False,
        accumulation: int = 1,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._clock = clock = ComputingClock() if compute_only and isinstance(clock, MonotonicClock) else clock
        self._samples_per_rank = samples_per_rank
        self._accumulation = accumulation
        self._first_step = self._step = first_step
        self._own_work = own_work or OwnWork()
        self._gradients = GradientRecorder(model, rank, clock, self._own_work, alone=compute_only)
        self.units = unit_recorder(uncompiled(model), rank, clock, self._own_work, alone=compute_only)
        self._file = StepFile(clock, first_step + warmup_steps, self._gradients, self.units)
        self.phases = PhaseMarks(clock, self._gradients, self.units)
        self._device = next(bare(model).parameters()).device
        self._in_step = self._told_of_stray = False
        self._exchanges = not compute_only
        self._passes: Counter[int] = Counter()
        self._samples: Counter[int] = Counter()
        self._loss: Tensor | None = None

    def __enter__(self) -> Self:
        self._gradients.attach()
        self.units.attach()
        # After the gradients are attached the ranks have agreed on the folder.
        self._file.open(self._folder, self._rank)
        self._pace = PaceRecorder(self._folder, self._rank, self._device, self._clock)
        self._own_work.do(self._pace.take, self._step)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.settle(failed=kind is not None)
            if kind is None:
                self.take_last_pace()
        finally:
            self._own_work.do_anyway(self._gradients.detach)
            self._own_work.do_anyway(self.units.detach)
            self._file.close(kind, error, tb)
            self._own_work.do_anyway(self.write_timeline)

    def leave(self) -> None:
        """End recording on this rank alone: DDP's hook stays and does what DDP does, and what stands for collectives that are
        not sent stays too, for other ranks meet there; all other hooks are taken off."""
        self._gradients.release()
        self.units.release()
        self._file.close()

    @property
    def queued(self) -> QueuedStep | None:
        """The step that has been asked for and not read yet."""
        return self._file.queued

    @property
    def last(self) -> StepMeasurement | None:
        return self._file.last

    @property
    def gradients(self) -> GradientRecorder:
        return self._gradients

    @property
    def num_steps(self) -> int:
        """Steps that have ended; on a GPU the last one may not be read yet."""
        return self._step - self._first_step

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step: the number of backward passes that most steps had, 1 where none was marked."""
        return self._passes.most_common(1)[0][0] if self._passes else 1

    @property
    def typical_samples(self) -> int:
        """The number of samples that most steps had; 0 before there was one."""
        return self._samples.most_common(1)[0][0] if self._samples else 0

    def unseen(self) -> tuple[str, ...]:
        """Return, in words, what of the training could not be seen."""
        of_gradients = self._gradients.unseen(in_units=self.units.has_steps)
        return (*([_STRAY] if self._told_of_stray else []), *of_gradients, *self.units.unseen())

    @contextmanager
    def step(self, num_samples: int | None = None, *, profiled: bool = False) -> Iterator[None]:
        """Time one step. It has no record where an exception ends it.

        Its record is on disk when the step ends; on a GPU when the next one does, or when the recorder is left. `num_samples`
        is this rank's, by default what every step has. Steps that torch.profiler watches are marked as such.
        """
        self.begin_step()
        try:
            yield
        except BaseException:
            self.abandon_step()
            raise
        self.end_step(num_samples, profiled=profiled)

    def begin_step(self, first: Phase | None = None) -> None:
        """Begin a step, where the loop has no room for `with recorder.step()`; its first phase may begin with it."""
        self._in_step = True
        self._own_work.do(self._open, first)

    def end_step(self, num_samples: int | None = None, *, profiled: bool = False) -> None:
        """End the step begun, and write its record or, on a GPU, that of the step before."""
        self._in_step = False
        self._own_work.do(self._close, num_samples, profiled)
        if self._pace.due(self.num_steps) and not _profiler_enabled():
            self._own_work.do(self._pace.take, self._step)
        if self._own_work.ended:
            self._gradients.release()
            self.units.release()

    def abandon_step(self) -> None:
        """End the step begun, without a record."""
        if self._in_step:
            self._in_step = False
            self._own_work.do(self.phases.close)

    def steps(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, each in a step of its own: fetching it is the data phase, what follows begins as forward.

        Under gradient accumulation a step takes as many batches as record_steps was told. The step under way ends with the
        loop's body; one left by `break` is not recorded, nor one that the batches do not fill.
        """
        remaining = iter(batches)
        try:
            while True:
                self.begin_step("data")
                for part in range(self._accumulation):
                    if part > 0:
                        self.begin("data")
                    batch = next(remaining)
                    self.begin("forward")
                    yield batch
                self.end_step()
        except StopIteration:  # `next` had no batch, and the step that was to hold it has no record
            return
        finally:
            self.abandon_step()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time one phase of the step under way; the trace shows it as a range of the same name."""
        self.begin(name)
        try:
            yield
        finally:
            self._own_work.do(self.phases.end)

    def begin(self, name: Phase) -> None:
        """End the phase under way, if there is one, and begin another; raise BadInput outside of a step."""
        if name not in PHASES:
            raise BadInput(f"{name!r} is not a phase of a training step; use one of {', '.join(PHASES)}")
        if not self._in_step:
            raise BadInput(f"the phase {name!r} begins outside of a step; put it inside recorder.step() or recorder.steps()")
        self._own_work.do(self.phases.turn_to, name)

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step's loss; it is read only after the step has ended on the device."""
        self._loss = loss.detach()

    def catch_up(self) -> None:
        """Wait for the step that has been asked for and not read yet, if there is one, and write it down."""
        self._own_work.do(self._file.read)

    def settle(self, *, failed: bool) -> None:
        """Read the last step; after a failure only one that is done: a rank may be lost, and the error is to be heard."""
        if failed:
            self._file.drop_unless_done()
        self.catch_up()

    def take_last_pace(self) -> None:
        """Take the probe after the last step, and write down what is left of them."""
        self._own_work.do(self._pace.take, self._step)
        self._own_work.do(self._pace.read)

    def timeline(self) -> GradientTimeline:
        """Return medians over the steps that count so far."""
        return self._gradients.timeline()

    def write_timeline(self) -> None:
        """Write this rank's units and gradient times as they are so far; raise RunFailed where the disk does not take them."""
        self.units.write(self._folder)
        if not self._gradients.has_samples:
            return
        path = self._folder / gradients_file(self._rank)
        try:
            write_document(path, self.timeline())
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}; make room, the steps are kept") from None

    def _open(self, first: Phase | None) -> None:
        self._gradients.forget_step()
        self._loss = None
        self._start = self.phases.open(first)

    def _close(self, num_samples: int | None, profiled: bool) -> None:
        profiled = profiled or _profiler_enabled()
        self._file.put(self._queue(self.phases.close(), num_samples or self._samples_per_rank, profiled))

    def _queue(self, end: Any, num_samples: int, profiled: bool) -> QueuedStep:  # noqa: ANN401
        """Put down what the host knows of the step that ends, and let its loss follow, without waiting for the device."""
        synchronised = (self._exchanges or self.units.sends_again) and self._gradients.synchronised()
        backward, dropped = self._gradients.take_step()
        loss = on_its_way(self._loss)
        queued = QueuedStep(
            step=self._step,
            start=self._start,
            end=end,
            read=self._clock.mark() if self._clock.runs_behind else end,
            spans=tuple(self.phases.spans),
            backward=backward,
            dropped=dropped,
            loss=loss,
            num_samples=num_samples,
            profiled=profiled,
            synchronised=synchronised,
            units=self.units.take_step(),
        )
        self._count(num_samples)
        self._step += 1
        return queued

    def _count(self, num_samples: int) -> None:
        self._samples[num_samples] += 1
        if self._gradients.num_passes > 0:
            self._passes[self._gradients.num_passes] += 1
        if self._gradients.strayed and not self._told_of_stray:
            self._told_of_stray = True
            if self._rank == 0:
                say(f"step {self._step}: {_STRAY}")
