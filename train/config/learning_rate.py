"""The learning rate of every update, as a function of its number alone: nothing to save, nothing to restore.

    warm-up    rate (u + 1) / W                        u = 0 .. W-1, W = training.warmup_updates
    constant   rate                                    from W on
    cosine     rate (1 + cos(pi (u - W)/(D - W))) / 2  from W on, zero from D = training.decay_updates on

A run shorter than W ends while the rate still rises.
"""

import math

from commprof.train.config.types import TrainingConfig


def learning_rate(training: TrainingConfig, update: int, num_updates: int) -> float:
    """Return the learning rate of update `update` (from 0) in a run of `num_updates`."""
    if update < training.warmup_updates:
        return training.learning_rate * (update + 1) / training.warmup_updates
    if training.schedule == "constant":
        return training.learning_rate
    end = num_updates if training.decay_updates is None else training.decay_updates
    falling = end - training.warmup_updates
    share = min(1.0, (update - training.warmup_updates) / falling)
    return training.learning_rate * (1 + math.cos(math.pi * share)) / 2
