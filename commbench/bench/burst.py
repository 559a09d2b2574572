"""How long does DDP's series of buckets take when it is launched at once, as at the end of backward?

All buckets are launched in order without waiting and then waited for in order, as DDP's reducer does. A bucket has landed when
the wait for it, and for all before it, is over.
"""

from dataclasses import replace

from commprof.commbench.bench.collectives import Arena, Collective
from commprof.commbench.bench.plan import Cell
from commprof.commbench.bench.sweep import Bench, allocate, count_wrong, next_count
from commprof.commbench.ranks.runtime import barrier, gather_values
from commprof.commbench.records.types import BurstMeasurement
from commprof.commbench.timing import host_wait

_TIME_SHARE = 0.2  # of the sweep's time, beside it
_CELL = Cell(mode="isolated", in_place=True)  # as to buffers: one for each bucket


class Burst:
    """The buckets and what is known of them so far: samples [iteration][bucket] in seconds after the first launch."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        # Only one call of each bucket is ever under way: together they go round as much memory as DDP's own buckets do.
        once = replace(bench, rotate_bytes=0)
        allocated = [allocate(once, Arena(bench.device), size, _CELL) for size in bench.plan.bucket_bytes]
        self.buckets: list[Collective] = [collective for collective, _ in allocated]
        self.done_s: list[tuple[float, ...]] = []
        self.fastest_s: list[float] = []
        self.elapsed_s = allocated[-1][1]
        self.stop = 0

    def shoot(self) -> None:
        """Launch and await all buckets once and share what every rank saw."""
        own_s = self._time()
        rows = gather_values([self.bench.elapsed(), float(self.bench.stop()), *own_s], self.bench.device)
        self.elapsed_s = rows[0][0]
        self.stop = int(max(row[1] for row in rows))
        self.done_s.append(tuple(max(bucket) for bucket in zip(*(row[2:] for row in rows), strict=True)))
        self.fastest_s.append(min(row[-1] for row in rows))

    def _time(self) -> list[float]:
        clock = self.bench.clock
        clock.prepare(1 + len(self.buckets))
        barrier()
        clock.synchronize()
        with host_wait:  # launches wait as well, once the device's queue is full
            start = clock.mark()
            launched = [bucket.issue(0) for bucket in self.buckets]
            marks = []
            for works in launched:
                for work in works:
                    work.wait()
                marks.append(clock.mark())
        own_s = [clock.seconds(start, mark) for mark in marks]
        clock.release([start, *marks])
        return own_s


def measure_burst(bench: Bench) -> tuple[BurstMeasurement, int]:
    """Time the plan's buckets, burst after burst; also return the signal after which all stop, or 0.

    Raises OutOfMemory on all ranks where one has no memory left.
    """
    plan = bench.plan
    bench.announce(f"a burst of {len(plan.bucket_bytes)} buckets")
    burst = Burst(bench)
    for _ in range(plan.warmup_iterations):
        burst.shoot()
    burst.done_s.clear()
    burst.fastest_s.clear()
    start_s, limit_s = burst.elapsed_s, _TIME_SHARE * plan.effort.budget_s
    count = 1
    while count and not (burst.stop and burst.done_s):
        burst.shoot()
        taken_s = burst.elapsed_s - start_s
        totals_s = [done[-1] for done in burst.done_s]
        count = next_count(totals_s, plan.effort, limit_s - taken_s, taken_s / len(totals_s))
    wrong = [count_wrong(bucket, bench.device) for bucket in burst.buckets] if plan.check else []
    measurement = BurstMeasurement(
        op=plan.op,
        dtype=plan.dtype,
        world_size=burst.buckets[0].world_size,
        bucket_bytes=tuple(bucket.message_bytes for bucket in burst.buckets),
        source=plan.bucket_source,
        warmup_iterations=plan.warmup_iterations,
        slowest_rank_s=tuple(done[-1] for done in burst.done_s),
        fastest_rank_s=tuple(burst.fastest_s),
        done_s=tuple(burst.done_s),
        timer=bench.clock.name,
        num_wrong=sum(count or 0 for count in wrong) if wrong else None,
    )
    return measurement, burst.stop
