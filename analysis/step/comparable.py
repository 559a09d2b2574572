"""Can these runs be compared at all? What no training can do tells of a run that was disturbed, not of fast ranks.

    T_N >= T_1               at a fixed batch per rank: each of N ranks does what one does alone, so S = N T_1 / T_N <= N
    T_compute(N) >= T_1      the same of ranks side by side that send nothing
    T_N >= T_compute(N)      a step that sends takes no less than one that does not, so no part of it is below zero

The first two are not said of sharded trainings: N ranks update a shard each where one updates everything. Nor is the third said
of a sharded run and a compute-only one that is not, or the other way round.

Noise goes beyond these by itself. Refused is what lies beyond them by more than the medians of two runs differ in 95 % of
cases on a quiet machine: e^(1.96 sqrt(PACE_ERROR^2 + 2 drift^2)), at most 8 %. Wider intervals and a pace that drifts by more
are no reason to let the impossible pass: they are why the runs cannot be compared.

Where one batch is shared out (strong scaling) a rank's part of it may fit into caches that the whole did not, and T_N below
T_1/N is real: it is believed where a compute-only run on N ranks shows it too, and refused where none does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, hypot, sqrt
from typing import Final

from commprof.analysis.runs.load import Run, select
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.step.estimate import PACE_ERROR
from commprof.analysis.step.evidence.drift import TOLD_DRIFT, drift_of
from commprof.analysis.step.evidence.profiles import profile_runs
from commprof.analysis.step.language import compute_only_run, is_configured
from commprof.analysis.step.results import Overhead, PredictionSet
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training_kind import TrainingKind
from commprof.commbench.units import format_seconds

_Z95 = 1.96
_SHARDING: Final[tuple[TrainingKind, ...]] = (
    *("zero_redundancy_optimizer", "fsdp1", "fsdp2", "hsdp", "zero1", "zero2", "zero3"),
    *("tensor_parallel", "pipeline"),
)
_REFUSAL = "these runs are not comparable, because"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """What cannot be true of the runs on `world_size` ranks; `of_single`: of one rank's step, on which all speedups rest."""

    world_size: int
    reason: str
    of_single: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _SingleStep:
    """One rank's median step; `threads` of a rank, None where none matter."""

    name: str
    step_s: float
    kind: ScalingKind
    threads: int | None = None


def check_comparable(runs: Sequence[Run], profiles: Sequence[Run], drift: float) -> None:
    """Raise UnusableData where runs contradict each other; `profiles` are those that one rank's step is taken from."""
    for found in _of_runs(runs, _single_step(profiles), pace_margin(min(drift, TOLD_DRIFT))):
        raise UnusableData(found.reason + _drifted(drift))


def contradictions(runs: Sequence[Run], predicted: PredictionSet | None) -> dict[int, str]:
    """Return by world size why nothing can be said of it beside one rank; empty where all is well.

    One rank's step is what the prediction was made from, without one that of the runs.
    """
    training = select(runs, kind="train")
    own = profile_runs(runs) if predicted is None else [r for r in training if r.info.run_id == predicted.profile_run_id]
    if predicted is None and not own:
        return {}
    single, drift = _single_step(own, predicted), drift_of(runs)
    margin = pace_margin(min(drift, TOLD_DRIFT))
    found = [*_of_runs(runs, single, margin), *(_of_prediction(predicted, margin) if predicted is not None else ())]
    if whole := next((one for one in found if one.of_single), None):
        sizes = {run.world_size for run in runs} | {p.world_size for p in (predicted.predictions if predicted else ())}
        return dict.fromkeys(sorted(sizes - {1}), whole.reason + _drifted(drift))
    return {one.world_size: one.reason + _drifted(drift) for one in reversed(found)}


def without(predicted: PredictionSet, world_sizes: set[int]) -> PredictionSet | None:
    """Return the predictions for all but these world sizes; None where none is left."""
    if {p.world_size for p in predicted.predictions} <= world_sizes:
        return None
    return replace(
        predicted,
        predictions=tuple(p for p in predicted.predictions if p.world_size not in world_sizes),
        overheads=tuple(o for o in predicted.overheads if o.world_size not in world_sizes),
        schedules=tuple(s for s in predicted.schedules if s.world_size not in world_sizes),
        changes=tuple(c for c in predicted.changes if c.world_size not in world_sizes),
        break_evens=tuple(law for law in predicted.break_evens if law.world_size not in world_sizes),
    )


def _single_step(profiles: Sequence[Run], predicted: PredictionSet | None = None) -> _SingleStep:
    """Return what these profiles say of one rank; what the prediction took for it goes before."""
    if not profiles:
        assert predicted is not None
        step_s = predicted.single_step_s
        return _SingleStep(name=predicted.profile_run_id, step_s=step_s, kind=predicted.scaling)
    shortest, longest = (pick(profiles, key=Run.median_step_s) for pick in (min, max))
    workload = shortest.info.workload
    return _SingleStep(
        name=str(longest.path),
        step_s=shortest.median_step_s() if predicted is None else predicted.single_step_s,
        kind="weak" if workload is None else workload.scaling,
        threads=shortest.info.threads_per_rank if shortest.info.on_cpu and shortest.info.imported_from is None else None,
    )


def pace_margin(drift: float) -> float:
    """Return the factor by which the medians of two runs differ at most, in 95 % of cases; `drift` is `drift_of`'s."""
    return exp(_Z95 * hypot(PACE_ERROR, sqrt(2) * drift))


def _drifted(drift: float) -> str:
    return f" (the machine's pace drifts by {drift:.0%} within these runs)" if drift > TOLD_DRIFT else ""


def _of_runs(runs: Sequence[Run], single: _SingleStep, margin: float) -> Iterator[Contradiction]:
    for n in sorted({run.world_size for run in select(runs, kind="train")} - {1}):
        silent = select(runs, kind="train", world_size=n, synchronised=False)
        real = select(runs, kind="train", world_size=n, synchronised=True)
        for run in (*silent, *real) if single.kind == "weak" else ():
            if _shards(run):
                continue  # its optimizer works on a shard, which takes less than all of it
            if single.step_s > margin * run.median_step_s():
                yield Contradiction(world_size=n, reason=_faster_than_one(run, single), of_single=True)
        for run in real:
            yield from _below_computation(run, [quiet for quiet in silent if _shards(quiet) == _shards(run)], margin)
            if single.kind == "strong" and not silent and single.step_s / n > margin * run.median_step_s():
                yield Contradiction(world_size=n, reason=_faster_than_shared(run, single), of_single=False)


def _shards(run: Run) -> bool:
    """Say whether ranks update a part of the parameters each; of several kinds no units may be known."""
    kind = None if run.info.workload is None else run.info.workload.kind
    return run.units is not None or run.engine is not None or kind in _SHARDING


def _below_computation(run: Run, silent: Sequence[Run], margin: float) -> Iterator[Contradiction]:
    for quiet in silent:
        if quiet.median_step_s() > margin * run.median_step_s():
            reason = (
                f"{_REFUSAL} a step that sends takes no less than one that does not: {_told(run)} on {run.world_size} ranks, "
                f"{_told(quiet)} with nothing sent; measure {quiet.path} again"
            )
            yield Contradiction(world_size=run.world_size, reason=reason, of_single=False)


def _of_prediction(predicted: PredictionSet, margin: float) -> Iterator[Contradiction]:
    """Yield what is impossible in the prediction itself, as one made earlier and kept may be."""
    for overhead in predicted.overheads:
        if _impossible(overhead, predicted.scaling, margin):
            n = overhead.world_size
            reason = (
                f"{_REFUSAL} of {n} ranks less was predicted than the computation of one, {format_seconds(overhead.step_s)} "
                f"a step against {format_seconds(overhead.single_step_s)}; measure {predicted.profile_run_id} again"
            )
            yield Contradiction(world_size=n, reason=reason, of_single=True)


def _impossible(overhead: Overhead, kind: ScalingKind, margin: float) -> bool:
    """Say whether a part is below zero by more than noise, or longer than the step."""
    alone_s, noise_s = overhead.single_step_s + overhead.compute_s, (margin - 1) * overhead.step_s
    slower = kind == "weak" and overhead.single_step_s > margin * alone_s
    return slower or min(overhead.waiting_s, overhead.exposed_s) < -noise_s or overhead.exposed_s > overhead.step_s + noise_s


def _faster_than_shared(run: Run, single: _SingleStep) -> str:
    n = run.world_size
    return (
        f"{_REFUSAL} {n} ranks take less than 1/{n} of one rank's time, {_told(run)} of {format_seconds(single.step_s)} "
        f"({single.name}), and no compute-only run on {n} ranks tells whether caches do that; measure {single.name} "
        f"again, or add {compute_only_run(n, configured=is_configured(run.info))}"
    )


def _faster_than_one(run: Run, single: _SingleStep) -> str:
    n, threads = run.world_size, run.info.threads_per_rank
    sent = "" if run.synchronised else " with nothing sent"
    alike = f" with OMP_NUM_THREADS={threads}, the threads a rank has there" if single.threads not in (None, threads) else ""
    return (
        f"{_REFUSAL} {n} ranks cannot have more than {n} times the throughput of one: a step takes "
        f"{format_seconds(single.step_s)} on one rank ({single.name}), {_told(run)} on {n}{sent}; measure {single.name} "
        f"again{alike}"
    )


def _told(run: Run) -> str:
    return f"{format_seconds(run.median_step_s())} ({run.path.name})"
