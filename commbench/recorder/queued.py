"""A step that was asked for and that the device may not have done yet: its marks, and what is known without the device."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from commprof.commbench.recorder.gradients import Backward
from commprof.commbench.recorder.phases import PHASES, Phase
from commprof.commbench.recorder.sharded.marks import Marks
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.timing import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedStep:
    """`read` is when its loss has reached the host; `dropped` are marks that nobody will ask for."""

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
    synchronised: bool
    units: Marks = field(default_factory=list)

    def measured(self, clock: Clock, *, warmup: bool) -> StepMeasurement:
        """Wait for the device to have done the step, and return its times."""
        seconds = clock.seconds
        seconds(self.start, self.read)  # everything before has happened then
        phases_s = dict.fromkeys(PHASES, 0.0)
        for name, start, end in self.spans:
            phases_s[name] += seconds(start, end)
        return StepMeasurement(
            step=self.step,
            data_s=phases_s["data"],
            forward_s=phases_s["forward"],
            backward_s=phases_s["backward"],
            optimizer_s=phases_s["optimizer"],
            step_s=seconds(self.start, self.end),
            num_samples=self.num_samples,
            loss=None if self.loss is None else float(self.loss),
            warmup=warmup,
            profiled=self.profiled,
            synchronised=self.synchronised,
            last_backward_s=None if self.backward is None else seconds(self.backward.start, self.backward.end),
            last_ready_s=self._last_ready_s(clock),
        )

    def _last_ready_s(self, clock: Clock) -> float | None:
        """Return when the pass that sends had its last gradient; marks are kept in the order in which they were set."""
        if self.backward is None or not self.backward.ready:
            return None
        return clock.seconds(self.backward.start, next(reversed(self.backward.ready.values())))

    @property
    def marks(self) -> list[Any]:
        """All marks, each once: where phases follow each other, one's end is the next one's begin."""
        of_phases = [mark for _, start, end in self.spans for mark in (start, end)]
        of_gradients = [] if self.backward is None else self.backward.marks
        of_units = [mark for _, mark in self.units]
        marks = [self.start, self.end, self.read, *of_phases, *self.dropped, *of_gradients, *of_units]
        return list({id(mark): mark for mark in marks}.values())


def on_its_way(loss: Tensor | None) -> Tensor | None:
    """Let a loss on a GPU be copied to the host once it is there; asking for its value now would wait for it.

    One that is spread over ranks is left as it is: only it knows how it is read.
    """
    if loss is None or loss.device.type == "cpu" or type(loss) is not Tensor:
        return loss
    host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
    return host.copy_(loss, non_blocking=True)
