"""What a sharded step rests on: runs -> units and times of a rank, and the wire of its shards' group and of its copies'.

Units and times come from a compute-only run of as many ranks over as many shards where there is one; else from a run on one
rank, sharded over itself; else from one that is not sharded, cut into units (unsharded.py). The wire is what each collective's
own bench at that number of ranks says, never a share of another's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.disturbance import others_cores
from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.computation import ComputePool
from commprof.analysis.step.evidence.cores import cores_slowdown
from commprof.analysis.step.evidence.drift import drift_of
from commprof.analysis.step.evidence.pools import pool_of
from commprof.analysis.step.gather import BESIDE_ERROR
from commprof.analysis.strategies.unsharded import unsharded_timeline
from commprof.analysis.strategies.wires import OP_NAMES, Wire, wires_of
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.sharding import ShardingTimeline
from commprof.commbench.records.training_kind import KIND_NAMES, TrainingKind
from commprof.commbench.records.types import RunInfo

Floats = NDArray[np.float64]

TURNS_ERROR = 0.045  # of computation: what the grid's open cells of four hosts on two cores were off by beside PACE_ERROR
_OTHER_SHARDING = ("in_turn", "fsdp1", "fsdp2", "hsdp", "deepspeed", "zero1", "zero2", "zero3")
_OLDER = "recorded before a stage's were; record it again"
_NO_SCHEDULE: dict[TrainingKind, str] = {
    "in_turn": "those that were seen are one model's, and a step trains several",
    "deepspeed": "an engine without a stage reduces by buckets of its own",
    "zero1": _OLDER,
    "zero2": _OLDER,
    "zero3": _OLDER,
}
_NO_UNITS = "those of fully_shard are seen, and of FullyShardedDataParallel without a hook of one's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedInputs:
    """All that a sharded step of `world_size` ranks rests on. `wires` by collective, those that are needed.

    `blocking`: collectives end before the host goes on, as gloo's do. `at_once`: so many ranks compute at
    the same time, the others share their cores. `profile` is the folder that the times come from. `beside`: how far off its
    computation is where one rank stands for several that share a machine, relative, else 0. `schedule_error`: how far off
    computation and exposed communication are by a schedule of another library's, that too few runs were held against.
    """

    world_size: int
    num_shards: int
    num_replicas: int
    timeline: ShardingTimeline
    pool: ComputePool
    wires: dict[str, Wire] = field(default_factory=dict)
    blocking: bool = True
    at_once: int = 1
    profile: str = ""
    drift: float = 0.0
    beside: float = 0.0
    schedule_error: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def extrapolated(self) -> bool:
        return any(wire.extrapolated for wire in self.wires.values())


def sharded_inputs(runs: Sequence[Run], world_size: int, num_replicas: int, units: str | None = None) -> ShardedInputs:
    """Collect what is known of a sharded step; `units` names those of a profile that is not sharded, None finds them.

    Raises UnusableData where what it needs was not measured, BadInput for `units` that fit no parameter.
    """
    if world_size % num_replicas:
        raise UnusableData(f"{num_replicas} copies do not divide {world_size} ranks; use --replicas with a divisor of it")
    num_shards = world_size // num_replicas
    profile = _profile(runs, world_size, num_shards, units)
    timeline = profile.units or unsharded_timeline(profile, units)
    among = {"gather": num_shards, "reduce": num_shards, "all_reduce": num_replicas}
    found = inputs_from(runs, profile, timeline, world_size, among)
    return replace(found, num_replicas=num_replicas, notes=(*_unsharded(num_shards, num_replicas), *found.notes))


def inputs_from(
    runs: Sequence[Run], profile: Run, timeline: ShardingTimeline, world_size: int, among: Mapping[str, int]
) -> ShardedInputs:
    """Collect what is known of a step whose units and times are a profile's; `among` so many ranks each kind of message goes.

    Raises UnusableData where a collective was not benched.
    """
    benches = [run for run in select(runs, kind="bench") if run.world_size > 1]
    if not benches:
        raise UnusableData("no bench run among those given; run commprof bench all_gather --nproc N, and reduce_scatter")
    hosts = min(benches, key=lambda run: abs(run.world_size - world_size)).info
    wires = wires_of(runs, among, hosts)
    ranks_on_cores = -(-world_size // (hosts.num_machines or hosts.num_nodes)) if hosts.on_cpu else 0
    slowdown = cores_slowdown(profile, ranks_on_cores, others_cores(profile)) if profile.world_size == 1 else 1.0
    return ShardedInputs(
        world_size=world_size,
        num_shards=among["gather"],
        num_replicas=1,
        timeline=timeline,
        pool=_pool(profile, timeline, slowdown=slowdown),
        wires=wires,
        blocking=hosts.on_cpu,
        at_once=_at_once(profile.info, hosts, world_size),
        profile=str(profile.path),
        drift=drift_of(runs),
        beside=_beside(profile, ranks_on_cores),
        notes=tuple(_notes(profile, timeline, wires, slowdown, ranks_on_cores)),
    )


def _beside(profile: Run, ranks_on_cores: int) -> float:
    """Return how far off the computation of ranks on one machine's cores is, relative."""
    if profile.world_size == 1:
        return BESIDE_ERROR if ranks_on_cores > 1 else 0.0
    return TURNS_ERROR if ranks_on_cores * profile.info.threads_per_rank > profile.info.cores_per_node else 0.0


def _at_once(profile: RunInfo, hosts: RunInfo, world_size: int) -> int:
    """Return how many of the ranks compute at the same time: on hosts, as many as have cores for all their threads."""
    if not hosts.on_cpu:
        return world_size
    machines = hosts.num_machines or hosts.num_nodes
    return max(1, min(world_size, machines * profile.cores_per_node // profile.threads_per_rank))


def _pool(profile: Run, timeline: ShardingTimeline, *, slowdown: float) -> ComputePool:
    """Return the profile's steps, with the copies of units that it was not sharded into."""
    pool = pool_of(profile, slowdown=slowdown)
    if profile.units is not None or profile.engine is not None:
        return pool
    with_copies_s = np.array([span.samples_s for span in timeline.spans]).sum(axis=0)
    own_s = pool.before_s + pool.backward_s + pool.update_s
    return replace(pool, before_s=pool.before_s + np.maximum(0.0, slowdown * with_copies_s - own_s))


def sharded_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the training runs whose units are known, but for those of several models in turn: the units are of one alone."""
    known = ((run, run.info.workload) for run in select(runs, kind="train") if run.units is not None)
    return [run for run, work in known if work is None or work.kind != "in_turn"]


def _profile(runs: Sequence[Run], world_size: int, num_shards: int, units: str | None) -> Run:
    """Return the run that units and times are taken from, the last of its kind."""
    found = [] if units is not None else sharded_runs(runs)
    side_by_side = [
        run
        for run in found
        if run.world_size == world_size
        and not run.synchronised
        and run.units is not None
        and run.units.num_shards == num_shards
    ]
    if side_by_side:
        return side_by_side[-1]
    alone = [run for run in found if run.world_size == 1] or plain_runs(runs)
    if not alone:
        _check_kinds(runs)
        raise UnusableData(
            "no run on one rank among those given, sharded over itself or not sharded at all; run commprof train CONFIG on one "
            "rank, best with distributed.strategy=fsdp"
        )
    work = alone[-1].info.workload
    if work is not None and work.scaling == "strong":
        raise UnusableData(
            f"{alone[-1].path} shares one batch out (strong scaling), and how long {world_size} ranks compute on a part of it "
            f"was not measured; add commprof train ... --nproc {world_size} distributed.strategy=fsdp "
            "distributed.synchronisation=compute_only"
        )
    return alone[-1]


def _check_kinds(runs: Sequence[Run]) -> None:
    """Raise UnusableData that names a training which shards and whose units nobody saw, and what to profile instead."""
    for run in select(runs, kind="train"):
        kind = None if run.info.workload is None else run.info.workload.kind
        if kind in _OTHER_SHARDING:
            if run.engine is not None and kind != "in_turn":
                raise UnusableData(
                    f"{run.path} is {KIND_NAMES[kind]}, of which its own stage can be told: --strategy {kind}; profile the "
                    "script on one rank without it, or under fully_shard, for another strategy"
                )
            why = "; ".join(run.info.unseen) or _NO_SCHEDULE.get(kind, _NO_UNITS)
            raise UnusableData(
                f"{run.path} is {KIND_NAMES[kind]}, of which no units are known ({why}); profile the script on one rank "
                "without it, or under fully_shard"
            )


def plain_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs on one rank that nothing shards."""
    alone = [(run, run.info.workload) for run in select(runs, kind="train") if run.world_size == 1 and run.units is None]
    return [run for run, work in alone if work is None or work.kind in ("none", "ddp")]


def _unsharded(num_shards: int, num_replicas: int) -> list[str]:
    return [f"{num_replicas} copies leave one shard each, so nothing is sharded"] if num_shards == 1 else []


def _notes(profile: Run, timeline: ShardingTimeline, wires: dict[str, Wire], slowdown: float, ranks_on_cores: int) -> list[str]:
    notes = []
    if profile.units is None and profile.engine is None:
        names = [unit.name for unit in timeline.units if unit.name]
        notes.append(
            f"units are the {len(names)} blocks {names[0]} to {names[-1]} of {profile.path}, which is not sharded: forward is "
            "shared out among them as backward is, fully_shard's copies take 2/7 of the update's seconds a byte, and its "
            "bookkeeping is left out"
        )
    elif profile.world_size == 1:
        notes.append(f"units and times are those of {profile.path}, one rank sharded over itself")
    if slowdown > 1:
        notes.append(f"ranks take {slowdown:.3g} times as long to compute, for want of cores")
    if profile.world_size == 1 < ranks_on_cores:
        shown = (
            ", and ranks side by side that send nothing show it (commprof record --compute-only, or train with "
            "distributed.synchronisation=compute_only)"
        )
        notes.append(
            "one rank does not show what ranks that share a machine cost each other; the interval allows for "
            f"{BESIDE_ERROR:.0%} of computation{shown if profile.engine is None else ''}"
        )
    for what, wire in wires.items():
        if wire.extrapolated:
            op, n = OP_NAMES[what], wire.cost.world_size
            places = " and ".join(map(str, wire.cost.carried_from))
            named = ", as gloo carries it out as an all-reduce" if op == "reduce_scatter" and wire.backend == "gloo" else ""
            notes.append(
                f"no bench of {op} on {n} ranks: its cost is carried over from {places} by {wire.cost.form}{named}, and the "
                "interval is wider for it"
            )
    if timeline.num_others:
        notes.append(f"{timeline.num_others} steps went through their units in another order and are left out")
    return notes
