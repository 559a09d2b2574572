"""What is known of one world size before it is tried, and steps simulated from it.

A step of N ranks is simulated many times, every rank drawing a step that it really took alone: a bucket leaves when the
slowest rank has it ready, and the step ends when the last bucket has landed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.cost import cost_s, fit_cost, ring_s
from analysis.ddp import NO_CONTENTION, Bucket, Contention, Timeline, assign_buckets, share_cores, simulate_step
from analysis.load import Run, check_combinable, check_one_origin, select
from analysis.results import CostModel, ScheduledBucket, ScheduledStep
from commbench.errors import UnusableData
from commbench.records import CollectiveMeasurement, Workload
from commbench.training_records import GradientTimeline, StepMeasurement

Floats = NDArray[np.float64]

_MAX_SIMULATED_STEPS = 60
_SENT_SHARE = {"fp16": 0.5, "bf16": 0.5}  # of a float32 gradient, by communication hook
_GLOO_WORKERS = 2  # ProcessGroupGloo::Options.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePool:
    """The steps that ranks took without communication: per rank, seconds outside and inside backward.

    Ranks that share cores take `turns`. Where each goes on by itself, one is fast while another waits for a core; a step that
    they begin together they also end together, after the mean of their times: the work of all over the cores.
    """

    outside_s: tuple[Floats, ...]
    backward_s: tuple[Floats, ...]
    measured_at_n: bool
    slowdown: float = 1.0  # assumed for ranks that would have to share cores; 1 where they were measured side by side
    turns: bool = False

    @property
    def num_steps(self) -> int:
        return min(_MAX_SIMULATED_STEPS, *(len(samples) for samples in self.backward_s))

    @property
    def median_step_s(self) -> float:
        steps = [outside + backward for outside, backward in zip(self.outside_s, self.backward_s, strict=True)]
        return together_s(steps) if self.turns else float(np.median(np.concatenate(steps)))


def together_s(steps_s: Sequence[Floats]) -> float:
    """Return the median over steps of the mean over ranks, for ranks that share cores; `steps_s` holds each rank's steps."""
    shortest = min(len(steps) for steps in steps_s)
    return float(np.median(np.mean([steps[:shortest] for steps in steps_s], axis=0)))


def compute_only_s(run: Run) -> float:
    """Return T_compute(N), the step of the ranks of a compute-only run had they begun each step together."""
    steps = [np.array([step.step_s for step in _counted(records)]) for records in run.steps.values()]
    return together_s(steps) if run.info.oversubscribed and min(map(len, steps)) else run.median_step_s()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that the simulator needs to know of one world size."""

    world_size: int
    pool: ComputePool
    buckets: tuple[Bucket, ...]
    backward_s: float
    cost: CostModel
    extrapolated: bool
    samples: tuple[CollectiveMeasurement, ...]
    workers: int
    contention: Contention
    delayed: bool = False  # all buckets are sent after backward
    contention_bytes: int | None = None  # the message size at which it was measured; None where it is worked out
    imported_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Simulated steps of one situation: each one's timeline and the moment its computation alone would have ended."""

    timelines: tuple[Timeline, ...]
    ready_s: tuple[tuple[float, ...], ...]
    compute_s: Floats

    @property
    def step_s(self) -> Floats:
        return np.array([timeline.end_s for timeline in self.timelines])


def situations(runs: Sequence[Run], world_sizes: Sequence[int]) -> list[Situation]:
    """Collect what is known of each world size; raise UnusableData or BadInput where it cannot be predicted."""
    check_combinable(runs)
    profile = profile_run(runs)
    assert profile.gradients is not None and profile.info.workload is not None
    costs = fit_costs(runs)
    if not costs:
        raise UnusableData("no bench run among those given; run commprof bench --nproc N and name its folder too")
    buckets = tuple(bucket_schedule(profile.gradients, profile.info.workload))
    return [_situation(runs, profile, costs, buckets, world_size) for world_size in world_sizes]


def profile_run(runs: Sequence[Run]) -> Run:
    """Return the single-rank training run with gradient times; raise UnusableData where there is none."""
    profiles = [run for run in select(runs, kind="train", world_size=1) if run.gradients is not None]
    if not profiles:
        raise UnusableData("no finished single-rank training run among those given; run commprof train CONFIG first")
    return profiles[0]


def fit_costs(runs: Sequence[Run]) -> dict[int, CostModel]:
    """Fit the all-reduce at every world size above one that was benched; several benches of one size are pooled."""
    benches = [run for run in select(runs, kind="bench") if run.world_size > 1 and run.all_reduces]
    check_one_origin(benches)
    return {
        world_size: fit_cost(_collectives(benches, world_size), [r.info.run_id for r in benches if r.world_size == world_size])
        for world_size in sorted({run.world_size for run in benches})
    }


def bucket_schedule(gradients: GradientTimeline, workload: Workload) -> list[Bucket]:
    """Return DDP's buckets for this model, whatever the run's own world size was, with the bytes that they send."""
    buckets = assign_buckets(gradients.parameters, workload.first_bucket_bytes, workload.bucket_cap_bytes)
    share = _SENT_SHARE.get(workload.communication_hook, 1.0)
    return [replace(bucket, num_bytes=int(share * bucket.num_bytes)) for bucket in buckets]


def simulate(situation: Situation, rng: np.random.Generator) -> Simulation:
    """Simulate as many steps as a measured run has, each rank drawing its own from the pool."""
    pool, count = situation.pool, situation.pool.num_steps
    draws = [rng.integers(len(samples), size=count) for samples in pool.backward_s]
    outside = np.array([samples[draw] for samples, draw in zip(pool.outside_s, draws, strict=True)])
    backward = np.array([samples[draw] for samples, draw in zip(pool.backward_s, draws, strict=True)])
    fractions = np.array([bucket.ready_s for bucket in situation.buckets]) / situation.backward_s
    # The slowest rank decides, or all of them together: shapes [ranks, steps, buckets] and [ranks, steps].
    over_ranks = np.mean if pool.turns else np.max
    ready = over_ranks(outside[:, :, None] + fractions * backward[:, :, None], axis=0)
    compute = over_ranks(outside + backward, axis=0)
    if situation.delayed:
        ready = np.broadcast_to(compute[:, None], ready.shape)
    transfer = [cost_s(situation.cost, bucket.num_bytes) for bucket in situation.buckets]
    timelines = tuple(
        simulate_step(ready[step].tolist(), float(compute[step]), transfer, situation.workers, situation.contention)
        for step in range(count)
    )
    return Simulation(timelines=timelines, ready_s=tuple(tuple(row) for row in ready.tolist()), compute_s=compute)


def median_schedule(situation: Situation) -> ScheduledStep:
    """Return the simulated step whose length is nearest the median, for people to look at."""
    simulation = simulate(situation, np.random.default_rng(0))
    middle = int(np.argmin(np.abs(simulation.step_s - np.median(simulation.step_s))))
    timeline = simulation.timelines[middle]
    backward_s = float(np.median(np.concatenate(situation.pool.backward_s)))
    return ScheduledStep(
        world_size=situation.world_size,
        backward_start_s=max(0.0, float(simulation.compute_s[middle]) - backward_s),
        compute_end_s=timeline.compute_end_s,
        step_s=timeline.end_s,
        buckets=tuple(
            ScheduledBucket(
                num_bytes=bucket.num_bytes,
                ready_s=simulation.ready_s[middle][index],
                start_s=timeline.start_s[index],
                done_s=timeline.done_s[index],
                last_parameter=bucket.last_parameter,
            )
            for index, bucket in enumerate(situation.buckets)
        ),
    )


def _situation(
    runs: Sequence[Run], profile: Run, costs: dict[int, CostModel], buckets: tuple[Bucket, ...], world_size: int
) -> Situation:
    assert profile.gradients is not None
    benches = select(runs, kind="bench")
    extrapolated = world_size not in costs
    nearest = min(costs, key=lambda n: abs(n - world_size))
    cost = _carry_cost(costs[nearest], world_size) if extrapolated else costs[world_size]
    hosts = next(run for run in benches if run.world_size == nearest).info
    compute_only = select(runs, kind="train", world_size=world_size, synchronised=False)
    info = compute_only[0].info if compute_only else profile.info
    ranks_per_machine = -(-world_size // (hosts.num_machines or hosts.num_nodes))
    contention, contention_bytes = NO_CONTENTION, None
    measured = _measured_contention(runs, world_size, info.threads_per_rank, buckets)
    if measured is not None:
        contention, contention_bytes = measured
    elif hosts.on_cpu:
        contention = share_cores(info.cores_per_node, ranks_per_machine, info.threads_per_rank, cost.comm_cores)
    return Situation(
        world_size=world_size,
        pool=_pool(compute_only, profile, world_size, ranks_per_machine if hosts.on_cpu else 0),
        buckets=buckets,
        backward_s=profile.gradients.backward_s,
        cost=cost,
        extrapolated=extrapolated,
        samples=() if extrapolated else tuple(_collectives(benches, world_size)),
        workers=_GLOO_WORKERS if hosts.on_cpu else 1,
        contention=contention,
        delayed=any(run.delayed for run in runs),
        contention_bytes=contention_bytes,
        imported_from=hosts.imported_from,
    )


def _measured_contention(
    runs: Sequence[Run], world_size: int, threads_per_rank: int, buckets: tuple[Bucket, ...]
) -> tuple[Contention, int] | None:
    """Return the slowdown measured with the message nearest the median bucket, and that message's size; None without any.

    Raises UnusableData where only ranks with another number of threads were measured: on hosts those contend otherwise.
    """
    contended = select(runs, kind="contention", world_size=world_size)
    alike = [m for run in contended for m in run.contention if m.threads_per_rank == threads_per_rank or not run.info.on_cpu]
    if contended and not alike:
        raise UnusableData(
            f"{contended[0].path} measured contention with {contended[0].info.threads_per_rank} threads a rank, the training "
            f"used {threads_per_rank}; measure again with OMP_NUM_THREADS={threads_per_rank}, or leave that run out"
        )
    if not alike:
        return None
    bucket_bytes = float(np.median([bucket.num_bytes for bucket in buckets]))
    nearest = min(alike, key=lambda m: abs(np.log(m.message_bytes / bucket_bytes)))
    # Below 1 is noise: nothing runs faster for company.
    compute_rate, comm_rate = 1 / max(1.0, nearest.compute_slowdown), 1 / max(1.0, nearest.comm_slowdown)
    return Contention(compute_rate=compute_rate, comm_rate=comm_rate), nearest.message_bytes


def _pool(compute_only: Sequence[Run], profile: Run, world_size: int, ranks_on_cores: int) -> ComputePool:
    """Collect the steps to draw from; one rank's own are stretched where `ranks_on_cores` of its kind lack cores."""
    slowdown = 1.0
    if compute_only:
        per_rank = [_counted(steps) for run in compute_only for steps in run.steps.values()]
    else:
        if profile.info.workload is not None and profile.info.workload.scaling == "strong":
            raise UnusableData(
                f"{profile.path} shares one batch out (strong scaling), and how long {world_size} ranks compute on a part of "
                f"it was not measured; add commprof train ... --nproc {world_size} distributed.synchronisation=compute_only"
            )
        per_rank = [_counted(profile.steps[0])] * world_size
        slowdown = max(1.0, ranks_on_cores * profile.info.threads_per_rank / profile.info.cores_per_node)
    per_rank = [steps for steps in per_rank if steps]
    return ComputePool(
        outside_s=tuple(slowdown * np.array([step.step_s - step.exchange_s for step in steps]) for steps in per_rank),
        backward_s=tuple(slowdown * np.array([step.exchange_s for step in steps]) for steps in per_rank),
        measured_at_n=bool(compute_only),
        slowdown=slowdown,
        turns=slowdown > 1 or any(run.info.oversubscribed for run in compute_only),
    )


def _carry_cost(cost: CostModel, world_size: int) -> CostModel:
    """Scale a measured curve to another world size by the ring's own ratio, size by size."""
    times = tuple(
        time * ring_s(cost, size, world_size) / ring_s(cost, size, cost.world_size)
        for size, time in zip(cost.message_bytes, cost.median_s, strict=True)
    )
    growth = ring_s(cost, 0, world_size) / cost.latency_s if cost.latency_s else 1.0
    busbw = cost.busbw_bytes_per_s
    return replace(
        cost,
        world_size=world_size,
        latency_s=cost.latency_s * growth,
        bandwidth_bytes_per_s=busbw * world_size / (2 * (world_size - 1)),
        median_s=times,
    )


def _collectives(benches: Sequence[Run], world_size: int) -> list[CollectiveMeasurement]:
    return [m for run in benches if run.world_size == world_size for m in run.all_reduces]


def _counted(steps: Sequence[StepMeasurement]) -> list[StepMeasurement]:
    return [step for step in steps if step.counts]
