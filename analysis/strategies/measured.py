"""Which strategies were run? A prediction of the same strategy on as many ranks and copies is held against such a run."""

from collections.abc import Sequence

from commprof.analysis.runs.load import Run, select
from commprof.analysis.strategies.engine.inputs import engine_strategy
from commprof.analysis.strategies.results import Strategy, StrategyAnswer
from commprof.commbench.records.training_kind import follows_ddp

Shape = tuple[Strategy, int, int, bool]  # on so many ranks, in so many copies, by a DeepSpeed engine


def strategy_of(run: Run) -> Strategy | None:
    """Return the strategy that a training run of several ranks followed; None where it sent nothing, or it cannot be told."""
    if not run.sends:
        return None
    if run.engine is not None:
        return engine_strategy(run)
    if run.units is None:
        work = run.info.workload
        return "ddp" if work is not None and follows_ddp(work.kind, run.world_size) else None
    if run.units.num_replicas > 1:
        return "hsdp"
    return "fsdp" if any(unit.resharded for unit in run.units.units if unit.name) else "zero2"


def run_shape(run: Run) -> Shape | None:
    """Return what a prediction must be of to be held against this run; None of one that follows no strategy."""
    strategy = strategy_of(run)
    if strategy is None:
        return None
    shards = run.units or run.engine
    copies = run.world_size if shards is None else shards.num_replicas
    return strategy, run.world_size, copies, run.engine is not None


def measured_runs(runs: Sequence[Run]) -> dict[Shape, Run]:
    """Return the last run of every strategy that was run."""
    shapes = ((run_shape(run), run) for run in select(runs, kind="train"))
    return {shape: run for shape, run in shapes if shape is not None}


def shape_of(answer: StrategyAnswer) -> Shape:
    return answer.strategy, answer.world_size, answer.num_replicas, answer.engine
