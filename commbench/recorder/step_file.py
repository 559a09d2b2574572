"""Steps on their way to the disk: each is read once its device has done it, and adds to what is kept of its gradients."""

from pathlib import Path
from types import TracebackType

from commprof.commbench.recorder.gradients import GradientRecorder
from commprof.commbench.recorder.queued import QueuedStep
from commprof.commbench.recorder.sharded.marks import UnitRecorder
from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.records.training import StepMeasurement, gradients_file
from commprof.commbench.timing import Clock


class StepFile:
    """`queued` is a step that has been asked for and not read yet, `last` the one that was read last; `warmup_end` the first
    step that does not warm up."""

    def __init__(self, clock: Clock, warmup_end: int, gradients: GradientRecorder, units: UnitRecorder) -> None:
        self._clock, self._warmup_end = clock, warmup_end
        self._gradients, self._units = gradients, units
        self.queued: QueuedStep | None = None
        self.last: StepMeasurement | None = None
        self._is_anew = False

    def open(self, folder: Path, rank: int) -> None:
        self._gradients_path = folder / gradients_file(rank)
        self._writer = RecordWriter(folder / f"steps.rank{rank:05d}.jsonl")

    def close(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, tb: TracebackType | None = None
    ) -> None:
        self._writer.__exit__(kind, error, tb)

    def put(self, step: QueuedStep) -> None:
        """Take a step that has ended for the host, and write down the one before; this one too if its device has done it.

        The step from which ranks that sent nothing send is the first of another training: it and those before are let go.
        """
        if self._units.sends_again and not self._is_anew:
            self._start_anew()
            return
        self.read()
        self.queued = step
        if not self._clock.runs_behind:
            self.read()

    def read(self) -> None:
        """Wait for the step that is queued, if there is one, and write it down."""
        queued, self.queued = self.queued, None
        if queued is None:
            return
        record = queued.measured(self._clock, warmup=queued.step < self._warmup_end)
        self._writer.append(record)
        self.last = record
        if record.counts:
            self._gradients.keep(queued.backward)
            self._units.keep(queued.start, queued.units)
        if self._clock.runs_behind:  # marks of others are numbers, and gathering them takes as long as writing them down
            self._clock.release(queued.marks)

    def _start_anew(self) -> None:
        """Throw away all steps so far, on the disk too."""
        self._is_anew = True
        self.queued = self.last = None
        self._writer.clear()
        self._gradients.forget_steps()
        self._gradients_path.unlink(missing_ok=True)

    def drop_unless_done(self) -> None:
        """Forget a step whose device has not done it: after a failure it may never be."""
        if self.queued is not None and not self._is_done(self.queued):
            self.queued = None

    def _is_done(self, queued: QueuedStep) -> bool:
        try:
            return self._clock.happened(queued.read)
        except RuntimeError:  # the device itself has failed
            return False
