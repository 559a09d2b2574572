"""How long does one collective take, at each size? When has a size been timed enough?

Calls are timed in chunks (timer.py). After each chunk all ranks hold the same samples and decide alike: whether the median
is known well enough, whether the size's share of the time is used up, whether somebody asked to stop, and which samples were
so far out that they are tried again. The first call of a size is timed apart: it pays for connections and page faults.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.plan import BenchPlan, Cell, Effort
from commprof.commbench.bench.timer import CallTimer, Chunk
from commprof.commbench.errors import OutOfMemory
from commprof.commbench.pace import share
from commprof.commbench.ranks.failures import out_of_memory, reason
from commprof.commbench.ranks.runtime import gather_values
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement, Remeasured
from commprof.commbench.spread import quantile, relative_half_width
from commprof.commbench.timing import Clock, host_wait
from commprof.commbench.units import format_bytes

_LEAST_SAMPLES = 3  # taken whatever they cost
_SETTLED_SAMPLES = 20  # fewer may agree by chance
_MOST_SAMPLES = 5_000
_CHUNK_SAMPLES = 500
_CHUNK_S = 1.0  # nobody who asks to stop waits longer, unless one call takes longer
_WARMUP_SHARE = 0.2  # of a cell's time
_BATCH_S = 0.05  # long against the one wait at a batch's end
_BATCH_CALLS = 20
_MOST_REMEASURED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all cells of a sweep share. `rotate_bytes` is the memory that the buffers go round (0: one buffer).

    `stop` is the signal that asked this rank to stop, 0 if none; `announce` is told what this rank does next, in words."""

    plan: BenchPlan
    device: torch.device
    clock: Clock
    rotate_bytes: int
    stop: Callable[[], int]
    announce: Callable[[str], None]
    arena: Arena
    start_s: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self.start_s


def measure(bench: Bench, cells: Sequence[tuple[int, Cell]]) -> Iterator[tuple[CollectiveMeasurement, int]]:
    """Yield the measurement of each size and cell, the same on every rank, and the signal after which all stop, or 0.

    Raises OutOfMemory on all ranks where one has no memory left for a size's buffers; on this rank alone where its memory ends
    later, inside the library or at the check.
    """
    weights = [share(size) for size, _ in cells]
    for done, (size, cell) in enumerate(cells):
        bench.announce(f"{bench.plan.op} of {format_bytes(size)}")
        collective, elapsed_s = allocate(bench, bench.arena, size, cell)
        left_s = max(0.0, bench.plan.effort.budget_s - elapsed_s)
        allowance_s = left_s * weights[done] / sum(weights[done:])
        with _own_memory(collective):
            measurement, stop = _measure_cell(bench, collective, cell, elapsed_s, allowance_s)
        del collective  # and its hold on the arena: the next size may need a larger one
        yield measurement, stop
        if stop:
            return


@contextmanager
def _own_memory(collective: Collective) -> Iterator[None]:
    """Name the size at which this rank's memory ended after its buffers had found room: NCCL takes some with its first call."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        size = collective.message_bytes
        raise OutOfMemory(collective.op, size, collective.rank, detail=reason(error), alone=True) from None


def allocate(bench: Bench, arena: Arena, size: int, cell: Cell) -> tuple[Collective, float]:
    """Make a collective with its buffers on every rank, or raise OutOfMemory on every rank; also say what time it is."""
    plan = bench.plan
    collective = Collective(plan.op, plan.dtype, plan.reduction, plan.root, size, cell.in_place, bench.device)
    # gloo works on two calls at a time, which must not be on one buffer.
    at_least = 2 if cell.mode == "pipelined" and bench.device.type == "cpu" else 1
    failed = False
    try:
        collective.allocate(arena, bench.rotate_bytes, at_least)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        failed = True
    rows = gather_values([float(failed), bench.elapsed()], bench.device)
    without = [rank for rank, (flag, _) in enumerate(rows) if flag]
    if without:
        raise OutOfMemory(plan.op, collective.message_bytes, without[0])
    return collective, rows[0][1]


def next_count(slowest_s: Sequence[float], effort: Effort, left_s: float, sample_s: float) -> int:
    """Return how many more samples to take before looking again; 0 when the size has been timed enough.

    `left_s` is the time that remains for it and `sample_s` what one sample costs, waiting included.
    """
    taken = len(slowest_s)
    if effort.iterations is not None:
        return min(effort.iterations - taken, _CHUNK_SAMPLES)
    if taken < _LEAST_SAMPLES:
        return _LEAST_SAMPLES - taken
    if taken >= _MOST_SAMPLES or (taken >= _SETTLED_SAMPLES and relative_half_width(slowest_s) <= effort.precision):
        return 0
    affordable = int(left_s / sample_s)
    brief = max(1, int(_CHUNK_S / sample_s))
    return max(0, min(affordable, brief, max(taken, _SETTLED_SAMPLES - taken), _CHUNK_SAMPLES, _MOST_SAMPLES - taken))


def far_out(slowest_s: Sequence[float]) -> list[int]:
    """Return the samples to try again: beyond the upper quartile by three interquartile ranges and half the median.

    Tukey's outer fence. The second condition keeps samples that differ by the clock's resolution from counting. At most
    the 16 slowest.
    """
    if len(slowest_s) < _LEAST_SAMPLES:
        return []
    lower, middle, upper = (quantile(slowest_s, q) for q in (0.25, 0.5, 0.75))
    limit = max(upper + 3 * (upper - lower), 1.5 * middle)
    worst_first = sorted(range(len(slowest_s)), key=lambda i: -slowest_s[i])
    return sorted(i for i in worst_first[:_MOST_REMEASURED] if slowest_s[i] > limit)


def _measure_cell(
    bench: Bench, collective: Collective, cell: Cell, start_s: float, allowance_s: float
) -> tuple[CollectiveMeasurement, int]:
    plan = bench.plan
    timer = CallTimer(collective, bench.device, bench.clock, bench.elapsed, bench.stop)
    cold = timer.isolated(1) if plan.warmup_iterations else None
    warmups = _affordable_warmups(plan, cold, allowance_s)
    warm = timer.isolated(warmups) if warmups else cold
    take, calls = _sampler(timer, plan, cell, quantile(warm.slowest_s, 0.5) if warm else _BATCH_S)
    samples = _sample(take, plan.effort, warm.elapsed_s if warm else start_s, start_s + allowance_s)
    outliers = [] if samples.stop else far_out(samples.slowest_s)
    measurement = CollectiveMeasurement(
        op=plan.op,
        dtype=plan.dtype,
        message_bytes=collective.message_bytes,
        world_size=collective.world_size,
        mode=cell.mode,
        in_place=cell.in_place,
        warmup_iterations=warmups + (cold is not None),
        slowest_rank_s=samples.slowest_s,
        fastest_rank_s=samples.fastest_s,
        timer=bench.clock.name,
        num_wrong=count_wrong(collective, bench.device) if plan.check else None,
        cpu_s=samples.cpu_s if bench.device.type == "cpu" else None,
        reduction=collective.reduction,
        root=plan.root if OPERATIONS[plan.op].rooted else None,
        calls_per_sample=calls,
        cuda_graph=plan.cuda_graph and cell.mode == "pipelined",
        hot=plan.hot,
        num_buffers=collective.num_buffers,
        cold_s=cold.slowest_s[0] if cold else None,
        remeasured=_again(take, outliers),
    )
    return measurement, samples.stop


def _sample(take: Callable[[int], Chunk], effort: Effort, before_s: float, end_s: float) -> Chunk:
    """Take chunk after chunk until there are enough, the time is up or a rank was asked to stop; return all as one."""
    chunks: list[Chunk] = []
    slowest_s: tuple[float, ...] = ()
    count = next_count(slowest_s, effort, end_s - before_s, 1.0)
    while count and not (chunks and chunks[-1].stop):
        chunk = take(count)
        chunks.append(chunk)
        slowest_s += chunk.slowest_s
        sample_s, before_s = (chunk.elapsed_s - before_s) / count, chunk.elapsed_s
        count = next_count(slowest_s, effort, end_s - chunk.elapsed_s, sample_s)
    return Chunk(
        slowest_s=slowest_s,
        fastest_s=tuple(seconds for chunk in chunks for seconds in chunk.fastest_s),
        cpu_s=sum(chunk.cpu_s * len(chunk.slowest_s) for chunk in chunks) / len(slowest_s),
        elapsed_s=before_s,
        stop=chunks[-1].stop,
    )


def _affordable_warmups(plan: BenchPlan, cold: Chunk | None, allowance_s: float) -> int:
    if cold is None:
        return 0
    wanted = plan.warmup_iterations - 1
    if plan.effort.iterations is not None:
        return wanted
    return min(wanted, int(_WARMUP_SHARE * allowance_s / cold.slowest_s[0]))


def _sampler(timer: CallTimer, plan: BenchPlan, cell: Cell, call_s: float) -> tuple[Callable[[int], Chunk], int]:
    """Return what takes samples of this cell's kind, and how many calls each of them holds."""
    if cell.mode == "isolated":
        return timer.isolated, 1
    calls = max(2, min(_BATCH_CALLS, int(_BATCH_S / call_s)))
    return lambda count: (timer.replayed if plan.cuda_graph else timer.pipelined)(count, calls), calls


def _again(take: Callable[[int], Chunk], outliers: Sequence[int]) -> tuple[Remeasured, ...]:
    if not outliers:
        return ()
    second = take(len(outliers))
    return tuple(
        Remeasured(iteration=iteration, slowest_rank_s=slowest_s, fastest_rank_s=fastest_s)
        for iteration, slowest_s, fastest_s in zip(outliers, second.slowest_s, second.fastest_s, strict=True)
    )


def count_wrong(collective: Collective, device: torch.device) -> int | None:
    """Return the wrong elements of a known input over all ranks; None where no exact result is known."""
    with host_wait:
        own = collective.count_wrong()
    per_rank = gather_values([-1.0 if own is None else float(own)], device)
    return None if own is None else int(sum(count for (count,) in per_rank))
