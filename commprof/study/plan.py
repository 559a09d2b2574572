"""A study file -> its stages, in order, and what each will take. Nothing runs here.

    bench, contention   per wire and world size    the wire alone, and how it and computation slow each other
    then per model:
    profile             one rank, plain
    then per wire:
    compute             per world size             N ranks side by side, nothing sent
    train               per world size and repeat  the synchronised runs that check the predictions

What is sent is nothing in a compute run, so one wire's would serve all; but a shared machine changes its pace within minutes,
and each cell's computation is measured right before its checks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.arguments import MAX_TIMEOUT_S
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import parse_bytes, parse_line_rate
from commprof.testbed.network import MAX_HOSTS
from commprof.testbed.wire import Wire, parse_wire
from commprof.train.config.load import load_config
from commprof.train.config.schedule import count_steps
from commprof.train.config.types import TrainConfig, check_train_config, load_train_config
from commprof.train.text.dataset import prepare_data

StageKind = Literal["bench", "contention", "profile", "compute", "train"]
_MOST = {"threads_per_rank": 4096, "repeats": 1000, "world_sizes": 64, "rounds": 10_000}
LAUNCHERS = ("local", "testbed", "slurm")
BACKENDS = ("auto", "gloo", "nccl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One training configuration, its path relative to the study's file. `name` is the experiment's own unless given."""

    config: str = "small.yaml"
    name: str = ""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSweep:
    """The sweep behind each prediction; sizes as nccl-tests takes them (64M is 64 * 2^20 bytes). `seconds` bounds the sweep."""

    min_bytes: str = "8"
    max_bytes: str = "64M"
    seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentionSweep:
    """How computation and communication slow each other; the size nearest a model's median bucket is used. 0 rounds: none."""

    min_bytes: str = "1M"
    max_bytes: str = "16M"
    rounds: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmConfig:
    """Where the sbatch files are, relative to the study's file; sbatch's own options for all jobs; ranks on each node."""

    scripts: str = "../slurm"
    options: tuple[str, ...] = ()
    ranks_per_node: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """`overrides` are key=value for the training runs of all models; `wires` are the rates of a testbed's lines.

    `threads_per_rank` is the same at every world size: ranks are compared, not thread counts. `backend` is that of all stages:
    auto takes nccl where there is CUDA and a GPU for each rank.
    """

    name: str = "study"
    models: list[ModelConfig] = field(default_factory=lambda: [ModelConfig()])  # OmegaConf checks the items of lists only
    overrides: tuple[str, ...] = ()
    world_sizes: tuple[int, ...] = (1, 2)
    wires: tuple[str, ...] = ()
    repeats: int = 1
    threads_per_rank: int = 1
    launcher: str = "local"
    backend: str = "auto"
    bench: BenchSweep = field(default_factory=BenchSweep)
    contention: ContentionSweep = field(default_factory=ContentionSweep)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    @property
    def own_wires(self) -> tuple[str | None, ...]:
        """The wires by name, or the machine's own, which has none."""
        return self.wires or (None,)

    @property
    def is_grid(self) -> bool:
        """Whether there is more than one model on one wire."""
        return len(self.models) * len(self.own_wires) > 1

    @property
    def parallel_sizes(self) -> list[int]:
        return sorted(set(self.world_sizes) - {1})


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


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study, its training configurations and their data; the paths in it come back absolute.

    Raises BadInput naming the key and the mend.
    """
    study = load_config(StudyConfig, path, overrides)
    if not study.name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"{path}: name {study.name!r} names a folder; use letters, digits, - and _")
    if 1 not in study.world_sizes or len(set(study.world_sizes)) < 2 or min(study.world_sizes) < 1:
        raise BadInput(f"{path}: world_sizes {list(study.world_sizes)} must hold 1 and at least one larger size")
    for key, value in (("threads_per_rank", study.threads_per_rank), ("repeats", study.repeats)):
        if not 1 <= value <= _MOST[key]:
            raise BadInput(f"{path}: {key}={value} must be 1 to {_MOST[key]}")
    if max(study.world_sizes) > MAX_RANKS or len(study.world_sizes) > _MOST["world_sizes"]:
        raise BadInput(f"{path}: world_sizes: at most {_MOST['world_sizes']} sizes of at most {MAX_RANKS} ranks")
    if study.backend not in BACKENDS:
        raise BadInput(f"{path}: backend {study.backend!r} is not known; use {', '.join(BACKENDS)}")
    _check_launcher(path, study)
    _check_sweeps(path, study)
    wires = tuple(parse_wire(wire).name for wire in study.wires)
    if len(set(wires)) < len(wires) or len(set(study.world_sizes)) < len(study.world_sizes):
        raise BadInput(f"{path}: wires {list(wires)} and world_sizes {list(study.world_sizes)} must each be named once")
    models = [_named(path, study, model) for model in study.models]
    if len({model.name for model in models}) < len(models) or not models:
        raise BadInput(f"{path}: models need names of their own, here {[model.name for model in models]}; set models[].name")
    scripts = str((path.parent / study.slurm.scripts).resolve())
    return replace(study, models=models, wires=wires, slurm=replace(study.slurm, scripts=scripts))


def make_plan(study: StudyConfig) -> Plan:
    """Return the stages in the order in which they run."""
    return Plan(wires=tuple(_wire_stages(study)), models=tuple(_model_plan(study, model) for model in study.models))


def train_config(study: StudyConfig, model: ModelConfig) -> TrainConfig:
    """Return a model's training configuration with the study's and its own overrides."""
    return load_train_config(Path(model.config), [*study.overrides, *model.overrides])


def _check_launcher(path: Path, study: StudyConfig) -> None:
    if study.launcher not in LAUNCHERS:
        raise BadInput(f"{path}: launcher {study.launcher!r} is not known; use {', '.join(LAUNCHERS)}")
    if study.launcher == "testbed":
        for wire in study.wires:
            parse_line_rate(wire)
        if not study.wires or max(study.world_sizes) > MAX_HOSTS:
            raise BadInput(f"{path}: a testbed needs wires, such as [200mbit, 1gbit], and at most {MAX_HOSTS} hosts")
    elif study.wires:
        raise BadInput(f"{path}: wires are made by launcher: testbed; launcher: {study.launcher} has the machine's own")
    if not 1 <= study.slurm.ranks_per_node <= MAX_RANKS:
        raise BadInput(f"{path}: slurm.ranks_per_node={study.slurm.ranks_per_node} must be 1 to {MAX_RANKS}")


def _check_sweeps(path: Path, study: StudyConfig) -> None:
    for name, sweep in (("bench", study.bench), ("contention", study.contention)):
        if not 0 < parse_bytes(sweep.min_bytes) <= parse_bytes(sweep.max_bytes):
            raise BadInput(f"{path}: {name} needs 0 < min_bytes <= max_bytes")
    if not 0 < study.bench.seconds <= MAX_TIMEOUT_S or not 0 <= study.contention.rounds <= _MOST["rounds"]:
        raise BadInput(
            f"{path}: bench.seconds must be above 0, at most {MAX_TIMEOUT_S:g}; contention.rounds 0 to {_MOST['rounds']}"
        )


def _named(path: Path, study: StudyConfig, model: ModelConfig) -> ModelConfig:
    """Check one model's configuration and data at every world size; return it with its name and an absolute path."""
    model = replace(model, config=str((path.parent / model.config).resolve()))
    config = train_config(study, model)
    check_train_config(config)
    if config.distributed.backend not in ("auto", study.backend) and study.backend != "auto":
        own = f"distributed.backend={config.distributed.backend}"
        raise BadInput(f"{path}: {model.config} has {own} and the study backend={study.backend}; name it once, in the study")
    if config.distributed.strategy != "ddp":
        raise BadInput(
            f"{path}: {model.config} has distributed.strategy={config.distributed.strategy}, and a study predicts DDP's "
            "schedule; run the trainings and compare them by commprof predict --strategy"
        )
    training, _ = prepare_data(config.data, config.model)
    for world_size in study.world_sizes:
        count_steps(len(training.labels), config, world_size)
    name = model.name or config.experiment_name
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"{path}: model name {name!r} names folders; use letters, digits, - and _")
    return replace(model, name=name)


def _wire_stages(study: StudyConfig) -> Iterator[Stage]:
    bench, contention = study.bench, study.contention
    sizes = ("-b", bench.min_bytes, "-e", bench.max_bytes, "--seconds", f"{bench.seconds:g}", "--place", "in")
    backend = () if study.backend == "auto" else ("--backend", study.backend)
    passes = ("-b", contention.min_bytes, "-e", contention.max_bytes, "-n", str(contention.rounds))
    for wire in study.own_wires:
        for n in study.parallel_sizes:
            argv = ("bench", *sizes, *backend)
            yield Stage(name=_name("bench", n, wire), kind="bench", world_size=n, wire=wire, argv=argv)
            if contention.rounds:
                argv = ("contention", *passes, *backend)
                yield Stage(name=_name("contention", n, wire), kind="contention", world_size=n, wire=wire, argv=argv)


def _model_plan(study: StudyConfig, model: ModelConfig) -> ModelPlan:
    return ModelPlan(
        name=model.name,
        profile=_train_stage(study, model, "profile", 1, None),
        cells=tuple(_cell_plan(study, model, wire) for wire in study.own_wires),
    )


def _cell_plan(study: StudyConfig, model: ModelConfig, wire: str | None) -> CellPlan:
    sizes = study.parallel_sizes
    return CellPlan(
        wire=wire,
        compute=tuple(_train_stage(study, model, "compute", n, wire) for n in sizes),
        checks=tuple(_train_stage(study, model, "train", n, wire, repeat) for repeat in range(study.repeats) for n in sizes),
    )


def _train_stage(
    study: StudyConfig, model: ModelConfig, kind: StageKind, world_size: int, wire: str | None, repeat: int = 0
) -> Stage:
    own: tuple[str, ...] = (
        f"experiment_name={model.name}",
        f"distributed.threads_per_rank={study.threads_per_rank}",
        f"distributed.synchronisation={'compute_only' if kind == 'compute' else 'normal'}",
    )
    if study.backend != "auto":
        own = (*own, f"distributed.backend={study.backend}")
    name = f"{model.name}-{_name(kind, world_size, wire)}{f'-r{repeat + 1}' if repeat else ''}"
    argv = ("train", model.config, *study.overrides, *model.overrides, *own)
    return Stage(name=name, kind=kind, world_size=world_size, wire=wire, model=model.name, argv=argv)


def _name(kind: str, world_size: int, wire: str | None) -> str:
    return f"{kind}-n{world_size}{f'-{wire}' if wire else ''}"


def wire_of(stage: Stage) -> Wire:
    """Return the testbed's wire for a stage on several ranks."""
    assert stage.wire is not None, "load_study gives every study on a testbed a wire"
    return parse_wire(stage.wire)
