"""How long do N ranks compute in a step, with nothing sent, and how long does the slowest of them?

Ranks that exchange gradients end each step together, so that every step takes what its slowest rank takes. Of N ranks whose
steps have the distribution F, the slowest has F^N, and its median lies where F = 0.5^(1/N): for 2 ranks at the 71st
percentile of all their steps, for 4 at the 84th. Ranks that share cores take turns instead: what one gains another loses, and
a step that they begin together they end together, after the mean of their times.

Times are arrays over draws: entry 0 is what was measured, the others are bootstrap draws of blocks of consecutive steps,
because a machine that is slow in one step is slow in the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.load import Run
from commbench.training_records import GradientTimeline, StepMeasurement

Floats = NDArray[np.float64]

_MAX_STEPS = 64  # of each rank, the last ones: bounds the work of a draw
_BLOCK = 4  # consecutive steps drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePool:
    """Steps that ranks took without communication [ranks, steps], seconds.

    `before_s`: data, forward, and the backward passes before the one that sends, all of which grow with the batch;
    `backward_s`: the pass that sends, with DDP's copies where they were measured; `update_s`: what is left, the optimizer.
    `slowdown` is assumed for ranks that would have to share cores, 1 where they were measured side by side.
    """

    before_s: Floats
    backward_s: Floats
    update_s: Floats
    measured_at_n: bool
    slowdown: float = 1.0
    turns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """A step of N ranks with nothing sent, seconds [draws]; `alone_s` is what one rank of them takes in the median.

    `copy_s` is the part of `backward_s` after the last gradient: buckets copied back into gradients.
    """

    before_s: Floats
    backward_s: Floats
    copy_s: Floats
    update_s: Floats
    alone_s: Floats

    @property
    def step_s(self) -> Floats:
        return self.before_s + self.backward_s + self.update_s


def pool_of(steps: Sequence[Sequence[StepMeasurement]], *, slowdown: float = 1.0, **facts: bool) -> ComputePool:
    """Collect the steps that count, rank by rank; `facts` are measured_at_n and turns."""
    kept = [[step for step in rank if step.counts][-_MAX_STEPS:] for rank in steps]
    shortest = min(len(rank) for rank in kept)
    assert shortest, "the caller offers runs that have steps beyond warm-up"
    kept = [rank[-shortest:] for rank in kept]
    update = slowdown * np.array([[step.optimizer_s for step in rank] for rank in kept])
    backward = slowdown * np.array([[step.exchange_s for step in rank] for rank in kept])
    whole = slowdown * np.array([[step.step_s for step in rank] for rank in kept])
    return ComputePool(before_s=whole - backward - update, backward_s=backward, update_s=update, slowdown=slowdown, **facts)


def draw_computation(
    pool: ComputePool, world_size: int, gradients: GradientTimeline, rng: np.random.Generator, count: int
) -> Computation:
    """Return the step of `world_size` ranks: as measured, then in `count` bootstrap draws."""
    picks = _block_picks(pool.backward_s.shape[1], rng, count)
    before, backward, update = (
        _over_ranks(part, pool.turns, picks) for part in (pool.before_s, pool.backward_s, pool.update_s)
    )
    whole = _over_ranks(pool.before_s + pool.backward_s + pool.update_s, pool.turns, picks)
    alone_s = np.median(whole, axis=1)
    slowest_s = alone_s if pool.turns else np.quantile(whole, 0.5 ** (1 / world_size), axis=1)
    medians = [np.median(part, axis=1) for part in (before, backward, update)]
    stretch = slowest_s / sum(medians)  # of the median parts, to the slowest rank's whole step
    before_s, backward_s, update_s = (stretch * part for part in medians)
    return Computation(
        before_s=before_s,
        backward_s=backward_s,
        copy_s=backward_s * copy_share(gradients),
        update_s=update_s,
        alone_s=alone_s,
    )


def copy_share(gradients: GradientTimeline) -> float:
    """Return the share of backward that lies after the last gradient."""
    return max(0.0, 1 - last_ready_s(gradients) / gradients.backward_s)


def last_ready_s(gradients: GradientTimeline) -> float:
    return max(parameter.ready_s for parameter in gradients.parameters)


def compute_only_s(run: Run) -> float:
    """Return T_compute(N), the step of the ranks of a compute-only run had they begun each step together."""
    if not run.info.oversubscribed:
        return run.median_step_s()
    pool = pool_of([steps for steps in run.steps.values() if any(step.counts for step in steps)], measured_at_n=True)
    return float(np.median(np.mean(pool.before_s + pool.backward_s + pool.update_s, axis=0)))


def _over_ranks(part_s: Floats, turns: bool, picks: NDArray[np.int64]) -> Floats:
    """Return [draws, samples]: the mean over ranks of each drawn step, or every rank's drawn steps side by side."""
    if turns:
        together: Floats = part_s.mean(axis=0)
        return together[picks]
    drawn = part_s[:, picks]  # [ranks, draws, steps]
    return np.moveaxis(drawn, 0, 1).reshape(len(picks), -1)


def _block_picks(num_steps: int, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return step numbers [1 + count, num_steps]: all in order, then blocks of neighbours, wrapping around."""
    num_blocks = -(-num_steps // _BLOCK)
    starts = rng.integers(num_steps, size=(count, num_blocks, 1))
    drawn = ((starts + np.arange(_BLOCK)) % num_steps).reshape(count, -1)[:, :num_steps]
    return np.vstack([np.arange(num_steps)[None, :], drawn])
