"""What must a reader know before believing a number: whatever weakens the verdict, the gravest first."""

from collections.abc import Iterator, Sequence

from commprof.analysis.report.numbers.data import Material, checked_too_early
from commprof.analysis.report.numbers.judged import failing_rules
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.evidence.repeats import repeats_of
from commprof.analysis.strategies.measured import strategy_of
from commprof.analysis.strategies.results import Strategy
from commprof.analysis.study.failed import failed_stages
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.training_kind import TrainingKind, follows_ddp

_MUCH_DRIFT = 0.05


def warnings(material: Material) -> tuple[str, ...]:
    """Return what a reader must know before believing a number, the gravest first."""
    found = (
        _failed_checks,
        _other_devices,
        _disagreeing,
        _emulated,
        _shared_cores,
        _drifting,
        _unfinished,
        _without_result,
        _doubts,
        _without_contention,
        _doubts_of_strategies,
    )
    told = (*(warning for kind in found for warning in kind(material)), *material.refusals)
    return tuple(warning for warning in told if warning != material.unpredicted)  # that stands in the verdict


def _failed_checks(material: Material) -> Iterator[str]:
    """Yield the runs that `commprof check` fails among those that the prediction rests on, or among all without one."""
    used = material.known or material.runs
    failing = failing_rules([run for run in used if run.info.kind in ("bench", "links")])
    for name, found in failing.items():
        if rules := [rule for rule in found if rule != "ending"]:  # which `_unfinished` tells
            yield f"{name} fails commprof check: {', '.join(rules)}. What rests on it may be off."


def _other_devices(material: Material) -> Iterator[str]:
    """Yield a warning where computation and wire were measured on different devices."""
    kinds = {
        kind: {rank.device_name for run in material.known if run.info.kind == kind for rank in run.info.ranks} - {""}
        for kind in ("train", "bench")
    }
    if kinds["train"] and kinds["bench"] and kinds["train"] != kinds["bench"]:
        computed, sent = (", ".join(sorted(kinds[kind])) for kind in ("train", "bench"))
        yield f"Computation was measured on {computed}, the wire between {sent}: no machine of this kind was seen."


def _without_result(material: Material) -> Iterator[str]:
    """Yield the stages of the studies that were tried and have no run here."""
    for study in material.studies:
        for stage, reason in failed_stages(study):
            yield f"{stage} has no result: {reason}."


def _disagreeing(material: Material) -> Iterator[str]:
    """Yield a warning for the training runs that measured one thing and differ by more than the machine's pace does."""
    groups = dict[tuple[int, bool, TrainingKind | Strategy | None], list[Run]]()
    for run in select(material.runs, kind="train"):
        groups.setdefault((run.world_size, run.synchronised, _way(run)), []).append(run)
    for runs in groups.values():
        try:
            repeats_of(runs, Run.median_step_s, material.drift)
        except UnusableData as error:
            if str(error) not in (material.unpredicted or ""):
                yield f"On {ranks(runs[0].world_size)}: {error}."


def _way(run: Run) -> TrainingKind | Strategy | None:
    """Return how a run shares its work out: sharded over itself one rank takes another time than as it is."""
    kind = None if run.info.workload is None else run.info.workload.kind
    return "ddp" if follows_ddp(kind, run.world_size) else strategy_of(run) or kind


def _emulated(material: Material) -> Iterator[str]:
    wired = [run.info for run in material.runs if run.info.wire is not None]
    if not wired:
        return
    known = sorted({run.world_size for run in material.runs if run.info.workload is not None and not run.synchronised})
    measured = f" How long {_listed(known)} ranks compute side by side was measured, with nothing sent." if known else ""
    yield f"The hosts are emulated: they share the {wired[0].cores_per_node} cores of one machine.{measured}"


def _shared_cores(material: Material) -> Iterator[str]:
    if not material.shared:
        return
    sizes, worst = sorted(material.shared), material.shared[max(material.shared)]
    threads = "1 thread" if worst.threads_per_rank == 1 else f"{worst.threads_per_rank} threads"
    yield (
        f"{_listed(sizes)} ranks share too few cores: {worst.ranks_per_machine} ranks of {threads} each run on "
        f"{worst.cores_per_node} cores per machine. They take turns, so no number at {_listed(sizes)} ranks tells what as many "
        "real devices would do."
    )


def _listed(world_sizes: Sequence[int]) -> str:
    *most, last = map(str, world_sizes)
    return f"{', '.join(most)} and {last}" if most else last


def _drifting(material: Material) -> Iterator[str]:
    if material.drift >= _MUCH_DRIFT:
        yield (
            f"This machine changed its pace by {material.drift:.0%} from one stretch of a run to the next (standard "
            "deviation). What is measured at another time may differ by as much: keep other work off it and measure again."
        )


def _unfinished(material: Material) -> Iterator[str]:
    stopped = [(path.name, info) for path, info in material.studies.items() if info.status in ("failed", "interrupted")]
    for name, info in [*stopped, *((run.path.name, run.info) for run in material.runs)]:
        why = f": {info.failure}" if info.failure else ""
        if info.status == "running":
            yield f"{name} is still running, or was killed. Only what it has measured so far is shown."
        elif info.status != "completed":
            yield f"{name} {'failed' if info.status == 'failed' else 'was interrupted'}{why}. What it measured before is shown."


def _doubts(material: Material) -> Iterator[str]:
    predicted = material.predicted
    if predicted is None:
        return
    for world_size in sorted({p.world_size for p in predicted.predictions if p.extrapolated}):
        yield f"The prediction for {ranks(world_size)} is extrapolated: no bench ran on {ranks(world_size)}."
    for run in checked_too_early(material):
        yield (
            f"The prediction for {ranks(run.world_size)} was written at {predicted.created_at}, after {run.path.name}, which "
            f"checks it, had started at {run.info.started_at}. It explains; it did not foresee."
        )
    if predicted.profile_run_id not in {run.info.run_id for run in material.runs}:
        yield f"The predictions were made from {predicted.profile_run_id}, which is not among the runs shown here."


def _without_contention(material: Material) -> Iterator[str]:
    """Yield the predictions that were made before contention was measured: a study's stage may fail at first."""
    predicted = material.predicted
    sizes = set() if predicted is None else {p.world_size for p in predicted.predictions if p.model == "schedule"}
    for run in select(material.runs, kind="contention"):
        if predicted is not None and run.world_size in sizes and run.info.run_id not in predicted.run_ids:
            yield (
                f"The prediction for {ranks(run.world_size)} was made without {run.path.name}, which was measured later. What "
                "predicts anew takes it in: commprof predict, or a study in another folder (--out)."
            )


def _doubts_of_strategies(material: Material) -> Iterator[str]:
    """Yield which strategies rest on a wire that was carried over, and which runs began before what was predicted of them."""
    kept = material.sharded
    if kept is None:
        return
    told = [own for choice in kept.choices for own in choice.answers if not own.cannot]
    for n in dict.fromkeys(own.world_size for own in told if own.extrapolated):
        names = ", ".join(own.strategy for own in told if own.world_size == n and own.extrapolated)
        yield f"What is predicted of {names} on {ranks(n)} is extrapolated: a collective was benched on other numbers of ranks."
    for run in select(material.runs, kind="train", synchronised=True):
        answer = kept.of(run)
        if answer is not None and kept.created_at > run.info.started_at:
            yield (
                f"What is predicted of {answer.strategy} on {ranks(run.world_size)} was written at {kept.created_at}, after "
                f"{run.path.name}, which checks it, had started at {run.info.started_at}. It explains; it did not foresee."
            )
