"""How many steps a run takes, and which of them are warm-up, measured, or under the profiler.

    | warm-up | measured ........ | profiler starts | traced |

The traced steps come last, so that nothing the profiler leaves behind can slow a step that counts.
"""

from commbench.errors import BadInput
from train.config import TrainConfig, TrainingConfig


def samples_per_rank(training: TrainingConfig, world_size: int) -> int:
    """Return the samples that each rank draws a step; raise BadInput where ranks cannot share the batch evenly."""
    if training.scaling == "weak":
        return training.batch_size
    samples, left_over = divmod(training.batch_size, world_size)
    if left_over:
        raise BadInput(
            f"training.batch_size={training.batch_size} is what all ranks share under training.scaling=strong, "
            f"and {world_size} ranks cannot share it evenly; use a multiple of {world_size}"
        )
    return samples


def samples_per_part(training: TrainingConfig, world_size: int) -> int:
    """Return the samples of one micro-batch; raise BadInput where a rank's share cannot be cut into equal ones."""
    share = samples_per_rank(training, world_size)
    samples, left_over = divmod(share, training.accumulation)
    if left_over or not samples:
        raise BadInput(
            f"training.accumulation={training.accumulation} cuts the {share} samples that each rank draws a step into unequal "
            f"parts; use a divisor of {share}"
        )
    return samples


def steps_per_epoch(num_articles: int, batch_size: int, world_size: int) -> int:
    """Return the full batches that every rank gets; raise BadInput when there is none."""
    steps = num_articles // world_size // batch_size
    if steps == 0:
        raise BadInput(
            f"{num_articles} training articles do not fill a batch of {batch_size} on each of {world_size} ranks; "
            "lower training.batch_size or take more articles"
        )
    return steps


def count_steps(num_articles: int, config: TrainConfig, world_size: int) -> int:
    """Return the steps of the whole run; raise BadInput where they, or their batches, cannot be had."""
    training, profiling = config.training, config.profiling
    samples_per_part(training, world_size)
    steps = steps_per_epoch(num_articles, samples_per_rank(training, world_size), world_size) * training.epochs
    if training.max_steps is not None:
        steps = min(steps, training.max_steps)
    if first_profiled_step(steps, profiling.trace_steps) <= profiling.warmup_steps:
        needed = profiling.warmup_steps + 1 + (profiling.trace_steps + 1 if profiling.trace_steps else 0)
        raise BadInput(
            f"{steps} steps are too few: {profiling.warmup_steps} warm up and {profiling.trace_steps} are traced; "
            f"run at least {needed} (training.max_steps, training.epochs) or lower profiling.warmup_steps"
        )
    return steps


def first_profiled_step(num_steps: int, trace_steps: int) -> int:
    """Return the first step the profiler touches, the one that starts it; `num_steps` when it touches none."""
    return num_steps - trace_steps - 1 if trace_steps else num_steps
