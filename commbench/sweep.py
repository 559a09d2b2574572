"""How long does one collective take, alone, at each size?

Isolated timing: every iteration starts at a barrier and each rank times its own call. The slowest rank's time is what a
caller waits; the fastest rank came last out of the barrier, so its time is the transfer. The difference is waiting.
Ranks keep their samples to themselves while the clock runs and exchange them after the last iteration of a size.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from commbench.collectives import DTYPE, count_wrong, rank_input
from commbench.records import CollectiveMeasurement
from commbench.runtime import gather_values
from commbench.timing import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Sizes in bytes, both counts per size; `check` verifies the result at every size, outside the timed region."""

    sizes: Sequence[int]
    iterations: int
    warmup_iterations: int
    check: bool


def measure_all_reduce(
    options: SweepOptions, device: torch.device, clock: Clock
) -> Iterator[tuple[CollectiveMeasurement, CollectiveMeasurement]]:
    """Yield (out of place, in place) for each size, on every rank the same.

    torch.distributed reduces in place only, so out of place is what its callers do: copy, then reduce the copy.
    """
    for size in options.sizes:
        num_elements = max(1, size // DTYPE.itemsize)
        source = rank_input(dist.get_rank(), num_elements, device)
        target = torch.empty_like(source)
        num_wrong = count_wrong(target, dist.get_world_size()) if options.check else None

        def reduce_copy(source: torch.Tensor = source, target: torch.Tensor = target) -> None:
            target.copy_(source)
            dist.all_reduce(target)

        def reduce_in_place(target: torch.Tensor = target) -> None:
            # The values grow by the world size each time and may reach infinity; arithmetic takes as long on those.
            dist.all_reduce(target)

        out_of_place = _measure(reduce_copy, num_elements, False, num_wrong, options, device, clock)
        yield out_of_place, _measure(reduce_in_place, num_elements, True, num_wrong, options, device, clock)


def _measure(
    call: Callable[[], None],
    num_elements: int,
    in_place: bool,
    num_wrong: int | None,
    options: SweepOptions,
    device: torch.device,
    clock: Clock,
) -> CollectiveMeasurement:
    for _ in range(options.warmup_iterations):
        call()
    own_s, own_cpu_s = time_isolated(call, options.iterations, clock)
    per_rank = gather_values([*own_s, own_cpu_s], device)
    per_iteration = list(zip(*(row[:-1] for row in per_rank), strict=True))
    return CollectiveMeasurement(
        op="all_reduce",
        dtype=str(DTYPE).removeprefix("torch."),
        message_bytes=num_elements * DTYPE.itemsize,
        world_size=dist.get_world_size(),
        mode="isolated",
        in_place=in_place,
        warmup_iterations=options.warmup_iterations,
        slowest_rank_s=tuple(max(row) for row in per_iteration),
        fastest_rank_s=tuple(min(row) for row in per_iteration),
        timer=clock.name,
        num_wrong=num_wrong,
        cpu_s=sum(row[-1] for row in per_rank) / len(per_rank) if device.type == "cpu" else None,
    )


def time_isolated(call: Callable[[], None], iterations: int, clock: Clock) -> tuple[list[float], float]:
    """Return this rank's seconds of each call, every one after a barrier, and its mean CPU seconds per call."""
    marks = []
    cpu_s = 0.0
    for _ in range(iterations):
        dist.barrier()
        clock.synchronize()
        cpu_start_s = time.process_time()
        start = clock.mark()
        call()
        marks.append((start, clock.mark()))
        cpu_s += time.process_time() - cpu_start_s
    return [clock.seconds(start, end) for start, end in marks], cpu_s / iterations
