"""How long do N ranks compute in a step, with nothing sent, and how long does the slowest of them?

Ranks that exchange gradients end each step together, so that every step takes what its slowest rank takes. A compute-only
run whose ranks begin each step together has measured it: the median over steps of the slowest rank's. Without one, of N ranks
whose steps have the distribution F, the slowest has F^N, and its median lies where F = 0.5^(1/N): for 2 ranks at the 71st
percentile of their steps, for 4 at the 84th. Ranks that share cores and go on by themselves take turns: what one gains
another loses, and a step that they began together they would end together, after the mean of their times.

Times are arrays over draws: entry 0 is what was measured, the others are bootstrap draws of blocks of consecutive steps,
because a machine that is slow in one step is slow in the next.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from commprof.commbench.records.training import GradientTimeline

Floats = NDArray[np.float64]

_BLOCK = 4  # consecutive steps drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePool:
    """Steps that ranks took without communication [ranks, steps], seconds.

    `before_s`: data, forward, and the backward passes before the one that sends, all of which grow with the batch;
    `backward_s`: the pass that sends, with DDP's copies where they were measured; `update_s`: what is left, the optimizer.
    `slowdown` is assumed for ranks that would have to share cores, 1 where they were measured side by side; `kind` is what
    the slowest rank of a step is taken from.
    """

    before_s: Floats
    backward_s: Floats
    update_s: Floats
    kind: Literal["together", "turns", "independent"]
    measured_at_n: bool
    slowdown: float = 1.0


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


def draw_computation(
    pool: ComputePool, world_size: int, gradients: GradientTimeline, rng: np.random.Generator, count: int
) -> Computation:
    """Return the step of `world_size` ranks: as measured, then in `count` bootstrap draws."""
    picks = block_picks(pool.backward_s.shape[1], rng, count)
    parts = [np.median(_side_by_side(part, picks), axis=1) for part in (pool.before_s, pool.backward_s, pool.update_s)]
    whole_s = pool.before_s + pool.backward_s + pool.update_s
    alone_s, slowest_s = alone_and_slowest(pool.kind, whole_s, picks, world_size)
    stretch = slowest_s / sum(parts)  # of the median parts, to the slowest rank's whole step
    before_s, backward_s, update_s = (stretch * part for part in parts)
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


def slowest_step_s(pool: ComputePool, world_size: int) -> float:
    """Return the median step of the slowest of `world_size` ranks, had they begun each step together."""
    whole_s = pool.before_s + pool.backward_s + pool.update_s
    _, slowest_s = alone_and_slowest(pool.kind, whole_s, np.arange(whole_s.shape[1])[None, :], world_size)
    return float(slowest_s[0])


def alone_and_slowest(kind: str, whole_s: Floats, picks: NDArray[np.int64], world_size: int) -> tuple[Floats, Floats]:
    """Return the median step of a rank and of the slowest of `world_size` [draws]; `whole_s` [ranks, steps]."""
    if kind == "turns":
        mean_s = np.median(whole_s.mean(axis=0)[picks], axis=1)
        return mean_s, mean_s
    drawn = _side_by_side(whole_s, picks)
    alone_s = np.median(drawn, axis=1)
    if kind == "together":
        return alone_s, np.median(whole_s.max(axis=0)[picks], axis=1)
    return alone_s, np.quantile(drawn, 0.5 ** (1 / world_size), axis=1)


def _side_by_side(part_s: Floats, picks: NDArray[np.int64]) -> Floats:
    """Return every rank's drawn steps [draws, ranks * steps] from [ranks, steps]."""
    return np.moveaxis(part_s[:, picks], 0, 1).reshape(len(picks), -1)


def block_picks(num_steps: int, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return step numbers [1 + count, num_steps]: all in order, then blocks of neighbours, wrapping around."""
    num_blocks = -(-num_steps // _BLOCK)
    starts = rng.integers(num_steps, size=(count, num_blocks, 1))
    drawn = ((starts + np.arange(_BLOCK)) % num_steps).reshape(count, -1)[:, :num_steps]
    return np.vstack([np.arange(num_steps)[None, :], drawn])
