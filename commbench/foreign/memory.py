"""What does a rank of a script keep in memory beside parameters and gradients? Told of its first two recorded steps.

The optimizer has its state as the first one ends. In the second, counts are read where phases and units begin and end.
"""

import torch
from torch import nn

from commprof.commbench.foreign.root import kept_bytes
from commprof.commbench.recorder.sharded.held_bytes import HeldBytes
from commprof.commbench.recorder.steps import StepRecorder


class WatchedMemory:
    """Bytes on this rank, None for as long as they are not told, or where nothing tells them."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._held: HeldBytes | None = None
        self.optimizer_bytes: int | None = None
        self.activation_bytes: int | None = None
        self.peak_bytes: int | None = None

    def step_ended(self, recorder: StepRecorder, optimizer: torch.optim.Optimizer) -> None:
        """Take notice that a recorded step has ended, and tell the recorder of units what is known since."""
        if recorder.num_steps == 1:
            self.optimizer_bytes = kept_bytes(optimizer, self._model)
            recorder.phases.held = self._held = HeldBytes(self._model, recorder.units, next(self._model.parameters()).device)
        elif self._held is not None:
            self._held.end()
            self.activation_bytes = self._held.activation_bytes
            if self.optimizer_bytes is not None:
                self.peak_bytes = self._held.peak_bytes(self.optimizer_bytes)
            recorder.phases.held = self._held = None
        recorder.units.tell(
            optimizer_bytes=self.optimizer_bytes, activation_bytes=self.activation_bytes, peak_bytes=self.peak_bytes
        )
