"""What is known of one world size before it is tried: how fast its ranks compute, what the wire costs, how the two disturb.

Computation: from a compute-only run of N ranks where there is one, with the copies into and out of DDP's buckets; else one
rank's own steps, or those of traced ranks. Wire: the all-reduce benched at N, or carried over from another size.
Contention: as measured at N, else on hosts worked out from their cores; in traces of ranks that sent it is there already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.carry import carry_cost
from analysis.computation import Computation, ComputePool, draw_computation, pool_of
from analysis.cost import fit_cost, resampled_medians
from analysis.ddp import NO_CONTENTION, Bucket, Contention, assign_buckets, share_cores
from analysis.drift import drift_of
from analysis.load import Run, check_combinable, check_one_origin, select
from analysis.results import CostModel
from commbench.errors import UnusableData
from commbench.records import CollectiveMeasurement, Workload
from commbench.training_records import GradientTimeline, ParameterTiming

Floats = NDArray[np.float64]

DRAWS = 200
_SENT_SHARE = {"none": 1.0, "fp16": 0.5, "bf16": 0.5}  # of a float32 gradient, by communication hook
_GLOO_WORKERS = 2  # ProcessGroupGloo::Options.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a prediction for one world size rests on.

    `imported_from` names the log that the wire is of, `traced_from` the traces of `traced_ranks` ranks that the computation is.
    `cost_ratios` [1 + draws, sizes] are bootstrapped medians over the measured ones at `cost.message_bytes`, the first row 1.
    `contention_bytes` is the message size at which contention was measured, None where it is worked out. `drift`: drift.py.
    """

    world_size: int
    workload: Workload
    gradients: GradientTimeline
    computation: Computation
    measured_at_n: bool
    slowdown: float
    cost: CostModel
    cost_ratios: Floats
    extrapolated: bool
    workers: int
    contention: Contention
    contention_bytes: int | None = None
    delayed: bool = False
    imported_from: str | None = None
    traced_from: str | None = None
    traced_ranks: int = 0
    drift: float = 0.0

    @property
    def sent_share(self) -> float:
        """Bytes sent per byte of gradient."""
        return _SENT_SHARE[self.workload.communication_hook]

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """DDP's buckets as configured, whatever the profile's own world size was."""
        work = self.workload
        return buckets_of(self.gradients.parameters, work.first_bucket_bytes, work.bucket_cap_bytes)

    @property
    def alone_s(self) -> float:
        """One rank's median step beside the others, nothing sent."""
        return float(self.computation.alone_s[0])


def situations(runs: Sequence[Run], world_sizes: Sequence[int], *, beside: Sequence[Run] = ()) -> list[Situation]:
    """Collect what is known of each world size; raise UnusableData or BadInput where it cannot be predicted.

    `beside` are other runs of the same machine: they tell how much its pace drifts, and nothing else is taken from them.
    """
    check_combinable(runs)
    profile = profile_run(runs)
    assert profile.gradients is not None and profile.info.workload is not None
    hook = profile.info.workload.communication_hook
    if hook not in _SENT_SHARE:
        raise UnusableData(
            f"{profile.path} has the communication hook {hook!r}, whose time nothing here can tell; profile without it"
        )
    costs = fit_costs(runs)
    if not costs:
        raise UnusableData("no bench run among those given; run commprof bench --nproc N and name its folder too")
    drift = drift_of([*runs, *beside])
    return [_situation(runs, profile, costs, world_size, drift) for world_size in world_sizes]


def profile_run(runs: Sequence[Run]) -> Run:
    """Return the single-rank training run with gradient times, or the one made of traces; raise UnusableData without any."""
    profiles = profile_runs(runs)
    if not profiles:
        raise UnusableData(
            "no finished single-rank training run among those given; run commprof train CONFIG first, or commprof import "
            "traces of a DDP run"
        )
    return profiles[0]


def profile_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that a prediction may start from, the one of fewest ranks first."""
    training = [run for run in select(runs, kind="train") if run.gradients is not None]
    usable = [run for run in training if run.world_size == 1 or run.info.imported_from is not None]
    return sorted(usable, key=lambda run: run.world_size)


def fit_costs(runs: Sequence[Run]) -> dict[int, CostModel]:
    """Fit the all-reduce at every world size above one that was benched; several benches of one size are pooled."""
    benches = [run for run in select(runs, kind="bench") if run.world_size > 1 and run.all_reduces]
    check_one_origin(benches)
    costs = {}
    for world_size in sorted({run.world_size for run in benches}):
        pooled = [run for run in benches if run.world_size == world_size]
        costs[world_size] = fit_cost(_collectives(pooled, world_size), [r.info.run_id for r in pooled], pooled[0].num_nodes)
    return costs


@lru_cache(maxsize=256)
def buckets_of(parameters: tuple[ParameterTiming, ...], first_cap_bytes: int, cap_bytes: int) -> tuple[Bucket, ...]:
    """Return DDP's buckets of these parameters, given in the order in which their gradients are ready."""
    return tuple(assign_buckets(parameters, first_cap_bytes, cap_bytes))


def _situation(runs: Sequence[Run], profile: Run, costs: dict[int, CostModel], world_size: int, drift: float) -> Situation:
    assert profile.gradients is not None and profile.info.workload is not None
    benches = select(runs, kind="bench")
    extrapolated = world_size not in costs
    nearest = min(costs, key=lambda n: abs(n - world_size))
    hosts = next(run for run in benches if run.world_size == nearest).info
    device_name = hosts.ranks[0].device_name if hosts.ranks else ""
    cost = carry_cost(list(costs.values()), world_size, device_name=device_name) if extrapolated else costs[world_size]
    compute_only = select(runs, kind="train", world_size=world_size, synchronised=False)
    beside = compute_only[-1] if compute_only else profile
    ranks_per_machine = -(-world_size // (hosts.num_machines or hosts.num_nodes))
    gradients = beside.gradients or profile.gradients
    traced = beside.info.imported_from is not None
    ranks_on_cores = ranks_per_machine if hosts.on_cpu and not traced else 0  # a trace does not tell its cores
    pool = _pool(compute_only, profile, world_size, ranks_on_cores)
    rng = np.random.default_rng(world_size)
    known = Situation(
        world_size=world_size,
        workload=profile.info.workload,
        gradients=gradients,
        computation=draw_computation(pool, world_size, gradients, rng, DRAWS),
        measured_at_n=pool.measured_at_n,
        slowdown=pool.slowdown,
        cost=cost,
        cost_ratios=_cost_ratios(cost, () if extrapolated else _collectives(benches, world_size), rng),
        extrapolated=extrapolated,
        workers=_GLOO_WORKERS if hosts.on_cpu else 1,
        contention=NO_CONTENTION,
        delayed=any(run.delayed for run in runs),
        imported_from=hosts.imported_from,
        traced_from=beside.info.imported_from,
        traced_ranks=beside.world_size if traced else 0,
        drift=drift,
    )
    # What ranks that sent while they were traced were slowed by is in their computation already.
    return known if known.traced_ranks > 1 else _contended(known, runs, beside, ranks_on_cores)


def _contended(known: Situation, runs: Sequence[Run], beside: Run, ranks_on_cores: int) -> Situation:
    """Add how computation and communication disturb each other: as measured, or by the cores that both need."""
    threads = beside.info.threads_per_rank
    bucket_bytes = known.sent_share * float(np.median([bucket.num_bytes for bucket in known.buckets]))
    measured = _measured_contention(runs, known.world_size, threads, bucket_bytes)
    if measured is not None:
        return replace(known, contention=measured[0], contention_bytes=measured[1])
    if not ranks_on_cores:
        return known
    return replace(known, contention=share_cores(beside.info.cores_per_node, ranks_on_cores, threads, known.cost.comm_cores))


def _cost_ratios(cost: CostModel, samples: Sequence[CollectiveMeasurement], rng: np.random.Generator) -> Floats:
    ratios = np.ones((1 + DRAWS, len(cost.message_bytes)))
    if samples:
        ratios[1:] = resampled_medians(samples, rng, DRAWS) / cost.median_s
    return ratios


def _measured_contention(
    runs: Sequence[Run], world_size: int, threads_per_rank: int, bucket_bytes: float
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
    nearest = min(alike, key=lambda m: abs(np.log(m.message_bytes / bucket_bytes)))
    # Below 1 is noise: nothing runs faster for company.
    compute_rate, comm_rate = 1 / max(1.0, nearest.compute_slowdown), 1 / max(1.0, nearest.comm_slowdown)
    return Contention(compute_rate=compute_rate, comm_rate=comm_rate), nearest.message_bytes


def _pool(compute_only: Sequence[Run], profile: Run, world_size: int, ranks_on_cores: int) -> ComputePool:
    """Collect the steps to draw from; one rank's own are stretched where `ranks_on_cores` of its kind lack cores."""
    if compute_only:
        return pool_of(compute_only[-1])
    if profile.info.workload is not None and profile.info.workload.scaling == "strong":
        raise UnusableData(
            f"{profile.path} shares one batch out (strong scaling), and how long {world_size} ranks compute on a part of "
            f"it was not measured; add commprof train ... --nproc {world_size} distributed.synchronisation=compute_only"
        )
    slowdown = max(1.0, ranks_on_cores * profile.info.threads_per_rank / profile.info.cores_per_node)
    pool = pool_of(profile, slowdown=slowdown)
    # The slowest of the ranks that were traced is not the slowest of another number of them.
    return replace(pool, kind="independent", measured_at_n=False) if profile.world_size > 1 else pool


def _collectives(benches: Sequence[Run], world_size: int) -> list[CollectiveMeasurement]:
    return [m for run in benches if run.world_size == world_size for m in run.all_reduces]
