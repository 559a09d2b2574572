"""How many steps a run takes, and which of them are warm-up, measured, or under the profiler.

    | warm-up | measured ........ | profiler starts | traced |                         where nothing else is said
    | wait | profiler starts | traced | wait | profiler starts | traced | measured |    trace_wait and trace_repeat given

The traced steps come last by default, so that nothing the profiler leaves behind can slow a step that counts.
"""

from dataclasses import dataclass

from commprof.commbench.errors import BadInput
from commprof.train.config.types import ProfilingConfig, TrainConfig, TrainingConfig

_ENOUGH_TRACED = 12  # what `commprof trace` needs to find a rank that is late, and more than --against does
_FEWEST_TRACED = 3


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
    """Return the steps of the whole run; raise BadInput when its batches or its traces do not fit, or no step is measured."""
    training = config.training
    samples_per_part(training, world_size)
    steps = steps_per_epoch(num_articles, samples_per_rank(training, world_size), world_size) * training.epochs
    if training.max_steps is not None:
        steps = min(steps, training.max_steps)
    _check_windows(steps, config.profiling)
    _check_ranks(config.profiling, world_size)
    return steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWindow:
    """Steps in a row that the profiler touches; the trace holds those from `first_traced` on, the others start it."""

    touched: range
    first_traced: int


def trace_windows(num_steps: int, profiling: ProfilingConfig, first_step: int = 0) -> tuple[TraceWindow, ...]:
    """Return the windows of a run that begins, or goes on, at `first_step`.

    One that had begun before is cut: its first step left starts the profiler, and without a step after that it is dropped.
    """
    wait, end = profiling.trace_wait, _last_end(profiling, num_steps)
    offset = num_steps - end if wait is None else wait
    windows = []
    for start in range(offset, offset + end, _period(profiling, num_steps)):
        touched = range(max(start, first_step), start + profiling.trace_warmup + traced_steps(profiling, num_steps))
        first_traced = max(start + profiling.trace_warmup, touched.start + 1)
        if first_traced < touched.stop:
            windows.append(TraceWindow(touched=touched, first_traced=first_traced))
    return tuple(windows)


def traced_steps(profiling: ProfilingConfig, num_steps: int) -> int:
    """Return the steps of a window: where nothing is said 12, or what a third of the steps after warm-up allows, 3 at least."""
    if profiling.trace_steps is not None:
        return profiling.trace_steps
    share = (num_steps - profiling.warmup_steps) // (3 * profiling.trace_repeat)
    return min(_ENOUGH_TRACED, max(_FEWEST_TRACED, share))


def _period(profiling: ProfilingConfig, num_steps: int) -> int:
    return (profiling.trace_wait or 0) + profiling.trace_warmup + traced_steps(profiling, num_steps)


def _last_end(profiling: ProfilingConfig, num_steps: int) -> int:
    """Return how many steps all windows take, the waiting before each one included."""
    return profiling.trace_repeat * _period(profiling, num_steps) if traced_steps(profiling, num_steps) else 0


def _check_windows(num_steps: int, profiling: ProfilingConfig) -> None:
    """Raise BadInput where a window ends after the run, or no step is left that neither warms up nor meets the profiler."""
    end, warmup, wait = _last_end(profiling, num_steps), profiling.warmup_steps, profiling.trace_wait
    traced = traced_steps(profiling, num_steps)
    if end > num_steps and wait is not None:
        one = f"{wait} + {profiling.trace_warmup} + {traced}"
        raise BadInput(
            f"profiling.trace_wait, trace_warmup and trace_steps, {one} steps, {profiling.trace_repeat} times, need {end} "
            f"steps and the run has {num_steps}; lower them or run longer (training.max_steps, training.epochs)"
        )
    fitting = trace_windows(num_steps, profiling) if end <= num_steps else ()
    met = sum(len(range(max(warmup, window.touched.start), window.touched.stop)) for window in fitting)
    if end > num_steps or num_steps - warmup - met < 1:
        needed = (warmup + end if wait is None else max(warmup, end)) + 1
        raise BadInput(
            f"{num_steps} steps are too few: {warmup} warm up and {profiling.trace_repeat * traced} are traced; "
            f"run at least {needed} (training.max_steps, training.epochs) or lower profiling.warmup_steps or trace_steps"
        )


def _check_ranks(profiling: ProfilingConfig, world_size: int) -> None:
    if profiling.trace_ranks is not None and (largest := max(profiling.trace_ranks)) >= world_size:
        raise BadInput(f"profiling.trace_ranks names rank {largest}, the last one is {world_size - 1}; null traces all of them")
