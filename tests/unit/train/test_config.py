from pathlib import Path

import pytest

from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.train.config.exchange import DistributedConfig, check_replicas
from commprof.train.config.load import dump_config
from commprof.train.config.types import TrainConfig, load_train_config
from tests import ROOT


def load(tmp_path: Path, text: str, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_train_config(path, overrides)


def test_the_command_line_beats_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "training: {batch_size: 16, epochs: 3}", "training.batch_size=64")
    assert (config.training.batch_size, config.training.epochs, config.training.learning_rate) == (64, 3, 1e-3)


def test_the_saved_configuration_makes_the_same_run(tmp_path: Path) -> None:
    config = load(tmp_path, "model: {d_model: 64}", "data.train_first=100")
    assert load(tmp_path, dump_config(config)) == config


def test_what_a_compute_only_run_exchanges_at_first_warms_up(tmp_path: Path) -> None:
    """Four steps, and the first in which its ranks wait; a longer warm-up stays, and another run's is its own."""
    alone, words = "distributed.synchronisation=compute_only", "profiling.warmup_steps="
    assert load(tmp_path, "", alone, f"{words}2").profiling.warmup_steps == 5
    assert load(tmp_path, "", alone, f"{words}9").profiling.warmup_steps == 9
    assert load(tmp_path, "", f"{words}2").profiling.warmup_steps == 2


@pytest.mark.parametrize("name", ["small", "large", "medium-25m", "gpt-124m", "gpt-350m"])
def test_the_shipped_configurations_load(name: str) -> None:
    assert load_train_config(ROOT / "configs" / f"{name}.yaml").experiment_name == name


@pytest.mark.parametrize(
    ("distributed", "caps_mib"),
    [
        ({}, (1, 25)),
        ({"bucket_cap_mb": 4}, (4, 4)),
        ({"bucket_cap_mb": 4, "first_bucket_mb": 0.5}, (0.5, 4)),
        ({"first_bucket_mb": 2}, (2, 25)),
    ],
)
def test_a_cap_of_ones_own_replaces_both_of_ddps_unless_the_first_is_named(
    distributed: dict[str, float], caps_mib: tuple[float, float]
) -> None:
    assert DistributedConfig(**distributed).bucket_caps_bytes == tuple(cap * 2**20 for cap in caps_mib)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("model: {dmodel: 64}", (), "unknown key model.dmodel; did you mean model.d_model"),
        ("", ("training.batchsize=8",), "the command line: unknown key training.batchsize; did you mean training.batch_size"),
        ("zzz: 1", (), "unknown key zzz; known are"),
        ("model: {d_model: wide}", (), "model.d_model: Value 'wide'"),
        ("model: {d_model: 1.5}", (), "model.d_model: Value '1.5'"),
        ("model: {d_model: null}", (), "model.d_model: Incompatible value 'None'"),
        ("model: 3", (), "model is a section"),
        ("model: {d_model: 100}", (), "model.d_model=100 is not divisible by model.heads=8; try heads=5"),
        ("distributed: {strategy: zero3}", (), "distributed.strategy='zero3' is not one of ddp, fsdp, hsdp"),
        ("distributed: {strategy: fsdp, bucket_cap_mb: 4}", (), "bucket_cap_mb=4.0 is DDP's and means nothing with"),
        ("distributed: {strategy: hsdp, communication_hook: bf16}", (), "communication_hook=bf16 is DDP's"),
        ("distributed: {strategy: fsdp, synchronisation: delayed}", (), "delayed delays DDP's buckets"),
        ("distributed: {strategy: fsdp}", ("training.precision=float16",), "use bfloat16"),
        ("distributed: {strategy: fsdp}", ("training.compile=true",), "training.compile=true is not offered with"),
        ("distributed: {gather_dtype: bfloat16}", (), "gather_dtype=bfloat16 is of sharded trainings"),
        ("distributed: {strategy: fsdp, reduce_dtype: float16}", (), "'float16' is not one of float32, bfloat16"),
        ("distributed: {strategy: hsdp, replicas: 0}", (), "distributed.replicas=0 must be above zero"),
        ("training: {batch_size: 0}", (), "training.batch_size=0 must be above zero"),
        ("model: {dropout: 1.0}", (), "model.dropout=1.0"),
        ("data: {source: web}", (), "data.source='web' is not one of csv, synthetic"),
        ("training: {scaling: medium}", (), "training.scaling='medium' is not one of weak, strong"),
        ("training: {precision: half}", (), "training.precision='half' is not one of float32, bfloat16, float16"),
        ("training: {schedule: linear}", (), "training.schedule='linear' is not one of constant, cosine"),
        ("training: {accumulation: 0}", (), "training.accumulation=0 must be above zero"),
        ("training: {clip_norm: 0}", (), "training.clip_norm=0.0 must be above zero"),
        ("training: {decay_updates: 9}", (), "training.decay_updates=9 means nothing without training.schedule=cosine"),
        ("training: {schedule: cosine, warmup_updates: 9, decay_updates: 9}", (), "is not after training.warmup_updates=9"),
        ("loader: {workers: -1}", (), "loader.workers=-1 must not be negative"),
        ("loader: {prefetch: 0}", (), "loader.prefetch=0 must be above zero"),
        ("distributed: {synchronise: false}", (), "did you mean distributed.synchronisation"),
        ("distributed: {synchronisation: never}", (), "is not one of normal, compute_only, delayed"),
        ("distributed: {communication_hook: int8}", (), "'int8' is not one of none, fp16, bf16, powersgd"),
        ("distributed: {communication_hook: powersgd, powersgd_start: 1}", (), "distributed.powersgd_start=1 is too early"),
        ("distributed: {communication_hook: powersgd}", ("training.checkpoint_every=9",), "checkpoint_every saves no state of"),
        ("distributed: {static_graph: true}", ("training.accumulation=2",), "cannot go with training.accumulation=2"),
        ("profiling: {warmup_steps: -1}", (), "profiling.warmup_steps=-1 must not be negative"),
        ("", ("profiling.trace_steps=101",), "with trace_shapes=true at most 100 steps of a window are kept in memory"),
        ("", ("profiling.trace_steps=1001", "profiling.trace_shapes=false"), "trace_shapes=false at most 1000 steps"),
        ("", ("profiling.trace_warmup=0",), "profiling.trace_warmup=0 must be above zero"),
        ("", ("profiling.trace_ranks=[0,-1]",), r"profiling.trace_ranks=[0, -1] must name ranks from 0 on"),
        ("", ("profiling.trace_ranks=[]",), r"profiling.trace_ranks=[] must name ranks"),
        ("", ("profiling.trace_ranks=all",), "profiling.trace_ranks"),
        ("", ("training.epochs",), "is not key=value"),
        ("[1, 2]", (), "must be a mapping of sections"),
        ("0", (), "must be a mapping of sections"),
        ("model: [", (), "is not valid YAML"),
        ("\x00", (), "is not valid YAML"),
        ("a: &a [1]\nb: *a", (), "aliases"),
        ("experiment_name: ${oc.env:HOME}", (), "interpolation"),
        ("", ("experiment_name=${oc.env:HOME}",), "interpolation"),
        ("experiment_name: !!python/object/apply:os.system ['true']", (), "is not valid YAML"),
        ("[" * 1500, (), "nested without end"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path: Path, text: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, text, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*none\.yaml: No such file"):
        load_train_config(tmp_path / "none.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(BadInput, match="not a configuration"):
        load_train_config(tmp_path / "huge.yaml")


def test_the_saved_configuration_shows_no_credential(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("experiment_name: mine")
    config = load_train_config(tmp_path / "x.yaml", ["data.url=https://user:SECRET@host/x"])
    assert config.data.url == "https://user:SECRET@host/x"
    assert "url: https://***@host/x" in dump_config(config)


@pytest.mark.parametrize("words", [[], ["training.max_steps=50"]])
def test_a_training_without_a_configuration_is_told_what_to_type(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "name a configuration first: commprof train configs/" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {seed: " + "[" * 3000 + "]" * 3000 + "}", "nested without end"),
        ("[" * 500_000, "nested without end"),
        ("a: [" + "1," * 100_000 + "]", "holds more than a configuration does"),
        ("training: {seed: " + "9" * 5000 + "}", "4300 digits"),
        ("training: {seed: 2026-99-99}", "could not be converted"),
        ("training: {seed: !!python/object/apply:os.system [id]}", "not valid YAML"),
    ],
    ids=["nested", "nested far", "many values", "digits", "date", "object"],
)
def test_what_no_yaml_holds_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match=said):
        load_train_config(tmp_path / "x.yaml")


def test_copies_of_shards_divide_the_ranks() -> None:
    own = DistributedConfig(strategy="hsdp", replicas=2)
    check_replicas(own, 4)
    check_replicas(own, 1)
    check_replicas(DistributedConfig(strategy="fsdp"), 3)
    with pytest.raises(BadInput, match=r"replicas=2 does not divide 3 ranks"):
        check_replicas(own, 3)
