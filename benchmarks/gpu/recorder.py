"""What does recording cost? A bare loop, the same with a wait for the device after each step, the same recorded, in turns."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from commprof.commbench.recorder.phases import Phase
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.timing import device_clock
from commprof.train.config.types import load_train_config
from commprof.train.model import TextClassifier

_CLASSES = 4
_ROUNDS = 5

PhaseOf = Callable[[Phase], AbstractContextManager[None]]


class Loop:
    """A training loop of one model, as anybody would write it."""

    def __init__(self, name: str, batch: int, device: torch.device) -> None:
        config = load_train_config(Path("configs", f"{name}.yaml"))
        self.device = device
        self.model = TextClassifier(config.model, _CLASSES).to(device)
        self._optimizer = torch.optim.AdamW(self.model.parameters())
        tokens = torch.randint(2, config.model.vocabulary, (batch, config.model.sequence_length))
        self._tokens = tokens.pin_memory() if device.type == "cuda" else tokens
        self._labels = torch.arange(batch) % _CLASSES

    def step(self, phase: PhaseOf) -> torch.Tensor:
        with phase("data"):
            tokens = self._tokens.to(self.device, non_blocking=True)
            labels = self._labels.to(self.device, non_blocking=True)
        with phase("forward"), torch.autocast(self.device.type, torch.bfloat16):
            loss = cross_entropy(self.model(tokens), labels)
        with phase("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        with phase("optimizer"):
            self._optimizer.step()
            self._optimizer.zero_grad()
        return loss

    def synchronize(self) -> None:
        device_clock(self.device).synchronize()


def bare_s(loop: Loop, num_steps: int, *, waits: bool) -> float:
    loop.synchronize()
    start_s = time.perf_counter()
    for _ in range(num_steps):
        loop.step(lambda name: nullcontext())
        if waits:
            loop.synchronize()
    loop.synchronize()
    return (time.perf_counter() - start_s) / num_steps


def recorded_s(loop: Loop, num_steps: int) -> tuple[float, float]:
    """Return the wall time of a recorded step, and the median that the recorder itself writes down."""
    own: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        clock = device_clock(loop.device)
        recorder = StepRecorder(loop.model, folder=Path(folder), rank=0, clock=clock, samples_per_rank=1, warmup_steps=0)
        with recorder:
            loop.synchronize()
            start_s = time.perf_counter()
            for _ in range(num_steps):
                with recorder.step():
                    recorder.note_loss(loop.step(recorder.phase))
                own += [recorder.last.step_s] if recorder.last is not None else []
            loop.synchronize()
            return (time.perf_counter() - start_s) / num_steps, median(own)


def main(kind: str) -> None:
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    sizes = (("small", 32, 100), ("large", 32, 60), ("gpt-124m", 32, 15)) if kind == "cuda" else (("small", 2, 3),)
    for name, batch, num_steps in sizes:
        loop = Loop(name, batch, device)
        bare_s(loop, 3, waits=True)
        turns = [
            (bare_s(loop, num_steps, waits=False), bare_s(loop, num_steps, waits=True), *recorded_s(loop, num_steps))
            for _ in range(_ROUNDS if kind == "cuda" else 1)
        ]
        bare, waiting, recorded, written = (median(column) for column in zip(*turns, strict=True))
        over = [f"{each * 1e3:.3f} ms ({each / bare - 1:+.1%})" for each in (waiting, recorded, written)]
        sys.stdout.write(
            f"{name}: bare {bare * 1e3:.3f} ms, a wait a step {over[0]}, recorded {over[1]}, as written {over[2]}\n"
        )


if __name__ == "__main__":
    main(sys.argv[1])
