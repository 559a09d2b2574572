"""How long is a training step of one rank here? Tried: a few steps of the model itself, some seconds at most.

    python -m commprof.train.trial CONFIG.yaml [KEY=VALUE ...]      prints seconds

A step too long to be tried is tried with fewer samples and shorter sequences, and its passes are taken in proportion to their
floating-point operations (config/flops.py); the optimizer's part does not depend on them.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import torch
from torch.nn import functional

from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import rank_device, resolve_backend
from commprof.commbench.timing import device_clock
from commprof.train.config.flops import flops_per_token
from commprof.train.config.types import ModelConfig, TrainConfig, load_train_config
from commprof.train.text.dataset import NUM_CLASSES
from commprof.train.trainee import Trainee, build_trainee

_ALONE: Final = RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")
_STEPS: Final = 5
_ENOUGH_S: Final = 4.0
_MAX_FLOP: Final = 4e10  # of a tried step: about a second of one core
_SHORTEST: Final = 32  # tokens of a sequence


def trial_step_s(config: TrainConfig) -> float:
    """Return the seconds of one optimizer step of one rank, on the device that the configuration asks for."""
    trainee = build_trainee(config, rank_device(_ALONE, resolve_backend(config.distributed.backend)))
    num_parameters = sum(parameter.numel() for parameter in trainee.module.parameters())
    samples = config.training.batch_size
    tried, tried_samples = _affordable(config.model, samples, num_parameters)
    passes_s, update_s = _steps(trainee, tried, tried_samples)
    return passes_s * _flop(config.model, samples, num_parameters) / _flop(tried, tried_samples, num_parameters) + update_s


def _flop(model: ModelConfig, samples: int, num_parameters: int) -> float:
    return samples * model.sequence_length * flops_per_token(model, num_parameters)


def _affordable(model: ModelConfig, samples: int, num_parameters: int) -> tuple[ModelConfig, int]:
    """Return what of a step can be tried: fewer samples first, then shorter sequences."""
    samples = max(1, min(samples, int(_MAX_FLOP / _flop(model, 1, num_parameters))))
    while _flop(model, samples, num_parameters) > _MAX_FLOP and model.sequence_length >= 2 * _SHORTEST:
        model = replace(model, sequence_length=model.sequence_length // 2)
    return model, samples


def _steps(trainee: Trainee, model: ModelConfig, samples: int) -> tuple[float, float]:
    """Return the median seconds of forward and backward, and of the update; the first step warms up if others follow."""
    clock = device_clock(trainee.device)
    tokens = torch.randint(model.vocabulary, (samples, model.sequence_length), device=trainee.device)
    labels = torch.randint(NUM_CLASSES, (samples,), device=trainee.device)
    passes: list[float] = []
    updates: list[float] = []
    begin_s = time.monotonic()
    while not passes or (len(passes) < _STEPS and time.monotonic() - begin_s < _ENOUGH_S):
        marks = [clock.mark()]
        with trainee.autocast():
            loss = functional.cross_entropy(trainee.model(tokens), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        marks.append(clock.mark())
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()
        marks.append(clock.mark())
        passes.append(clock.seconds(marks[0], marks[1]))
        updates.append(clock.seconds(marks[1], marks[2]))
    return median(passes[1:] or passes), median(updates[1:] or updates)


def main(words: Sequence[str]) -> None:
    """Print the seconds of a step of the training that the words ask for."""
    sys.stdout.write(f"{trial_step_s(load_train_config(Path(words[0]), list(words[1:])))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
