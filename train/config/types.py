"""A training run as data: defaults < YAML < key=value, checked as a whole before any process starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.records.training import EXCHANGED_PASSES
from commprof.train.config.exchange import STRATEGIES, DistributedConfig, check_exchange
from commprof.train.config.limits import LARGEST
from commprof.train.config.load import load_config

# A window's events stay in memory until its end: 4 to 14 MB a step of the shipped models, with shapes on a CPU up to 90 MB.
_MAX_TRACED_STEPS, _MAX_TRACED_STEPS_WITH_SHAPES = 1000, 100


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
class LoaderConfig:
    """How batches come to the device: the same ones in the same order, whatever is set here.

    `workers` processes of each rank read ahead, `prefetch` batches each; with 0 the rank reads between its steps. `pinned`
    puts batches into page-locked memory, from which a GPU copies without making the host wait; without a GPU it does nothing.
    """

    workers: int = 0
    prefetch: int = 2
    pinned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One step is one update of the weights; `max_steps` ends the run before its epochs do.

    Under weak scaling every rank draws `batch_size` samples a step, under strong scaling all ranks together do. Each rank
    goes through its share in `accumulation` micro-batches of one size; only the last one's backward sends gradients.
    `checkpoint_every` N steps the run's state is saved, so that it can be gone on with; null saves none.

    `precision` float32; bfloat16 and float16 under autocast, the latter with a scaled loss. Weights and gradients stay
    float32. `clip_norm` is the largest norm of all gradients together, null is any.
    `schedule` constant or cosine: the learning rate rises over `warmup_updates` steps to `learning_rate`, and with cosine
    falls to zero at step `decay_updates`, null being the run's last. `compile` runs the model through torch.compile.
    `tensorboard` writes loss, samples/s, learning rate and accuracy to <run>/tensorboard.
    """

    batch_size: int = 32
    accumulation: int = 1
    scaling: str = "weak"
    epochs: int = 1
    max_steps: int | None = None
    checkpoint_every: int | None = None
    precision: str = "float32"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_updates: int = 0
    decay_updates: int | None = None
    weight_decay: float = 0.01
    clip_norm: float | None = None
    compile: bool = False
    seed: int = 0
    evaluate: bool = True
    tensorboard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilingConfig:
    """The first `warmup_steps` of a run stay out of every statistic, and so do the steps that the profiler touches.

    A window is `trace_wait` steps without the profiler, `trace_warmup` that start it and `trace_steps` that it traces;
    there are `trace_repeat` of them. `trace_steps` null are 12, enough to find a rank that is late and to compare with another
    run, and fewer in a run of under 41 steps (schedule.traced_steps). `trace_wait` null puts them at the run's end: nothing the
    profiler leaves behind can then slow a step that counts. `trace_ranks` null traces every rank. Shapes, stacks and memory
    tell more and cost more.
    """

    warmup_steps: int = 5
    trace_steps: int | None = None
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
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    profiling: ProfilingConfig = field(default_factory=ProfilingConfig)


# What each key must be; null is let through where the key's type allows it.
_ABOVE_ZERO = {
    "model": ("vocabulary", "sequence_length", "d_model", "layers", "heads", "feed_forward"),
    "data": ("train_first", "eval_last", "synthetic_articles"),
    "loader": ("prefetch",),
    "training": (
        *("batch_size", "accumulation", "epochs", "max_steps", "checkpoint_every", "learning_rate", "decay_updates"),
        "clip_norm",
    ),
    "distributed": ("bucket_cap_mb", "first_bucket_mb", "powersgd_rank", "timeout_s", "replicas"),
    "profiling": ("trace_warmup", "trace_repeat"),
}
_NOT_NEGATIVE = {
    "loader": ("workers",),
    "training": ("warmup_updates", "weight_decay", "seed"),
    "distributed": ("threads_per_rank",),
    "profiling": ("warmup_steps", "trace_steps"),
}
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {"source": ("csv", "synthetic")},
    "training": {
        "scaling": ("weak", "strong"),
        "precision": ("float32", "bfloat16", "float16"),
        "schedule": ("constant", "cosine"),
    },
    "distributed": {
        "backend": ("auto", "gloo", "nccl"),
        "strategy": STRATEGIES,
        "gather_dtype": ("float32", "bfloat16"),
        "reduce_dtype": ("float32", "bfloat16"),
        "communication_hook": ("none", "fp16", "bf16", "powersgd"),
        "synchronisation": ("normal", "compute_only", "delayed"),
    },
}


def load_train_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file over the defaults, then `section.key=value` overrides; raise BadInput naming key and mend."""
    config = load_config(TrainConfig, path, overrides)
    check_train_config(config)
    return _leaving_out_what_is_exchanged(config)


def _leaving_out_what_is_exchanged(config: TrainConfig) -> TrainConfig:
    """Let the first steps of a compute-only run, in which ranks learn how long to wait, warm up."""
    if config.distributed.synchronisation != "compute_only":
        return config
    warmup_steps = max(config.profiling.warmup_steps, EXCHANGED_PASSES + 1)
    return replace(config, profiling=replace(config.profiling, warmup_steps=warmup_steps))


def check_train_config(config: TrainConfig) -> None:
    """Raise BadInput for a value that no run could use, naming the key and what would do."""
    for key, value in _values(config, _ABOVE_ZERO):
        if value is not None and not value > 0:
            raise BadInput(f"{key}={value} must be above zero")
    for key, value in _values(config, _NOT_NEGATIVE):
        if value is not None and not value >= 0:
            raise BadInput(f"{key}={value} must not be negative")
    for section, limits in LARGEST.items():
        for key, value in _values(config, {section: tuple(limits)}):
            if value is not None and not value <= (largest := limits[key.partition(".")[2]]):
                raise BadInput(f"{key}={value} is too large; use at most {largest:.10g}")
    for section, keys in _CHOICES.items():
        for key, choices in keys.items():
            _check_choice(f"{section}.{key}", getattr(getattr(config, section), key), choices)
    _check_model(config.model)
    _check_profiling(config.profiling)
    _check_schedule(config.training)
    training = config.training
    check_exchange(
        config.distributed,
        accumulation=training.accumulation,
        saves=training.checkpoint_every is not None,
        precision=training.precision,
        compiles=training.compile,
    )


def _values(config: TrainConfig, keys: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, float | None]]:
    for section, names in keys.items():
        for name in names:
            yield f"{section}.{name}", getattr(getattr(config, section), name)


def _check_model(model: ModelConfig) -> None:
    if model.d_model % model.heads:
        nearest = max(heads for heads in range(1, min(model.heads, model.d_model) + 1) if model.d_model % heads == 0)
        raise BadInput(f"model.d_model={model.d_model} is not divisible by model.heads={model.heads}; try heads={nearest}")
    if model.vocabulary < 3:
        raise BadInput(f"model.vocabulary={model.vocabulary} has no room for padding, unknown and one word; use 3 or more")
    if not 0 <= model.dropout < 1:
        raise BadInput(f"model.dropout={model.dropout} must be at least 0 and below 1")


def _check_profiling(profiling: ProfilingConfig) -> None:
    if (profiling.trace_wait or 0) < 0:
        raise BadInput(f"profiling.trace_wait={profiling.trace_wait} must not be negative")
    most = _MAX_TRACED_STEPS_WITH_SHAPES if profiling.trace_shapes else _MAX_TRACED_STEPS
    if profiling.trace_steps is not None and profiling.trace_steps > most:
        kept = f"with trace_shapes={str(profiling.trace_shapes).lower()} at most {most} steps of a window are kept in memory"
        raise BadInput(f"profiling.trace_steps={profiling.trace_steps}: {kept}; trace_repeat takes more windows")
    ranks = profiling.trace_ranks
    if ranks is not None and (not ranks or min(ranks) < 0 or len(ranks) > MAX_RANKS):
        raise BadInput(f"profiling.trace_ranks={ranks} must name ranks from 0 on, for example [0,3]; null traces all of them")


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BadInput(f"{key}={value!r} is not one of {', '.join(choices)}")


def _check_schedule(training: TrainingConfig) -> None:
    if training.decay_updates is None:
        return
    if training.schedule != "cosine":
        raise BadInput(f"training.decay_updates={training.decay_updates} means nothing without training.schedule=cosine")
    if training.decay_updates <= training.warmup_updates:
        raise BadInput(
            f"training.decay_updates={training.decay_updates} is not after training.warmup_updates={training.warmup_updates}; "
            "raise the first or lower the second"
        )
