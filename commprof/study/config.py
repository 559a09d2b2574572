"""What may a study ask for? Its YAML, or words of the command line, checked before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.ranks.arguments import MAX_TIMEOUT_S
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import parse_bytes, parse_line_rate
from commprof.study.command import MAX_NAME, check_command, name_of
from commprof.study.sharding import SCRIPT_STRATEGIES, STRATEGY_OVERRIDES, Sharding, script_sharding, sharding_of
from commprof.testbed.fabric import MAX_HOSTS
from commprof.train.config.exchange import check_replicas
from commprof.train.config.load import load_config
from commprof.train.config.schedule import count_steps
from commprof.train.config.types import TrainConfig, check_train_config, load_train_config
from commprof.train.text.dataset import prepare_data

_MOST = {"threads_per_rank": 4096, "repeats": 1000, "world_sizes": 64, "rounds": 10_000, "max_steps": 10**6}
_FEWEST_STEPS = 12  # of a script: its first is not recorded, five are warm-up
LAUNCHERS = ("local", "testbed", "slurm")
BACKENDS = ("auto", "gloo", "nccl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One training configuration, its path relative to the study's file. `name` is the experiment's own unless given."""

    config: str = "small.yaml"
    name: str = ""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptConfig:
    """A training that is not ours, as its user types it where the study is started; `name` is after its script unless given.

    Each of its runs is ended after `max_steps` optimizer steps, where the script does not end earlier by itself. `strategy`
    (ddp, fsdp, hsdp, zero2) is how it shares the work out: one that calls fully_shard is predicted as that, from its units.
    `replicas` are the copies of the shards that it makes as hsdp.
    """

    command: str = ""
    name: str = ""
    max_steps: int = 60
    strategy: str = "ddp"
    replicas: int = 2


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

    `strategies` (ddp, fsdp, hsdp, zero2) makes one training a strategy of each model; none leaves each its own.
    `threads_per_rank` is the same at every world size: ranks are compared, not thread counts. `backend` is that of all stages:
    auto takes nccl where there is CUDA and a GPU for each rank. From `scripts` gloo hides the GPUs that there are.
    """

    name: str = "study"
    models: list[ModelConfig] = field(default_factory=list)  # OmegaConf checks the items of lists only
    scripts: list[ScriptConfig] = field(default_factory=list)
    overrides: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
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
    def trainings(self) -> list[ModelConfig | ScriptConfig]:
        return [*self.models, *self.scripts]

    @property
    def starts_each_host(self) -> bool:
        """Whether a script's command is started once on every host, with the ranks' variables or by torchrun there."""
        return self.launcher != "local"

    @property
    def is_grid(self) -> bool:
        """Whether there is more than one training on one wire."""
        return len(self.trainings) * len(self.own_wires) > 1

    @property
    def parallel_sizes(self) -> list[int]:
        return sorted(set(self.world_sizes) - {1})


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study, its training configurations and their data; the paths in it come back absolute.

    Raises BadInput naming the key and the mend.
    """
    return _checked(load_config(StudyConfig, path, overrides), str(path), path.parent)


def script_study(script: ScriptConfig, overrides: Sequence[str] = ()) -> StudyConfig:
    """Return the study of one script, checked as one from a file is; it is named after the script."""
    origin = "--script"
    study = load_config(StudyConfig, None, overrides)
    if study.models or study.scripts:
        raise BadInput(f"{origin}: models and scripts of a study stand in its file; give that, or {origin}")
    named = _named_script(origin, study, script)
    name = f"study-{named.name}" if study.name == StudyConfig().name else study.name
    return _checked(replace(study, name=name, scripts=[named]), origin, Path())


def _checked(study: StudyConfig, path: str, home: Path) -> StudyConfig:
    """Check a study; `path` says in errors where it stands, and `home` is what its paths are relative to."""
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
    if study.strategies and study.scripts and not study.models:
        raise BadInput(
            f"{path}: strategies are for commprof's own trainer; a script's is told by --strategy or scripts[].strategy"
        )
    wires = tuple(parse_wire(wire).name for wire in study.wires)
    if len(set(wires)) < len(wires) or len(set(study.world_sizes)) < len(study.world_sizes):
        raise BadInput(f"{path}: wires {list(wires)} and world_sizes {list(study.world_sizes)} must each be named once")
    study = replace(
        study,
        models=[own for model in study.models for own in _by_strategy(path, study, _named(path, home, study, model))],
        strategies=(),  # each is a model's by now
        scripts=[_named_script(path, study, script) for script in study.scripts],
        wires=wires,
        slurm=replace(study.slurm, scripts=str((home / study.slurm.scripts).resolve())),
    )
    _check_names(path, study)
    return study


def _check_names(path: str, study: StudyConfig) -> None:
    names = [training.name for training in study.trainings]
    if len(set(names)) < len(names) or not names:
        raise BadInput(f"{path}: models and scripts need names of their own, here {names}; set models[].name or scripts[].name")
    if study.overrides and not study.models:
        raise BadInput(f"{path}: overrides are for commprof's own trainer; a script's arguments stand in its command")


def _named_script(path: str, study: StudyConfig, script: ScriptConfig) -> ScriptConfig:
    """Check a script's command for the study's launcher; return it with its name."""
    try:
        check_command(script.command, one_per_host=study.starts_each_host)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not _FEWEST_STEPS <= script.max_steps <= _MOST["max_steps"]:
        raise BadInput(f"{path}: max_steps={script.max_steps} must be {_FEWEST_STEPS} to {_MOST['max_steps']}")
    if script.strategy not in SCRIPT_STRATEGIES:
        raise BadInput(f"{path}: a script's strategy {script.strategy!r} is not one of {', '.join(SCRIPT_STRATEGIES)}")
    if script.strategy == "hsdp":
        _check_script_replicas(path, study, script.replicas)
    return replace(script, name=_folder_name(path, script.name or name_of(script.command)))


def _check_script_replicas(path: str, study: StudyConfig, replicas: int) -> None:
    if replicas < 2:
        raise BadInput(f"{path}: replicas={replicas}: hsdp keeps 2 copies or more; one is fsdp")
    for world_size in study.parallel_sizes:
        if world_size % replicas:
            raise BadInput(f"{path}: replicas={replicas} does not divide {world_size} ranks; use a divisor of {world_size}")


def _folder_name(path: str, name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"{path}: model name {name!r} names folders; use letters, digits, - and _")
    if len(name) > MAX_NAME:
        raise BadInput(f"{path}: model name {name[:20]!r}... has {len(name)} letters and names folders; use at most {MAX_NAME}")
    return name


def train_config(study: StudyConfig, model: ModelConfig) -> TrainConfig:
    """Return a model's training configuration with the study's and its own overrides."""
    return load_train_config(Path(model.config), [*study.overrides, *model.overrides])


def _check_launcher(path: str, study: StudyConfig) -> None:
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


def _check_sweeps(path: str, study: StudyConfig) -> None:
    for name, sweep in (("bench", study.bench), ("contention", study.contention)):
        if not 0 < parse_bytes(sweep.min_bytes) <= parse_bytes(sweep.max_bytes):
            raise BadInput(f"{path}: {name} needs 0 < min_bytes <= max_bytes")
    if not 0 < study.bench.seconds <= MAX_TIMEOUT_S or not 0 <= study.contention.rounds <= _MOST["rounds"]:
        raise BadInput(
            f"{path}: bench.seconds must be above 0, at most {MAX_TIMEOUT_S:g}; contention.rounds 0 to {_MOST['rounds']}"
        )


def _named(path: str, home: Path, study: StudyConfig, model: ModelConfig) -> ModelConfig:
    """Check one model's configuration and data at every world size; return it with its name and an absolute path."""
    model = replace(model, config=str((home / model.config).resolve()))
    config = train_config(study, model)
    check_train_config(config)
    if config.distributed.backend not in ("auto", study.backend) and study.backend != "auto":
        own = f"distributed.backend={config.distributed.backend}"
        raise BadInput(f"{path}: {model.config} has {own} and the study backend={study.backend}; name it once, in the study")
    training, _ = prepare_data(config.data, config.model)
    for world_size in study.world_sizes:
        count_steps(len(training.labels), config, world_size)
    return replace(model, name=_folder_name(path, model.name or config.experiment_name))


def _by_strategy(path: str, study: StudyConfig, model: ModelConfig) -> list[ModelConfig]:
    """Return the model once a strategy of the study, named after both; as it is where the study names none."""
    unknown = [own for own in study.strategies if own not in STRATEGY_OVERRIDES]
    if unknown or len(set(study.strategies)) < len(study.strategies):
        names = ", ".join(STRATEGY_OVERRIDES)
        raise BadInput(f"{path}: strategies {list(study.strategies)} must each be one of {names}, and be named once")
    found = [
        replace(model, name=f"{model.name}-{own}", overrides=(*model.overrides, *STRATEGY_OVERRIDES[own]))
        for own in study.strategies
    ] or [model]
    for own in found:
        distributed = train_config(study, own).distributed
        check_train_config(train_config(study, own))
        for world_size in study.parallel_sizes:
            check_replicas(distributed, world_size)
    return found


def shardings_of(study: StudyConfig) -> dict[str, Sharding]:
    """Return by name how those of its trainings are sharded that are."""
    found = {model.name: sharding_of(train_config(study, model).distributed) for model in study.models}
    found |= {script.name: script_sharding(script.strategy, script.replicas) for script in study.scripts}
    return {name: own for name, own in found.items() if own is not None}
