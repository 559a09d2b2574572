"""The step of N ranks that share a sharded training, over draws: computation of the slowest, what collectives add, the update.

    T = spans of the slowest rank + lateness at each collective + collectives that nothing hides + the update of a shard

Lateness: ranks that each take a stretch between two collectives wait for the slowest at every one of them, not once a
step. Of N whose stretches have the distribution F the slowest lies where F = 0.5^(1/N); what these add up to beyond the
slowest whole step is waited in between. Not where ranks share cores: what one waits another computes.

The update of a shard: from ranks side by side it was measured. From one rank's, whose optimizer had everything, the part that
moves bytes shrinks with the shards and the part by tensor does not. AdamW reads and writes seven words an element where a copy
moves two, so that part is 3.5 times the profile's own cold copy of all gradients, at most the whole; draws lie anywhere
between no and all of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.step.computation import alone_and_slowest, block_picks
from commprof.analysis.step.estimate import UNTRIED_CARRIED_ERROR, model_error, standard_normal
from commprof.analysis.strategies.inputs import ShardedInputs
from commprof.analysis.strategies.program import Program, program_of, samples_of
from commprof.analysis.strategies.schedule import Played, play

Floats = NDArray[np.float64]

DRAWS = 200
SHARDED_ERROR = 0.15  # of exposed communication: not yet seen on a grid of cells, so wider than DDP's
_UPDATE_WORDS = 3.5  # AdamW: gradient read; parameter and two moments read and written; a copy moves 2
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedEstimate:
    """Predicted steps [draws], entry 0 the prediction itself; `compute_s` of it computes, copies and waits for the slowest."""

    step_s: Floats
    compute_s: Floats
    played: Played

    @property
    def exposed_s(self) -> Floats:
        return self.step_s - self.compute_s


def estimate_sharded(inputs: ShardedInputs, *, resharded: bool, prefetch: bool = True) -> ShardedEstimate:
    """Return the step with units that free their parameters between their passes (`resharded`), or keep them (ZeRO-2)."""
    program = program_of(inputs.timeline, num_shards=inputs.num_shards, resharded=resharded)
    samples_s = samples_of(inputs.timeline)
    rng = np.random.default_rng(_SEED)  # the same for every strategy: what they share does not tell them apart
    picks = block_picks(len(samples_s), rng, DRAWS)
    spans_s, stretch = _spans(inputs, samples_s, picks, rng)
    seconds = _computing(program, spans_s)
    if program.updates is not None and inputs.timeline.num_shards != inputs.num_shards:
        seconds[:, program.updates] *= _update_share(inputs, program, spans_s, rng)
    late_s = stretch * _lateness_s(program, samples_s, inputs)
    all_reduce_s = _add_collectives(inputs, program, seconds)
    played = play(program.operations, seconds, blocking=inputs.blocking, prefetch=prefetch, all_reduce_s=all_reduce_s)
    error = UNTRIED_CARRIED_ERROR if inputs.extrapolated else SHARDED_ERROR
    pace, exposed = model_error(standard_normal(len(seconds)), inputs.drift, 0.0, error)
    compute_s = pace * (played.compute_s + late_s)
    return ShardedEstimate(step_s=compute_s + exposed * (played.end_s - played.compute_s), compute_s=compute_s, played=played)


def _spans(
    inputs: ShardedInputs, samples_s: Floats, picks: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the median seconds of every span of the slowest rank [draws, spans], and by what they are stretched [draws]."""
    pool = inputs.pool
    whole_s = pool.before_s + pool.backward_s + pool.update_s
    of_ranks = block_picks(whole_s.shape[1], rng, DRAWS)
    _, slowest_s = alone_and_slowest(pool.kind, whole_s, of_ranks, inputs.world_size)
    medians = np.median(samples_s[picks], axis=1)
    stretch = slowest_s / medians.sum(axis=1)
    return stretch[:, None] * medians, stretch


def _computing(program: Program, spans_s: Floats) -> Floats:
    """Return what each operation computes [draws, operations], 0 of those that do not."""
    place, share = np.array(program.span), np.array(program.share)
    computing: Floats = np.where(place >= 0, spans_s[:, np.maximum(place, 0)] * share, 0.0)
    return computing


def _update_share(inputs: ShardedInputs, program: Program, spans_s: Floats, rng: np.random.Generator) -> Floats:
    """Return the part of the whole update that a shard's takes [draws]."""
    assert program.updates is not None
    update_s = spans_s[:, program.span[program.updates]]
    copies = [place for place, span in enumerate(inputs.timeline.spans) if span.until == "reduced"]
    moved_s = _UPDATE_WORDS * spans_s[:, copies].sum(axis=1)
    moving = np.minimum(1.0, moved_s / np.maximum(update_s, 1e-12))
    moving[1:] = rng.uniform(size=len(moving) - 1)
    share: Floats = 1 - moving * (1 - 1 / inputs.num_shards)
    return share


def _lateness_s(program: Program, samples_s: Floats, inputs: ShardedInputs) -> float:
    """Return what ranks wait for each other at the collectives of a step, beyond being as slow as the slowest whole step."""
    if inputs.world_size == 1 or inputs.shares_cores:
        return 0.0
    level = 0.5 ** (1 / inputs.world_size)
    stretches_s = [stretch for stretch in _stretches(program, samples_s) if stretch.any()]
    late = [float(np.quantile(stretch, level) - np.median(stretch)) for stretch in stretches_s]
    whole_s = samples_s.sum(axis=1)
    return max(0.0, sum(late) - float(np.quantile(whole_s, level) - np.median(whole_s)))


def _stretches(program: Program, samples_s: Floats) -> list[Floats]:
    """Return the seconds between collectives in every step [steps], one array a stretch."""
    stretches = [np.zeros(len(samples_s))]
    for operation, span, share in zip(program.operations, program.span, program.share, strict=True):
        if operation.what in ("gather", "reduce"):
            stretches.append(np.zeros(len(samples_s)))
        elif span >= 0:
            stretches[-1] = stretches[-1] + share * samples_s[:, span]
    return stretches


def _add_collectives(inputs: ShardedInputs, program: Program, seconds: Floats) -> Floats | None:
    """Put what gathers and reductions take alone into `seconds`; return what follows each reduction among copies."""
    all_reduce_s = np.zeros_like(seconds) if "all_reduce" in inputs.wires else None
    for place, operation in enumerate(program.operations):
        if operation.what not in ("gather", "reduce"):
            continue
        assert operation.unit is not None
        unit = inputs.timeline.units[operation.unit]
        num_bytes = unit.gather_bytes if operation.what == "gather" else unit.reduce_bytes
        if operation.what in inputs.wires:
            seconds[:, place] = inputs.wires[operation.what].seconds(num_bytes)
        if operation.what == "reduce" and all_reduce_s is not None:
            all_reduce_s[:, place] = inputs.wires["all_reduce"].seconds(num_bytes // inputs.num_shards)
    return all_reduce_s
