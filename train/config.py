"""A training run as data: defaults < YAML < key=value, checked as a whole before any process starts.

The file is untrusted: YAML is loaded safely, aliases and interpolations are refused (an alias bomb grows without bound,
an interpolation could copy an environment variable into the run folder).
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from commbench.errors import BadInput

_MAX_CONFIG_BYTES = 2**20
# A window's events stay in memory until its end: 4 to 14 MB a step of the shipped models, with shapes on a CPU up to 90 MB.
_MAX_TRACED_STEPS, _MAX_TRACED_STEPS_WITH_SHAPES = 1000, 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A transformer encoder with a classification head. Widths in features, lengths in tokens."""

    vocabulary: int = 12000
    sequence_length: int = 128
    d_model: int = 128
    layers: int = 2
    heads: int = 8
    feed_forward: int = 512
    dropout: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """AG News' own CSV files (class from 1, title, description), or synthetic text of the same shape.

    `train_first` and `eval_last` cut the files, so that one file can serve as both. With `download`, files that are
    missing are fetched from `url`/train.csv and `url`/test.csv and checked against their published MD5 sums.
    """

    source: str = "synthetic"
    train_csv: str = "data/ag_news_csv/train.csv"
    eval_csv: str = "data/ag_news_csv/test.csv"
    train_first: int | None = None
    eval_last: int | None = None
    download: bool = False
    url: str = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
    synthetic_articles: int = 16000
    synthetic_seed: int = 0
    cache_dir: str = "~/.cache/commprof"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """`max_steps` ends the run before its epochs do.

    Under weak scaling every rank draws `batch_size` samples a step, under strong scaling all ranks together do.
    `checkpoint_every` N steps the run's state is saved, so that it can be gone on with; null saves none.
    """

    batch_size: int = 32
    scaling: str = "weak"
    epochs: int = 1
    max_steps: int | None = None
    checkpoint_every: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    evaluate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedConfig:
    """`threads_per_rank` 0 shares the host's cores among its ranks. `bucket_cap_mb` null keeps DDP's 1 then 25 MiB.

    `synchronise: false` makes a compute-only run: every step under `no_sync`, nothing on the wire.
    """

    backend: str = "auto"
    threads_per_rank: int = 0
    bucket_cap_mb: float | None = None
    synchronise: bool = True
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilingConfig:
    """The first `warmup_steps` of a run stay out of every statistic, and so do the steps that the profiler touches.

    A window is `trace_wait` steps without the profiler, `trace_warmup` that start it and `trace_steps` that it traces;
    there are `trace_repeat` of them. `trace_wait` null puts them at the run's end: nothing the profiler leaves behind can
    then slow a step that counts. `trace_ranks` null traces every rank. Shapes, stacks and memory tell more and cost more.
    """

    warmup_steps: int = 5
    trace_steps: int = 3
    trace_wait: int | None = None
    trace_warmup: int = 1
    trace_repeat: int = 1
    trace_ranks: list[int] | None = None
    trace_shapes: bool = True
    trace_stacks: bool = False
    trace_memory: bool = False
    perfetto_hint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    experiment_name: str = "small"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    profiling: ProfilingConfig = field(default_factory=ProfilingConfig)


def load_train_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file over the defaults, then `section.key=value` overrides; raise BadInput naming key and mend."""
    config = load_config(TrainConfig, path, overrides)
    check_train_config(config)
    return config


def load_config(schema: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Merge YAML and overrides into a dataclass; raise BadInput for unknown keys and values of the wrong type."""
    file_layer = _read_yaml(path)
    override_layer = _parse_overrides(overrides)
    merged = OmegaConf.structured(schema)
    OmegaConf.set_readonly(merged, False)
    for origin, layer in ((str(path), file_layer), ("the command line", override_layer)):
        _refuse_unknown_keys(schema, layer, origin)
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "a section"
            reason = str(error).splitlines()[0]
            raise BadInput(f"{origin}: {key}: {reason}; give a value of the documented type") from None
    result = OmegaConf.to_object(merged)
    assert isinstance(result, schema)
    return result


def dump_config(config: Any) -> str:  # noqa: ANN401  any of the dataclasses above
    """Write the resolved configuration as YAML, to be saved with the run."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def check_train_config(config: TrainConfig) -> None:
    """Raise BadInput for a value that no run could use, naming the key and what would do."""
    model, data, distributed = config.model, config.data, config.distributed
    positive = {
        **{f"model.{key}": getattr(model, key) for key in ("vocabulary", "sequence_length", "d_model", "layers", "heads")},
        "model.feed_forward": model.feed_forward,
        "training.batch_size": config.training.batch_size,
        "training.epochs": config.training.epochs,
        "training.max_steps": config.training.max_steps,
        "training.checkpoint_every": config.training.checkpoint_every,
        "training.learning_rate": config.training.learning_rate,
        "data.train_first": data.train_first,
        "data.eval_last": data.eval_last,
        "data.synthetic_articles": data.synthetic_articles,
        "distributed.bucket_cap_mb": distributed.bucket_cap_mb,
        "distributed.timeout_s": distributed.timeout_s,
    }
    for key, value in positive.items():
        if value is not None and not value > 0:
            raise BadInput(f"{key}={value} must be above zero")
    if distributed.threads_per_rank < 0:
        raise BadInput(f"distributed.threads_per_rank={distributed.threads_per_rank} must not be negative")
    _check_profiling(config.profiling)
    _check_model(model)
    _check_choice("training.scaling", config.training.scaling, ("weak", "strong"))
    _check_choice("data.source", data.source, ("csv", "synthetic"))
    _check_choice("distributed.backend", distributed.backend, ("auto", "gloo", "nccl"))


def _check_model(model: ModelConfig) -> None:
    if model.d_model % model.heads:
        nearest = max(heads for heads in range(1, model.heads + 1) if model.d_model % heads == 0)
        raise BadInput(f"model.d_model={model.d_model} is not divisible by model.heads={model.heads}; try heads={nearest}")
    if model.vocabulary < 3:
        raise BadInput(f"model.vocabulary={model.vocabulary} has no room for padding, unknown and one word; use 3 or more")
    if not 0 <= model.dropout < 1:
        raise BadInput(f"model.dropout={model.dropout} must be at least 0 and below 1")


def _check_profiling(profiling: ProfilingConfig) -> None:
    for key in ("warmup_steps", "trace_steps", "trace_wait"):
        if (getattr(profiling, key) or 0) < 0:
            raise BadInput(f"profiling.{key}={getattr(profiling, key)} must not be negative")
    for key in ("trace_warmup", "trace_repeat"):
        if getattr(profiling, key) < 1:
            raise BadInput(f"profiling.{key}={getattr(profiling, key)} must be above zero")
    most = _MAX_TRACED_STEPS_WITH_SHAPES if profiling.trace_shapes else _MAX_TRACED_STEPS
    if profiling.trace_steps > most:
        kept = f"with trace_shapes={str(profiling.trace_shapes).lower()} at most {most} steps of a window are kept in memory"
        raise BadInput(f"profiling.trace_steps={profiling.trace_steps}: {kept}; trace_repeat takes more windows")
    ranks = profiling.trace_ranks
    if ranks is not None and (not ranks or min(ranks) < 0):
        raise BadInput(f"profiling.trace_ranks={ranks} must name ranks from 0 on, for example [0,3]; null traces all of them")


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BadInput(f"{key}={value!r} is not one of {', '.join(choices)}")


def _read_yaml(path: Path) -> DictConfig:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(raw) > _MAX_CONFIG_BYTES:
        raise BadInput(f"{path} is larger than {_MAX_CONFIG_BYTES} bytes; this is not a configuration")
    try:
        text = raw.decode("utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise BadInput(f"{path} uses YAML aliases, which are not supported; write the values out")
        layer = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(layer, DictConfig):
        raise BadInput(f"{path} must be a mapping of sections, such as 'training:' with keys below it")
    return _without_interpolation(layer, str(path))


def _parse_overrides(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise BadInput(f"override {override!r} is not key=value; write for example training.batch_size=64")
    try:
        layer = OmegaConf.from_dotlist(list(overrides))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise BadInput(f"the command line: {' '.join(str(error).split())[:200]}") from None
    return _without_interpolation(layer, "the command line")


def _without_interpolation(layer: DictConfig, origin: str) -> DictConfig:
    if "${" in str(OmegaConf.to_container(layer, resolve=False)):
        raise BadInput(f"{origin} uses ${{...}} interpolation, which is not supported; write the value out")
    return layer


def _refuse_unknown_keys(schema: type, layer: DictConfig, origin: str, prefix: str = "") -> None:
    known = {item.name for item in fields(schema)}
    types = get_type_hints(schema)
    for key in layer:
        name = str(key)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            mend = f"did you mean {prefix}{close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise BadInput(f"{origin}: unknown key {prefix}{name}; {mend}")
        section = types[name]
        if is_dataclass(section):
            value = layer[name]
            if not isinstance(value, DictConfig):
                raise BadInput(f"{origin}: {prefix}{name} is a section; write its keys below it, not {str(value)!r}")
            assert isinstance(section, type)
            _refuse_unknown_keys(section, value, origin, f"{prefix}{name}.")
