"""One training step: a batch, its micro-batches forward and backward, one update of the weights.

loss = mean over micro-batches of their mean loss, so that A of them give the gradient of one large batch
DDP all-reduces during the last micro-batch's backward; the others only add to the gradients (no_sync)
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from commprof.train.config.types import TrainConfig
from commprof.train.text.batches import Batch
from commprof.train.trainee import Trainee


class Recorder(Protocol):
    """Who listens to a step: each phase is entered as often as the step comes to it."""

    def phase(self, name: Literal["data", "forward", "backward", "optimizer"]) -> AbstractContextManager[None]:
        """Time the block as a part of that phase."""

    def note_loss(self, loss: Tensor) -> None:
        """Remember the step's mean loss on this rank."""


def train_step(
    trainee: Trainee, stream: Iterator[Batch], recorder: Recorder, config: TrainConfig, *, learning_rate: float
) -> None:
    """Take one batch and one optimizer step."""
    num_parts = config.training.accumulation
    with recorder.phase("data"):
        tokens, labels = (part.to(trainee.device, non_blocking=True) for part in next(stream))
    losses = []
    for number, (part, wanted) in enumerate(zip(tokens.chunk(num_parts), labels.chunk(num_parts), strict=True), 1):
        with trainee.sending(number == num_parts):
            with recorder.phase("forward"), trainee.autocast():
                loss = functional.cross_entropy(trainee.model(part.long()), wanted) / num_parts
            with recorder.phase("backward"):
                trainee.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    with recorder.phase("optimizer"):
        _update(trainee, learning_rate, config.training.clip_norm)
    recorder.note_loss(torch.stack(losses).sum())


def _update(trainee: Trainee, learning_rate: float, clip_norm: float | None) -> None:
    """Change the weights by the gradients there are. A float16 step whose gradients overflowed is left out by the scaler."""
    for group in trainee.optimizer.param_groups:
        group["lr"] = learning_rate
    if clip_norm is not None:
        trainee.scaler.unscale_(trainee.optimizer)
        clip_grad_norm_(trainee.model.parameters(), clip_norm)
    trainee.scaler.step(trainee.optimizer)
    trainee.scaler.update()
    trainee.optimizer.zero_grad()
