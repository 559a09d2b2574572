"""What does the report's page need to play a sharded step by itself? Its operations, the messages, and some of the draws.

The script (sharded.js) is strategies/schedule.py over again. Operations go in as one letter each: `c` computes, `g` and
`G` gather before forward and backward, `r` reduces, `h` holds for the reduction before, `f` waits for all. A draw has what it
computes as one factor on the passes and the seconds after them, so that under blocking collectives its step is the model's own,
and on streams nearly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.report.explorer.draws import rounded, short
from commprof.analysis.runs.load import Run
from commprof.analysis.strategies.choose import sharded_too_disturbed, told_sharded_memory
from commprof.analysis.strategies.estimate import (
    ShardedDraws,
    ShardedSetting,
    estimate_drawn,
    message_bytes,
    sharded_draws,
)
from commprof.analysis.strategies.inputs import ShardedInputs, sharded_inputs
from commprof.analysis.strategies.measured import measured_runs
from commprof.analysis.strategies.results import Strategy
from commprof.commbench.errors import UnusableData

Floats = NDArray[np.float64]
Message = tuple[str, int]  # of a wire, so many bytes

SHARDED: Final[tuple[Strategy, ...]] = ("fsdp", "hsdp", "zero2")
_LETTERS = {"compute": "c", "reduce": "r", "hold": "h", "finish": "f"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedDraw:
    """One draw: factors on what the passes compute, on all computation and on exposed communication, seconds after the passes
    and of waiting before collectives, and each message's time over the measured one's."""

    passes: float
    after_s: float
    late_s: float
    pace: float
    exposed: float
    ratios: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedPlace:
    """A strategy at a world size: entry 0 of its draws, and some others.

    `operations`: a letter each. `compute_s` of each that computes, `units`, `messages` and `copies` (HSDP's all-reduces) of
    each gather and reduction: in their order, messages counted into `message_bytes`, `latency_s` and `rest_s`. `late_s` as in a
    draw. `disturbed`: the machine was, too much for an interval and to tell strategies apart. `side_by_side`: it computes as
    ranks side by side did, else as one rank. `memory_bytes` are None where a rank's are unknown, and more where not
    `memory_is_all`; `measured_step_s` is None where nobody ran it. `busbw_bytes_per_s` is that of its all-gather.
    """

    strategy: Strategy
    extrapolated: bool
    blocking: bool
    operations: str
    compute_s: tuple[float, ...]
    units: tuple[int, ...]
    messages: tuple[int, ...]
    copies: tuple[int, ...]
    message_bytes: tuple[int, ...]
    latency_s: tuple[float, ...]
    rest_s: tuple[float, ...]
    late_s: float
    busbw_bytes_per_s: float
    wire_latency_s: float
    memory_bytes: int | None
    memory_is_all: bool
    measured_step_s: float | None
    disturbed: bool
    side_by_side: bool
    draws: tuple[ShardedDraw, ...]


def sharded_places(runs: Sequence[Run], world_size: int, kept: Sequence[int], copies: int) -> tuple[ShardedPlace, ...]:
    """Return every strategy that shards and can be told at this world size, HSDP in so many copies; `kept` are the draws that
    are told of each, so that draws of the same number can be held against each other."""
    places = []
    for strategy in SHARDED:
        try:
            inputs = sharded_inputs(runs, world_size, copies if strategy == "hsdp" else 1)
        except UnusableData:
            continue  # the section on strategies says why
        run = measured_runs(runs).get((strategy, world_size, inputs.num_replicas, False))
        places.append(sharded_place(inputs, strategy, kept, None if run is None else run.median_step_s()))
    return tuple(places)


def sharded_place(
    inputs: ShardedInputs, strategy: Strategy, kept: Sequence[int], measured_step_s: float | None
) -> ShardedPlace:
    """Return what the page plays of one strategy."""
    setting = ShardedSetting(resharded=strategy != "zero2")
    drawn = sharded_draws(inputs, setting)
    own = _Messages(inputs, drawn)
    disturbed = sharded_too_disturbed(inputs, setting, estimate_drawn(inputs, setting, drawn))
    memory, _ = told_sharded_memory(inputs, setting)
    operations, compute_s = _merged(drawn)
    parts = [inputs.wires[what].parts_s(num_bytes) for what, num_bytes in own.messages]
    wire = inputs.wires.get("gather") or inputs.wires["all_reduce"]
    return ShardedPlace(
        strategy=strategy,
        extrapolated=inputs.extrapolated,
        blocking=inputs.blocking,
        operations=operations,
        compute_s=compute_s,
        units=own.units,
        messages=own.of_operations,
        copies=own.of_copies,
        message_bytes=tuple(num_bytes for _, num_bytes in own.messages),
        latency_s=tuple(latency_s for latency_s, _ in parts),
        rest_s=tuple(rest_s for _, rest_s in parts),
        late_s=float(drawn.late_s[0]),
        busbw_bytes_per_s=wire.cost.busbw_bytes_per_s,
        wire_latency_s=wire.cost.latency_s,
        memory_bytes=None if memory is None else memory.total,
        memory_is_all=memory is not None and memory.is_all,
        measured_step_s=measured_step_s,
        disturbed=disturbed is not None,
        side_by_side=inputs.pool.measured_at_n,
        draws=_draws(drawn, own, kept),
    )


def _merged(drawn: ShardedDraws) -> tuple[str, tuple[float, ...]]:
    """Return the operations' letters, and the seconds of those that compute, neighbours of these as one."""
    letters, compute_s = "", [0.0]
    for place, operation in enumerate(drawn.program.operations):
        own = _LETTERS.get(operation.what) or ("g" if operation.direction == "forward" else "G")
        if own == "c" and letters.endswith("c"):
            compute_s[-1] += float(drawn.seconds[0, place])
        else:
            letters += own
            compute_s += [float(drawn.seconds[0, place])] if own == "c" else []
    return letters, rounded(np.array(compute_s[1:]), digits=8)


class _Messages:
    """The distinct messages of a step, and which of them each gather, reduction and all-reduce among copies is."""

    def __init__(self, inputs: ShardedInputs, drawn: ShardedDraws) -> None:
        self.messages: list[Message] = []
        self.seconds: list[Floats] = []
        units, of_operations, of_copies = [], [], []
        for place, operation in enumerate(drawn.program.operations):
            if operation.what not in ("gather", "reduce"):
                continue
            assert operation.unit is not None
            units.append(operation.unit)
            num_bytes = message_bytes(inputs, operation)
            of_operations.append(self._number(inputs, operation.what, num_bytes, drawn.seconds[:, place]))
            if operation.what == "reduce" and drawn.all_reduce_s is not None:
                share = num_bytes // inputs.num_shards
                of_copies.append(self._number(inputs, "all_reduce", share, drawn.all_reduce_s[:, place]))
        self.units, self.of_operations, self.of_copies = tuple(units), tuple(of_operations), tuple(of_copies)

    def _number(self, inputs: ShardedInputs, what: str, num_bytes: int, seconds: Floats) -> int:
        """Return which message this is, -1 of a collective over one rank, which takes no time."""
        if what not in inputs.wires:
            return -1
        if (what, num_bytes) not in self.messages:
            self.messages.append((what, num_bytes))
            self.seconds.append(seconds)
        return self.messages.index((what, num_bytes))


def _draws(drawn: ShardedDraws, own: _Messages, kept: Sequence[int]) -> tuple[ShardedDraw, ...]:
    whats = [operation.what for operation in drawn.program.operations]
    computes = np.array([what == "compute" for what in whats])
    after = np.arange(len(whats)) > whats.index("finish")
    passes_s = drawn.seconds[:, computes & ~after].sum(axis=1)
    after_s = drawn.seconds[:, computes & after].sum(axis=1)
    return tuple(
        ShardedDraw(
            passes=short(passes_s[i] / passes_s[0]),
            after_s=short(after_s[i]),
            late_s=short(drawn.late_s[i]),
            pace=short(drawn.pace[i]),
            exposed=short(drawn.exposed[i]),
            ratios=rounded(np.array([seconds[i] / seconds[0] for seconds in own.seconds])),
        )
        for i in kept
    )
