"""A study file -> its stages, in order, and what each will take. Nothing runs here.

    bench, contention   per wire and world size    the wire alone, and how it and computation slow each other; of sharded
                                                   models each collective among as many ranks as it has
    then per model:
    profile             one rank, plain
    then per wire:
    compute             per world size             N ranks side by side, nothing sent
    train               per world size and repeat  the synchronised runs that check the predictions

What is sent is nothing in a compute run, so one wire's would serve all; but a shared machine changes its pace within minutes,
and each cell's computation is measured right before its checks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from commprof.commbench.machine.wire import Wire, parse_wire
from commprof.study.command import words_at
from commprof.study.config import ModelConfig, ScriptConfig, StudyConfig
from commprof.study.sharding import Sharding, benched

StageKind = Literal["bench", "contention", "profile", "compute", "train"]
NOTHING_SHARDED: Final[Mapping[str, Sharding]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of the study: its folder's name, its ranks, the verb that makes it, and the wire that lies between them."""

    name: str
    kind: StageKind
    world_size: int
    argv: tuple[str, ...]
    wire: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """One model on one wire: what is measured right before its predictions are written, and the runs that check them."""

    wire: str | None
    compute: tuple[Stage, ...]
    checks: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    name: str
    profile: Stage
    cells: tuple[CellPlan, ...]
    sharding: Sharding | None = None

    @property
    def stages(self) -> list[Stage]:
        """All of them, in the order in which they run."""
        return [self.profile, *(stage for cell in self.cells for stage in (*cell.compute, *cell.checks))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    wires: tuple[Stage, ...]
    models: tuple[ModelPlan, ...]

    @property
    def stages(self) -> list[Stage]:
        """All of them, in the order in which they run."""
        return [*self.wires, *(stage for model in self.models for stage in model.stages)]


def make_plan(study: StudyConfig, shardings: Mapping[str, Sharding] = NOTHING_SHARDED) -> Plan:
    """Return the stages in the order in which they run; `shardings` are those of the models that are sharded, by name."""
    return Plan(
        wires=tuple(_wire_stages(study, shardings)),
        models=tuple(
            replace(_model_plan(study, training), sharding=shardings.get(training.name)) for training in study.trainings
        ),
    )


def _wire_stages(study: StudyConfig, shardings: Mapping[str, Sharding]) -> Iterator[Stage]:
    bench, contention = study.bench, study.contention
    sizes = ("-b", bench.min_bytes, "-e", bench.max_bytes, "--seconds", f"{bench.seconds:g}", "--place", "in")
    backend = () if study.backend == "auto" else ("--backend", study.backend)
    passes = ("-b", contention.min_bytes, "-e", contention.max_bytes, "-n", str(contention.rounds))
    unsharded = len(shardings) < len(study.trainings)
    all_reduced = [("all_reduce", n) for n in study.parallel_sizes if unsharded]
    others = [own for own in benched(shardings.values(), study.parallel_sizes) if own not in all_reduced]
    for wire in study.own_wires:
        for op, n in others:
            argv = ("bench", op, *sizes, *backend)
            yield Stage(name=_name(f"bench-{op}", n, wire), kind="bench", world_size=n, wire=wire, argv=argv)
        for _, n in all_reduced:
            argv = ("bench", *sizes, *backend)
            yield Stage(name=_name("bench", n, wire), kind="bench", world_size=n, wire=wire, argv=argv)
            if contention.rounds:
                argv = ("contention", *passes, *backend)
                yield Stage(name=_name("contention", n, wire), kind="contention", world_size=n, wire=wire, argv=argv)


def _model_plan(study: StudyConfig, model: ModelConfig | ScriptConfig) -> ModelPlan:
    return ModelPlan(
        name=model.name,
        profile=_train_stage(study, model, "profile", 1, None),
        cells=tuple(_cell_plan(study, model, wire) for wire in study.own_wires),
    )


def _cell_plan(study: StudyConfig, model: ModelConfig | ScriptConfig, wire: str | None) -> CellPlan:
    sizes = study.parallel_sizes
    return CellPlan(
        wire=wire,
        compute=tuple(_train_stage(study, model, "compute", n, wire) for n in sizes),
        checks=tuple(_train_stage(study, model, "train", n, wire, repeat) for repeat in range(study.repeats) for n in sizes),
    )


def _train_stage(
    study: StudyConfig, model: ModelConfig | ScriptConfig, kind: StageKind, world_size: int, wire: str | None, repeat: int = 0
) -> Stage:
    name = f"{model.name}-{_name(kind, world_size, wire)}{f'-r{repeat + 1}' if repeat else ''}"
    argv = _argv(study, model, kind, world_size)
    return Stage(name=name, kind=kind, world_size=world_size, wire=wire, model=model.name, argv=argv)


def _argv(study: StudyConfig, model: ModelConfig | ScriptConfig, kind: StageKind, world_size: int) -> tuple[str, ...]:
    if isinstance(model, ScriptConfig):
        return _record_argv(study, model, kind, world_size)
    return _train_argv(study, model, kind)


def _train_argv(study: StudyConfig, model: ModelConfig, kind: StageKind) -> tuple[str, ...]:
    backend = () if study.backend == "auto" else (f"distributed.backend={study.backend}",)
    return (
        *("train", model.config, *study.overrides, *model.overrides),
        f"experiment_name={model.name}",
        f"distributed.threads_per_rank={study.threads_per_rank}",
        f"distributed.synchronisation={'compute_only' if kind == 'compute' else 'normal'}",
        *backend,
    )


def _record_argv(study: StudyConfig, script: ScriptConfig, kind: StageKind, world_size: int) -> tuple[str, ...]:
    alone = ("--compute-only",) if kind == "compute" else ()
    words = words_at(script.command, world_size, one_per_host=study.starts_each_host)
    return ("record", "--experiment", script.name, "--max-steps", str(script.max_steps), *alone, "--", *words)


def _name(kind: str, world_size: int, wire: str | None) -> str:
    return f"{kind}-n{world_size}{f'-{wire}' if wire else ''}"


def wire_of(stage: Stage) -> Wire:
    """Return the testbed's wire for a stage on several ranks."""
    assert stage.wire is not None, "load_study gives every study on a testbed a wire"
    return parse_wire(stage.wire)
