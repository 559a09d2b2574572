"""The step of N ranks that share a sharded training, over draws: computation of the slowest, what collectives add, the update.

    T = spans of the slowest rank + lateness at each collective + collectives that nothing hides + the update of a shard

Lateness: what ranks wait for each other at every collective that blocks. Ranks side by side that met there have it in their
spans; else it is what they wait beyond being as slow as the slowest whole step, worked out from one rank's (lateness.py).

The update of a shard: from ranks side by side it was measured. From one rank's, whose optimizer had everything, the part that
moves bytes shrinks with the shards and the part by tensor does not. AdamW reads and writes seven words an element where a copy
moves two, so that part is 3.5 times the profile's own cold copy of all gradients, at most the whole; draws lie anywhere
between no and all of it.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from math import hypot

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.step.computation import alone_and_slowest, block_picks
from commprof.analysis.step.estimate import model_error, standard_normal
from commprof.analysis.strategies.engine.program import engine_program
from commprof.analysis.strategies.inputs import ShardedInputs
from commprof.analysis.strategies.lateness import waiting_s
from commprof.analysis.strategies.program import Program, program_of, samples_of
from commprof.analysis.strategies.schedule import Operation, Played, play
from commprof.commbench.records.sharding import ShardingTimeline

Floats = NDArray[np.float64]

DRAWS = 200
SHARDED_ERROR = 0.15  # of exposed communication: not yet seen on a grid of cells, so wider than DDP's
_UPDATE_WORDS = 3.5  # AdamW: gradient read; parameter and two moments read and written; a copy moves 2
_ENGINE_MOVES = 0.8  # at least, of an engine's work on its shard, which is one flat tensor: the rest is by call
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedSetting:
    """What is asked of a sharded step. `resharded`: units free their parameters between their passes, else they keep them
    (ZeRO-2). `prefetch`: the next unit is gathered ahead, where collectives do not block. `bandwidth` and `latency` are factors
    on every wire as it was measured."""

    resharded: bool = True
    prefetch: bool = True
    bandwidth: float = 1.0
    latency: float = 1.0


AS_MEASURED = ShardedSetting()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedDraws:
    """What a step is played from, over draws whose entry 0 is the prediction itself.

    `seconds` [draws, operations]: what each takes alone, `all_reduce_s` what follows a reduction among copies. `late_s`: what
    ranks wait before collectives, `pace` and `exposed`: factors on computation and on exposed communication [draws].
    """

    program: Program
    seconds: Floats
    all_reduce_s: Floats | None
    late_s: Floats
    pace: Floats
    exposed: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedEstimate:
    """Predicted steps [draws], entry 0 the prediction itself; `compute_s` of it computes, copies and waits for the slowest."""

    step_s: Floats
    compute_s: Floats
    played: Played

    @property
    def exposed_s(self) -> Floats:
        return self.step_s - self.compute_s


def estimate_sharded(inputs: ShardedInputs, setting: ShardedSetting = AS_MEASURED) -> ShardedEstimate:
    """Return the step of the inputs under a setting."""
    return estimate_drawn(inputs, setting, sharded_draws(inputs, setting))


def estimate_drawn(inputs: ShardedInputs, setting: ShardedSetting, drawn: ShardedDraws) -> ShardedEstimate:
    """Return the step that `sharded_draws` of the same setting lead to."""
    played = play(
        drawn.program.operations,
        drawn.seconds,
        blocking=inputs.blocking,
        prefetch=setting.prefetch,
        all_reduce_s=drawn.all_reduce_s,
    )
    compute_s = drawn.pace * (played.compute_s + drawn.late_s)
    step_s = compute_s + drawn.exposed * (played.end_s - played.compute_s)
    return ShardedEstimate(step_s=step_s, compute_s=compute_s, played=played)


def sharded_draws(inputs: ShardedInputs, setting: ShardedSetting = AS_MEASURED) -> ShardedDraws:
    """Return what every operation of the step takes under a setting, over draws."""
    program = _program(inputs, setting)
    samples_s, medians_s = _drawn_spans(inputs.timeline)
    rng = np.random.default_rng(_SEED)  # the same for every strategy: what they share does not tell them apart
    spans_s, slowest = _spans(inputs, medians_s, rng)
    seconds = _computing(program, spans_s)
    if program.updates is not None and inputs.timeline.num_shards != inputs.num_shards:
        seconds[:, program.updates] *= _update_share(inputs, program, spans_s, rng)
    seconds[:, program.by_shard] *= _shard_share(inputs, len(seconds), rng)[:, None]
    normal = standard_normal(len(seconds))
    all_reduce_s = _add_collectives(inputs, program, setting, seconds, normal[2])
    own = inputs.schedule_error
    pace, exposed = model_error(normal, inputs.drift, hypot(inputs.beside, own), max(SHARDED_ERROR, own))
    return ShardedDraws(
        program=program,
        seconds=seconds,
        all_reduce_s=all_reduce_s,
        late_s=_late_s(inputs, program, samples_s, slowest),
        pace=pace,
        exposed=exposed,
    )


def _program(inputs: ShardedInputs, setting: ShardedSetting) -> Program:
    if inputs.timeline.zero is not None:
        return engine_program(inputs.timeline, num_shards=inputs.num_shards)
    return program_of(inputs.timeline, num_shards=inputs.num_shards, resharded=setting.resharded)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slowest:
    """A step of one rank and of the slowest, and the slowest's over the sum of its spans' medians [draws]."""

    alone_s: Floats
    step_s: Floats
    stretch: Floats


@lru_cache(maxsize=8)  # strategies, ranks and settings ask for the same
def _drawn_spans(timeline: ShardingTimeline) -> tuple[Floats, Floats]:
    """Return every step's spans [steps, spans], and their medians over drawn steps [draws, spans]."""
    samples_s = samples_of(timeline)
    picks = block_picks(len(samples_s), np.random.default_rng(_SEED), DRAWS)
    medians_s: Floats = np.median(samples_s[picks], axis=1)
    return samples_s, medians_s


def _spans(inputs: ShardedInputs, medians_s: Floats, rng: np.random.Generator) -> tuple[Floats, _Slowest]:
    """Return the median seconds of every span of the slowest rank [draws, spans]."""
    pool = inputs.pool
    whole_s = pool.before_s + pool.backward_s + pool.update_s
    of_ranks = block_picks(whole_s.shape[1], rng, DRAWS)
    alone_s, slowest_s = alone_and_slowest(pool.kind, whole_s, of_ranks, inputs.world_size)
    stretch = slowest_s / medians_s.sum(axis=1)
    return stretch[:, None] * medians_s, _Slowest(alone_s=alone_s, step_s=slowest_s, stretch=stretch)


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


def _shard_share(inputs: ShardedInputs, count: int, rng: np.random.Generator) -> Floats:
    """Return the part of an engine's work on the profile's shard that this one's takes [draws]."""
    moving = np.ones(count)
    moving[1:] = rng.uniform(_ENGINE_MOVES, 1.0, size=count - 1)
    share: Floats = 1 - moving * (1 - inputs.timeline.num_shards / inputs.num_shards)
    return share


def _late_s(inputs: ShardedInputs, program: Program, samples_s: Floats, slowest: _Slowest) -> Floats:
    """Return what ranks wait before collectives beyond being as slow as the slowest whole step [draws]."""
    if inputs.world_size == 1 or not inputs.blocking or inputs.timeline.waits:
        return np.zeros(len(slowest.stretch))
    waiting = waiting_s(program, samples_s, num_shards=inputs.num_shards, world_size=inputs.world_size, at_once=inputs.at_once)
    late_s: Floats = np.maximum(0.0, slowest.stretch * waiting - (slowest.step_s - slowest.alone_s))
    return late_s


def _add_collectives(
    inputs: ShardedInputs, program: Program, setting: ShardedSetting, seconds: Floats, normal: Floats
) -> Floats | None:
    """Put what gathers and reductions take alone into `seconds`; return what follows each reduction among copies.

    `normal` [draws]: to which side, and how far, wires are off that were carried over from other numbers of ranks.
    """

    @cache  # most units are of one size
    def wire_s(what: str, num_bytes: int) -> Floats:
        return inputs.wires[what].seconds(num_bytes, normal, bandwidth=setting.bandwidth, latency=setting.latency)

    all_reduce_s = np.zeros_like(seconds) if "all_reduce" in inputs.wires else None
    for place, operation in enumerate(program.operations):
        what = wire_kind(inputs, operation)
        if what is None:
            continue
        num_bytes, count = message_bytes(inputs, operation), inputs.timeline.units[operation.unit or 0].num_messages
        if what in inputs.wires:
            seconds[:, place] = count * wire_s(what, num_bytes // count)
        if operation.what == "reduce" and all_reduce_s is not None:
            all_reduce_s[:, place] = wire_s("all_reduce", num_bytes // inputs.num_shards)
    return all_reduce_s


def message_bytes(inputs: ShardedInputs, operation: Operation) -> int:
    """Return the bytes of a unit's gather or reduction, of all shards together."""
    assert operation.unit is not None
    unit = inputs.timeline.units[operation.unit]
    return unit.reduced_bytes(inputs.num_shards) if operation.what == "reduce" else unit.gathered_bytes(inputs.num_shards)


def wire_kind(inputs: ShardedInputs, operation: Operation) -> str | None:
    """Return the kind of message that an operation sends, None of one that sends nothing."""
    if operation.what in ("gather", "ask"):
        return "gather"
    if operation.what != "reduce":
        return None
    assert operation.unit is not None
    return "reduce" if inputs.timeline.units[operation.unit].reduce_op == "reduce_scatter" else "reduce_whole"
