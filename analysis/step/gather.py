"""Runs -> what is known of each world size before it is tried: computation, the wire, and how the two disturb each other.

Computation: from a compute-only run of N ranks where there is one, with the copies into and out of DDP's buckets; else one
rank's own steps, or those of traced ranks. Wire: the all-reduce benched at N, or carried over from another size.
Contention: as measured at N, else on hosts worked out from their cores; in traces of ranks that sent it is there already.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil, hypot
from statistics import median

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.disturbance import others_cores
from commprof.analysis.runs.load import Run, check_combinable, in_order, select
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.analysis.step.comparable import check_comparable
from commprof.analysis.step.computation import ComputePool, copy_share, draw_computation
from commprof.analysis.step.ddp import NO_CONTENTION, share_cores
from commprof.analysis.step.evidence.contention import fit_contention, usable_contention
from commprof.analysis.step.evidence.cores import cores_slowdown
from commprof.analysis.step.evidence.drift import drift_of
from commprof.analysis.step.evidence.pools import compute_only_s
from commprof.analysis.step.evidence.profiles import profile_runs
from commprof.analysis.step.evidence.readiness import last_readiness
from commprof.analysis.step.evidence.repeats import Repeats, repeats_of
from commprof.analysis.step.inputs import Gathered, SingleRank, StepInputs, sent_share_of
from commprof.analysis.step.language import compute_only_run, is_configured
from commprof.analysis.wire.benched import all_reduces_at, fit_costs
from commprof.analysis.wire.cost import resampled_medians
from commprof.analysis.wire.fabric import fabric_of
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training_kind import KIND_NAMES, follows_ddp
from commprof.commbench.records.types import CollectiveMeasurement, RunInfo

Floats = NDArray[np.float64]

DRAWS = 200
_SHARDED = "; commprof predict --strategy fsdp tells sharded steps"
_ENGINES = "; commprof predict --strategy with its stage (zero1, zero2, zero3) tells its own"
BESIDE_ERROR = 0.15  # of one rank's computation, for ranks on one machine's cores: 0 to 38 % more was seen
_GLOO_WORKERS = 2  # ProcessGroupGloo::Options.threads


def gather(
    runs: Sequence[Run], world_sizes: Iterable[int] = (), *, beyond: Iterable[int] = (), beside: Sequence[Run] = ()
) -> Gathered:
    """Collect what is known of each world size, by default of every one that was benched.

    `beyond` are world sizes that may turn out to be out of reach. `beside` are other runs of the same machine: they tell how
    much its pace drifts, and nothing else is taken from them. Synchronised runs on several ranks among `runs` are what
    predictions are checked against: they move none, but may show that these runs cannot be compared.
    Raises UnusableData without a single-rank profile or a bench, or where a world size asked for cannot be predicted, BadInput
    for runs that cannot be combined.
    """
    world_sizes = sorted(set(world_sizes))
    check_world_sizes(world_sizes, "-n")
    check_combinable(runs)
    runs = _without_other_profiles(runs)
    check_ddp(runs)
    drift = drift_of([*runs, *beside])
    profiles = _profiles(runs, drift)
    check_comparable(runs, profiles.runs, drift)
    profile = profiles.typical
    workload = profile.info.workload
    assert workload is not None
    if sent_share_of(workload) is None:
        raise UnusableData(
            f"{profile.path} has the communication hook {workload.communication_hook!r}, whose time nothing here can tell; "
            "profile without it"
        )
    costs = fit_costs(runs)
    if not costs:
        missing = "float32 all_reduce was benched in those" if select(runs, kind="bench") else "bench run among those"
        raise UnusableData(f"no {missing} given; run commprof bench --nproc N and name its folder too")
    at = {n: _inputs(runs, profiles, costs, n, drift) for n in world_sizes or costs}
    larger, out_of_reach = {}, {}
    for n in sorted(set(beyond) - set(at)):
        try:
            larger[n] = _inputs(runs, profiles, costs, n, drift)
        except UnusableData as error:
            out_of_reach[n] = str(error)
    return Gathered(
        profile_run_id=profile.info.run_id,
        profile_path=str(profile.path),
        single=_single_rank(profiles),
        workload=workload,
        anchor=costs[min(costs)],
        run_ids=tuple(run.info.run_id for run in in_order(runs) if not (run.synchronised and run.world_size > 1)),
        at=tuple(at.values()),
        beyond=tuple(larger.values()),
        out_of_reach=out_of_reach,
    )


def _without_other_profiles(runs: Sequence[Run]) -> Sequence[Run]:
    """Leave out what profiles other strategies on one rank, where a profile for DDP's schedule is given as well."""
    kinds = {run.info.run_id: run.info.workload.kind for run in profile_runs(runs) if run.info.workload is not None}
    if not any(follows_ddp(kind, 1) for kind in kinds.values()):
        return runs
    return [
        run
        for run in runs
        if run.world_size > 1 or run.info.workload is None or follows_ddp(run.info.workload.kind, run.world_size)
    ]


def check_ddp(runs: Sequence[Run]) -> None:
    """Raise UnusableData where a training is not DDP's, whose schedule is all that is known here."""
    for run in runs:
        work = run.info.workload
        if work is not None and not follows_ddp(work.kind, run.world_size):
            assert work.kind is not None
            raise UnusableData(
                f"{run.path} is {KIND_NAMES[work.kind]} on {run.world_size} rank{'s'[: run.world_size > 1]}, and what is known "
                "here is DDP's schedule: its step at N is to be measured at N (commprof extrapolate carries measured ones on)"
                f"{_SHARDED if run.units is not None else _ENGINES if run.engine is not None else ''}"
            )


def _profiles(runs: Sequence[Run], drift: float) -> Repeats:
    """Return the runs that one rank's step is taken from; raise UnusableData without any, and where several disagree."""
    usable = profile_runs(runs)
    blind = [run for run in select(runs, kind="train") if run.world_size == 1 and run.info.unseen]
    if not usable and blind:
        raise UnusableData(f"{blind[0].path} does not tell when its gradients were ready: {'; '.join(blind[0].info.unseen)}")
    if not usable:
        raise UnusableData(
            "no finished single-rank training run among those given; run commprof train CONFIG first, or commprof import "
            "traces of a DDP run"
        )
    return repeats_of(usable, Run.median_step_s, drift)


def _single_rank(profiles: Repeats) -> SingleRank:
    """Return one rank's step and its parts, stretched to add up to it as those of N ranks are (`draw_computation`)."""
    update_s = profiles.mean(lambda run: median(step.optimizer_s for step in run.counted_steps()))
    backward_s = profiles.mean(lambda run: median(step.exchange_s for step in run.counted_steps()))
    before_s = profiles.mean(
        lambda run: median(step.step_s - step.exchange_s - step.optimizer_s for step in run.counted_steps())
    )
    stretch = profiles.step_s / (before_s + backward_s + update_s)
    gradients = profiles.typical.gradients
    tail_s = 0.0 if gradients is None else copy_share(gradients) * backward_s
    return SingleRank(step_s=profiles.step_s, update_s=stretch * update_s, tail_s=stretch * tail_s)


def _inputs(runs: Sequence[Run], profiles: Repeats, costs: dict[int, CostModel], world_size: int, drift: float) -> StepInputs:
    profile = profiles.typical
    assert profile.gradients is not None and profile.info.workload is not None
    benches = select(runs, kind="bench")
    extrapolated = world_size not in costs
    nearest = min(costs, key=lambda n: abs(n - world_size))
    hosts = next(run for run in benches if run.world_size == nearest).info
    device_name = hosts.ranks[0].device_name if hosts.ranks else ""
    cost = costs.get(world_size) or carry_cost(
        list(costs.values()), world_size, device_name=device_name, fabric=fabric_of(hosts.wire)
    )
    compute_only = select(runs, kind="train", world_size=world_size, synchronised=False)
    measured = repeats_of(compute_only, compute_only_s, drift) if compute_only else None
    beside = profile if measured is None else measured.typical
    ranks_per_machine = _ranks_per_machine(hosts, world_size, cost.num_nodes)
    gradients = last_readiness(beside) or profile.gradients
    traced = beside.info.imported_from is not None
    ranks_on_cores = ranks_per_machine if hosts.on_cpu and not traced else 0  # a trace does not tell its cores
    others = 0.0 if measured is not None else others_cores(profile)
    pool = _pool(measured, profiles, world_size, ranks_on_cores, others)
    rng = np.random.default_rng(world_size)
    known = StepInputs(
        world_size=world_size,
        workload=profile.info.workload,
        gradients=gradients,
        computation=draw_computation(pool, world_size, gradients, rng, DRAWS),
        measured_at_n=pool.measured_at_n,
        slowdown=pool.slowdown,
        others_cores=others,
        shares_cores=ranks_on_cores * beside.info.threads_per_rank > beside.info.cores_per_node,
        cost=cost,
        cost_ratios=cost_ratios(cost, () if extrapolated else all_reduces_at(benches, world_size), rng),
        extrapolated=extrapolated,
        workers=_GLOO_WORKERS if hosts.on_cpu else 1,
        contention=NO_CONTENTION,
        delayed=any(run.delayed for run in runs),
        imported_from=hosts.imported_from,
        traced_from=beside.info.imported_from,
        traced_ranks=beside.world_size if traced else 0,
        drift=drift,
        beside=BESIDE_ERROR if ranks_on_cores > 1 and not pool.measured_at_n else 0.0,
        between=hypot(profiles.between, 0.0 if measured is None else measured.between),
        pooled=tuple(_pooled(profiles, measured)),
        configured=is_configured(profile.info),
        backend=hosts.backend,
    )
    # What ranks that sent while they were traced were slowed by is in their computation already.
    return known if known.traced_ranks > 1 else _contended(known, runs, beside, ranks_on_cores, rng)


def _contended(
    known: StepInputs, runs: Sequence[Run], beside: Run, ranks_on_cores: int, rng: np.random.Generator
) -> StepInputs:
    """Add how computation and communication disturb each other: as measured, or by the cores that both need.

    What was measured at another world size is named and not used: on hosts it is how many ranks share the cores that rules it.
    """
    threads, contended = beside.info.threads_per_rank, select(runs, kind="contention")
    measured = usable_contention([run for run in contended if run.world_size == known.world_size], threads)
    if measured:
        found = fit_contention(measured, rng, DRAWS)
        return replace(known, contention=found.contention, contention_form=found.form, contention_bytes=found.message_bytes)
    known = replace(known, contention_at=tuple(sorted({run.world_size for run in contended})))
    if not ranks_on_cores:
        return known
    return replace(known, contention=share_cores(beside.info.cores_per_node, ranks_on_cores, threads, known.cost.comm_cores))


def _ranks_per_machine(benched: RunInfo, world_size: int, num_nodes: int | None) -> int:
    """Return how many of the ranks share a machine's cores, with as many nodes on a machine as the bench had."""
    nodes_per_machine = benched.num_nodes / (benched.num_machines or benched.num_nodes)
    machines = max(1.0, (num_nodes or 1) / nodes_per_machine)
    return ceil(world_size / machines)


def cost_ratios(cost: CostModel, samples: Sequence[CollectiveMeasurement], rng: np.random.Generator) -> Floats:
    """Return bootstrapped medians over the measured ones [1 + draws, sizes], all 1 where there are no samples."""
    ratios = np.ones((1 + DRAWS, len(cost.message_bytes)))
    if samples:
        ratios[1:] = resampled_medians(samples, rng, DRAWS, cost.num_nodes) / cost.median_s
    return ratios


def _pool(measured: Repeats | None, profiles: Repeats, world_size: int, ranks_on_cores: int, others: float) -> ComputePool:
    """Collect the steps to draw from; one rank's own are stretched where `ranks_on_cores` of its kind lack cores.

    `others`: the cores that other processes kept busy during the profile.
    """
    if measured is not None:
        return measured.pool()
    profile = profiles.typical
    if profile.info.workload is not None and profile.info.workload.scaling == "strong":
        raise UnusableData(
            f"{profile.path} shares one batch out (strong scaling), and how long {world_size} ranks compute on a part of "
            f"it was not measured; add {compute_only_run(world_size, configured=is_configured(profile.info))}"
        )
    pool = profiles.pool(slowdown=cores_slowdown(profile, ranks_on_cores, others))
    # The slowest of the ranks that were traced is not the slowest of another number of them.
    return replace(pool, kind="independent", measured_at_n=False) if profile.world_size > 1 else pool


def _pooled(profiles: Repeats, measured: Repeats | None) -> Iterator[str]:
    """Name the runs that were pooled, and what each said."""
    if len(profiles.runs) > 1:
        yield f"{len(profiles.runs)} profiles are pooled, their differences in the interval: {profiles.told} a step"
    if measured is not None and len(measured.runs) > 1:
        yield f"{len(measured.runs)} compute-only runs are pooled, their differences in the interval: {measured.told} a step"
