"""Runs of a DeepSpeed engine and benches -> what its step on N ranks rests on, or why that cannot be told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from commprof.analysis.runs.load import Run, select
from commprof.analysis.strategies.inputs import ShardedInputs, inputs_from
from commprof.analysis.strategies.results import Strategy
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.sharding import ShardingTimeline, ZeroEngine
from commprof.commbench.records.training_kind import KIND_NAMES

# Of computation and of exposed communication: what ten cells on a busy machine were off by (docs/results/deepspeed-zero.md).
ENGINE_ERROR: Final = 0.3
_SEEN_SHARE: Final = 0.9  # of stage 3's parameters: some modules may not be called
STAGES: Final[dict[Strategy, int]] = {"zero1": 1, "zero2": 2, "zero3": 3}

_HELD_AGAINST: Final = (
    "DeepSpeed's schedule was held against ten runs alone, of a busy machine: 11.5 % off in the median, 46 % at worst; the "
    f"interval allows for {ENGINE_ERROR:.0%} of computation and of exposed communication, so take it as an order of magnitude, "
    "and measure at N before you decide"
)


def engine_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the training runs whose messages are known, but for those of several models in turn: they are of one alone."""
    known = ((run, run.info.workload) for run in select(runs, kind="train") if run.engine is not None)
    return [run for run, work in known if work is None or work.kind != "in_turn"]


def engine_stage(run: Run) -> int | None:
    """Return the stage of the engine that shards a run, None without one."""
    return None if run.engine is None or run.engine.zero is None else run.engine.zero.stage


def engine_strategy(run: Run) -> Strategy | None:
    """Return the strategy that the stage of a run's engine is, None without one."""
    stage = engine_stage(run)
    return next((own for own, known in STAGES.items() if known == stage), None)


def engine_inputs(runs: Sequence[Run], world_size: int, strategy: Strategy) -> ShardedInputs:
    """Collect what is known of an engine's step; raise UnusableData where it cannot be told."""
    profile = _profile(runs, strategy)
    timeline = profile.engine
    assert timeline is not None and timeline.zero is not None
    work = profile.info.workload
    if work is not None and work.scaling == "strong":
        raise UnusableData(f"{profile.path} shares one batch out (strong scaling), and a part of it was not measured")
    _check_whole(timeline, str(profile.path))
    _check_persistent(timeline.zero, world_size, str(profile.path))
    if not profile.info.on_cpu:
        raise UnusableData(
            f"{profile.path} runs on GPUs, where DeepSpeed's collectives go on beside computation, and only those that block "
            "are modelled; measure it at N"
        )
    found = inputs_from(runs, profile, timeline, world_size, _among(timeline, world_size))
    return replace(found, schedule_error=ENGINE_ERROR, notes=(*found.notes, _HELD_AGAINST))


def _profile(runs: Sequence[Run], strategy: Strategy) -> Run:
    alone = [run for run in engine_runs(runs) if run.world_size == 1]
    found = [run for run in alone if engine_stage(run) == STAGES[strategy]]
    if found:
        return found[-1]
    if alone:
        raise UnusableData(
            f"{alone[-1].path} is of stage {engine_stage(alone[-1])}; record the script on one rank under that stage"
        )
    for run in select(runs, kind="train"):
        work = run.info.workload
        if run.engine is None and work is not None and work.kind in STAGES:
            why = "; ".join(run.info.unseen) or "it was recorded before they were"
            raise UnusableData(f"{run.path} is {KIND_NAMES[work.kind]}, of which no units are known ({why})")
    raise UnusableData("no run of a DeepSpeed engine on one rank among those given; commprof record -- python SCRIPT makes one")


def _check_whole(timeline: ShardingTimeline, profile: str) -> None:
    """Raise UnusableData for a step without what every step of its stage sends: some of it went by unseen."""
    zero = timeline.zero
    assert zero is not None
    marked = {(span.until, span.unit) for span in timeline.spans if span.unit is not None}
    gathered = sum(timeline.units[unit or 0].gather_bytes for until, unit in marked if until == "gather_landed")
    least = _SEEN_SHARE * zero.parameter_bytes if zero.stage == 3 else 1
    if gathered < least:
        raise UnusableData(f"{profile} shows gathers of {gathered} bytes, and its parameters have {zero.parameter_bytes}")
    if not any(until == "reduce_begun" for until, _ in marked):
        raise UnusableData(f"{profile} shows no gradients being reduced")


def _check_persistent(zero: ZeroEngine, world_size: int, profile: str) -> None:
    limit = zero.persistence_limit_bytes
    if limit is not None and zero.persistent_bytes > limit // world_size:
        raise UnusableData(
            f"{profile} keeps more parameters whole than {world_size} ranks would (model_persistence_threshold), and which of "
            "them they would free is not known"
        )


def _among(timeline: ShardingTimeline, world_size: int) -> dict[str, int]:
    """Return among how many ranks each kind of message goes, of those that there are."""
    kinds = {"reduce" if unit.reduce_op == "reduce_scatter" else "reduce_whole" for unit in timeline.units if unit.reduce_bytes}
    return {"gather": world_size, **dict.fromkeys(sorted(kinds), world_size)}
