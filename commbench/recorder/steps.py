"""StepRecorder: what each training step did with its time, and when each gradient was ready for the wire.

    with recorder.step():                        for batch in recorder.steps(batches):   # begins "data", then "forward"
        with recorder.phase("forward"):              loss = criterion(model(batch), ...)
            loss = criterion(model(batch), ...)      recorder.begin("backward")
        with recorder.phase("backward"):             loss.backward()
            loss.backward()                          recorder.begin("optimizer")
        ...                                          optimizer.step()

Phases go to `steps.rankNNNNN.jsonl`, one record a step; a phase entered several times in a step, as under gradient
accumulation, is their sum. Rank 0 also writes `gradients.json` (gradients.py). Nothing waits for the device before the
step's end. `own_loop.record_steps` makes the run folder for a loop of the user's own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, get_args

from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled
from torch.profiler import record_function

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.recorder.gradients import GradientRecorder
from commprof.commbench.recorder.own_work import OwnWork, say
from commprof.commbench.records.rundir import RecordWriter, write_document
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from commprof.commbench.timing import Clock

Phase = Literal["data", "forward", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = get_args(Phase)

_STRAY = (
    'gradients came outside of a backward phase, so nothing tells when each was ready; put recorder.begin("backward") before '
    "loss.backward()"
)

T = TypeVar("T")


class StepRecorder:
    """Records the steps of one rank into a run folder. Entering hooks the model, leaving takes every hook off again.

    Every rank of a DDP model must enter and leave. The first `warmup_steps` after `first_step` are marked as warm-up, also in
    a run that goes on: DDP lays its buckets out anew. `exchanges` is False where DDP's group holds this rank alone.
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
        own_work: OwnWork | None = None,
        compute_only: bool = False,
        accumulation: int = 1,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._clock = clock
        self._samples_per_rank = samples_per_rank
        self._accumulation = accumulation
        self._warmup_end = first_step + warmup_steps
        self._first_step = self._step = first_step
        self._own_work = own_work or OwnWork()
        self._gradients = GradientRecorder(model, rank, clock, self._own_work, alone=compute_only)
        self._spans: list[tuple[Phase, Any, Any]] = []
        self._under_way: tuple[Phase, Any, Any] | None = None
        self._in_step = self._told_of_stray = False
        self._exchanges = exchanges and not compute_only
        self._passes: Counter[int] = Counter()
        self._samples: Counter[int] = Counter()
        self._loss: Tensor | None = None
        self.last: StepMeasurement | None = None

    def __enter__(self) -> Self:
        self._gradients.attach()
        self._writer = RecordWriter(self._folder / f"steps.rank{self._rank:05d}.jsonl")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own_work.do_anyway(self._gradients.detach)
        self._writer.__exit__(kind, error, tb)
        self._own_work.do_anyway(self.write_timeline)

    @property
    def gradients(self) -> GradientRecorder:
        return self._gradients

    @property
    def num_steps(self) -> int:
        """Steps recorded so far."""
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
        return (*([_STRAY] if self._told_of_stray else []), *self._gradients.unseen())

    @contextmanager
    def step(self, num_samples: int | None = None, *, profiled: bool = False) -> Iterator[None]:
        """Time one step; its record is on disk when the step ends, and it has none where an exception ends it.

        `num_samples` is this rank's, by default what every step has. Steps that torch.profiler watches are marked as such.
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
        """End the step begun and write its record."""
        self._in_step = False
        self._own_work.do(self._close, num_samples, profiled)
        if self._own_work.ended:
            self._gradients.release()

    def abandon_step(self) -> None:
        """End the step begun, without a record."""
        if self._in_step:
            self._in_step = False
            self._own_work.do(self._leave_step)

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
            self._own_work.do(self._end_phase)

    def begin(self, name: Phase) -> None:
        """End the phase under way, if there is one, and begin another; raise BadInput outside of a step."""
        if name not in PHASES:
            raise BadInput(f"{name!r} is not a phase of a training step; use one of {', '.join(PHASES)}")
        if not self._in_step:
            raise BadInput(f"the phase {name!r} begins outside of a step; put it inside recorder.step() or recorder.steps()")
        self._own_work.do(self._turn_to, name)

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step's loss; it is read only after the step has ended on the device."""
        self._loss = loss.detach()

    def timeline(self) -> GradientTimeline:
        """Return medians over the steps that count so far."""
        return self._gradients.timeline()

    def write_timeline(self) -> None:
        """Write rank 0's gradient times as they are so far; raise RunFailed where the disk does not take them."""
        if self._rank != 0 or not self._gradients.has_samples:
            return
        path = self._folder / "gradients.json"
        try:
            write_document(path, self.timeline())
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}; make room, the steps are kept") from None

    def _open(self, first: Phase | None) -> None:
        self._under_way = None
        self._spans.clear()
        self._gradients.forget_step()
        self._loss = None
        whole: Any = record_function("step")
        whole.__enter__()
        self._range = whole
        self._start = self._clock.mark()
        if first is not None:
            self._begin_phase(first, self._start)

    def _close(self, num_samples: int | None, profiled: bool) -> None:
        profiled = profiled or _profiler_enabled()
        end = self._leave_step()
        self._clock.synchronize()
        self._note_step(self._clock.seconds(self._start, end), num_samples or self._samples_per_rank, profiled)

    def _leave_step(self) -> Any:  # noqa: ANN401  a clock's own token
        end = self._clock.mark()
        self._end_phase(end)
        self._range.__exit__(None, None, None)
        return end

    def _turn_to(self, name: Phase) -> None:
        """End a phase and begin another at one mark, so that phases that follow each other leave no time between them."""
        mark = self._clock.mark()
        self._end_phase(mark)
        self._begin_phase(name, mark)

    def _begin_phase(self, name: Phase, mark: Any) -> None:  # noqa: ANN401
        named: Any = record_function(name)
        named.__enter__()
        if name == "backward":
            self._gradients.begin(mark)
        self._under_way = name, mark, named

    def _end_phase(self, mark: Any = None) -> None:  # noqa: ANN401
        if self._under_way is None:
            return
        name, start, named = self._under_way
        self._under_way = None
        end = self._clock.mark() if mark is None else mark
        if name == "backward":
            self._gradients.end(end)
        self._spans.append((name, start, end))
        named.__exit__(None, None, None)

    def _note_step(self, step_s: float, num_samples: int, profiled: bool) -> None:
        phases = {f"{name}_s": sum(self._clock.seconds(a, b) for each, a, b in self._spans if each == name) for name in PHASES}
        record = StepMeasurement(
            step=self._step,
            **phases,
            step_s=step_s,
            num_samples=num_samples,
            loss=None if self._loss is None else float(self._loss),
            warmup=self._step < self._warmup_end,
            profiled=profiled,
            synchronised=self._exchanges and self._gradients.synchronised(),
            last_backward_s=self._gradients.backward_s(),
        )
        self._writer.append(record)
        self._samples[num_samples] += 1
        self.last = record
        if record.counts:
            self._gradients.keep()
        if self._gradients.num_passes > 0:
            self._passes[self._gradients.num_passes] += 1
        if self._gradients.strayed and not self._told_of_stray:
            self._told_of_stray = True
            if self._rank == 0:
                say(f"step {self._step}: {_STRAY}")
        self._step += 1
