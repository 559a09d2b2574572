import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.cli import main
from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.machine.hardware import usable_cores
from commprof.commbench.records.rundir import create_run
from commprof.study.backend import with_backend
from commprof.study.config import ModelConfig, StudyConfig, load_study, shardings_of
from commprof.study.estimate import TimeLeft, gradient_bytes, plan_table, tried_step_s
from commprof.study.plan import make_plan, wire_of
from commprof.train.config.types import TrainConfig
from tests.factory import run_info
from tests.forked import DEADLINE_S, Zygote


def write_study(folder: Path, text: str) -> Path:
    (folder / "tiny.yaml").write_text(
        f"model: {{vocabulary: 300}}\ndata: {{synthetic_articles: 600, cache_dir: {folder / 'cache'}}}\n"
        "training: {batch_size: 8, max_steps: 20}"
    )
    path = folder / "study.yaml"
    path.write_text(text if "models:" in text else "models: [{config: tiny.yaml}]\n" + text)
    return path


def test_every_model_is_predicted_before_its_checks_and_the_wire_is_measured_once() -> None:
    models = [ModelConfig(config="a.yaml", name="a"), ModelConfig(config="b.yaml", name="b", overrides=("model.layers=3",))]
    plan = make_plan(StudyConfig(models=models, world_sizes=(4, 1, 2), wires=("1gbit", "200mbit"), repeats=2))
    wires = [f"{kind}-n{n}-{wire}" for wire in ("1gbit", "200mbit") for n in (2, 4) for kind in ("bench", "contention")]
    assert [stage.name for stage in plan.wires] == wires
    first, second = plan.models
    assert [stage.name for stage in first.stages] == [
        "a-profile-n1",
        *("a-compute-n2-1gbit", "a-compute-n4-1gbit", "a-train-n2-1gbit", "a-train-n4-1gbit"),
        *("a-train-n2-1gbit-r2", "a-train-n4-1gbit-r2"),
        *("a-compute-n2-200mbit", "a-compute-n4-200mbit", "a-train-n2-200mbit", "a-train-n4-200mbit"),
        *("a-train-n2-200mbit-r2", "a-train-n4-200mbit-r2"),
    ]
    cell = second.cells[1]
    assert all(stage.wire == "200mbit" for stage in (*cell.compute, *cell.checks))
    assert "distributed.synchronisation=compute_only" in cell.compute[0].argv
    assert all("distributed.synchronisation=normal" in stage.argv for stage in (second.profile, *cell.checks))
    assert "model.layers=3" in cell.checks[0].argv and "experiment_name=b" in cell.checks[0].argv


def test_a_machine_with_its_own_wire_has_one_cell_a_model() -> None:
    plan = make_plan(StudyConfig(models=[ModelConfig(name="small")]))
    assert [s.name for s in plan.stages] == [
        *("bench-n2", "contention-n2", "small-profile-n1", "small-compute-n2", "small-train-n2")
    ]


def test_strategies_make_a_training_each_of_a_model_and_bench_what_they_send(tmp_path: Path) -> None:
    """HSDP on four ranks gathers among two and all-reduces among two; on two ranks it has one shard and only all-reduces."""
    path = write_study(tmp_path, "strategies: [ddp, fsdp, hsdp, zero2]\nworld_sizes: [1, 2, 4]\ncontention: {rounds: 0}")
    study = load_study(path)
    shardings = shardings_of(study)
    assert {name: (own.strategy, own.replicas) for name, own in shardings.items()} == {
        "small-fsdp": ("fsdp", 1),
        "small-hsdp": ("hsdp", 2),
        "small-zero2": ("zero2", 1),
    }
    plan = make_plan(study, shardings)
    both = ("all_gather", "reduce_scatter")
    assert [stage.name for stage in plan.wires] == [
        *(f"bench-{op}-n{n}" for n in (2, 4) for op in both),
        *("bench-n2", "bench-n4"),
    ]
    assert plan.wires[0].argv[:2] == ("bench", "all_gather")
    assert [model.name for model in plan.models] == ["small-ddp", "small-fsdp", "small-hsdp", "small-zero2"]
    assert "distributed.reshard_after_forward=false" in plan.models[3].cells[0].compute[0].argv
    only_hsdp = make_plan(replace(study, models=study.models[2:3]), {"small-hsdp": shardings["small-hsdp"]})
    assert [stage.name for stage in only_hsdp.wires] == [
        "bench-all_gather-n2",
        "bench-all_reduce-n2",
        "bench-reduce_scatter-n2",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strategies: [zero3]", "must each be one of ddp, fsdp, hsdp, zero2"),
        ("strategies: [fsdp, fsdp]", "and be named once"),
        ("strategies: [hsdp]\nworld_sizes: [1, 3]", "distributed.replicas=2 does not divide 3 ranks"),
    ],
)
def test_strategies_that_cannot_be_are_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_study(write_study(tmp_path, text))


def test_a_study_s_backend_is_that_of_every_stage() -> None:
    models = [ModelConfig(name="small")]
    stages = make_plan(StudyConfig(models=models, backend="gloo")).stages
    for stage in stages:
        asked = "distributed.backend=gloo" if stage.argv[0] == "train" else "gloo"
        assert asked in stage.argv
    assert not [word for stage in make_plan(StudyConfig(models=models)).stages for word in stage.argv if "backend" in word]


@pytest.mark.parametrize(
    ("backend", "launcher", "gpus", "settled"),
    [
        ("auto", "local", 0, "auto"),
        ("auto", "local", 1, "gloo"),
        ("auto", "local", 3, "gloo"),
        ("auto", "local", 4, "auto"),
        ("auto", "slurm", 1, "auto"),
        ("gloo", "local", 1, "gloo"),
        ("nccl", "local", 4, "nccl"),
    ],
)
def test_too_few_gpus_leave_gloo_for_all_stages(backend: str, launcher: str, gpus: int, settled: str) -> None:
    study = StudyConfig(world_sizes=(1, 2, 4), backend=backend, launcher=launcher)
    assert with_backend(study, gpus).backend == settled


def test_nccl_asked_for_by_name_is_refused_where_gpus_are_too_few() -> None:
    with pytest.raises(BadInput, match="1 GPU for 2 ranks"):
        with_backend(StudyConfig(backend="nccl"), 1)


@pytest.mark.usefixtures("half_a_second")
def test_the_demo_runs_on_any_machine_and_says_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("commprof.commbench.machine.hardware.gpus_for_nccl", lambda environ: 1)
    configs = Path(__file__).parents[4] / "configs"
    (tmp_path / "auto.yaml").write_text((configs / "study-demo.yaml").read_text().replace("backend: gloo", "backend: auto"))
    for name in ("small.yaml",):
        (tmp_path / name).write_text((configs / name).read_text())
    assert load_study(configs / "study-demo.yaml").backend == "gloo"
    for study, said in ((configs / "study-demo.yaml", ""), (tmp_path / "auto.yaml", "1 GPU for 4 ranks: every rank")):
        assert main(["study", str(study), "--dry-run", "--out", str(tmp_path / "runs")]) == 0
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backend: mpi", "backend 'mpi' is not known; use auto, gloo, nccl"),
        ("backend: gloo\noverrides: [distributed.backend=nccl]", "name it once, in the study"),
        ("world_sizes: [2, 4]", "must hold 1 and at least one larger size"),
        ("world_sizes: [1]", "must hold 1 and at least one larger size"),
        ("world_sizes: [0, 1]", "must hold 1"),
        ("world_sizes: [1, 2, 2]", "must each be named once"),
        ("name: ../evil", "names a folder"),
        ("launcher: cloud", "launcher 'cloud' is not known; use local, testbed, slurm"),
        ("launcher: testbed", "a testbed needs wires"),
        ("{launcher: testbed, wires: [1gb]}", "rate '1gb' is not a number"),
        ("{launcher: testbed, wires: [1gbit, 1000mbit]}", "must each be named once"),
        ("wires: [1gbit]", "launcher: local has the machine's own"),
        ("threads_per_rank: 0", "threads_per_rank=0"),
        ("repeats: 0", "repeats=0"),
        ("slurm: {ranks_per_node: 0}", "slurm.ranks_per_node=0"),
        ("bench: {max_bytes: 12Q}", "size '12Q'"),
        ("bench: {min_bytes: 1M, max_bytes: 1K}", "min_bytes <= max_bytes"),
        ("bench: {seconds: 0}", "bench.seconds must be above 0"),
        ("nmae: x", "unknown key nmae; did you mean name?"),
        ("overrides: [model.dmodel=3]", "unknown key model.dmodel"),
        ("overrides: [training.max_steps=3]", "3 steps are too few"),
        ("models: [{config: tiny.yaml}, {config: tiny.yaml}]", "need names of their own"),
        ("models: [{config: tiny.yaml, name: a/b}]", "model name 'a/b' names folders"),
        ("models: [{confg: tiny.yaml}]", "confg"),
        ("models: []", "need names of their own, here []"),
        ("models: [{config: none.yaml}]", "none.yaml"),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_anything_starts(tmp_path: Path, text: str, message: str) -> None:
    if text.startswith("{"):
        text = "models: [{config: tiny.yaml}]\n" + text[1:-1].replace(", wires", "\nwires")
    with pytest.raises(BadInput) as caught:
        load_study(write_study(tmp_path, text), ())
    assert message in str(caught.value)


def test_a_study_finds_its_configurations_beside_itself_and_names_wires_one_way(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "name: s\nlauncher: testbed\nwires: [1000mbit]"), ())
    assert (study.models[0].config, study.models[0].name) == (str(tmp_path / "tiny.yaml"), "small")
    assert study.wires == ("1gbit",) and study.is_grid is False
    stage = make_plan(study).wires[0]
    assert wire_of(stage).lines_bits_per_s == (1e9,)


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model's step takes half a second."""
    monkeypatch.setattr("commprof.study.estimate.tried_step_s", lambda study, model: 0.5)


@pytest.mark.usefixtures("half_a_second")
def test_the_dry_run_lists_every_stage_with_its_time_and_what_is_done(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "launcher: testbed\nwires: [1mbit]"), ())
    create_run(tmp_path / "out" / "bench-n2-1mbit", run_info("bench"))
    text = plan_table(study, make_plan(study), tmp_path / "out").splitlines()
    assert max(map(len, text[:-1])) <= 80
    assert text[1].split() == ["bench-n2-1mbit", "2", "1mbit", "measured"]
    # 1 mbit carries 118,660 B/s of payload: 20 steps of 1.9 MB, all of it over the wire between two, take minutes.
    assert any(line.split()[0] == "small-train-n2-1mbit" and line.endswith(" s") for line in text)
    assert "minutes" in text[-1]


@pytest.mark.usefixtures("half_a_second")
def test_a_stage_takes_its_steps_by_the_tried_one_and_ranks_that_share_cores_take_turns(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "overrides: [training.max_steps=20]"), ())
    rows = {line.split()[0]: line for line in plan_table(study, make_plan(study), tmp_path / "out").splitlines()}
    alone_s = 3 + 1.5 / usable_cores() + 20 * 0.5
    assert rows["small-profile-n1"].endswith(f" {alone_s:.3g} s")
    pair_s = 3 + 1.5 * 2 / usable_cores() + 20 * 0.5 * max(1.0, 2 / usable_cores())
    assert rows["small-compute-n2"].endswith(f" {pair_s:.3g} s")


def test_a_step_that_cannot_be_tried_keeps_no_study_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> float:
        raise RunFailed("no")

    monkeypatch.setattr("commprof.study.estimate.tried_step_s", fails)
    study = load_study(write_study(tmp_path, ""), ())
    assert TimeLeft(study).words(make_plan(study).stages) == "an unknown time"
    with pytest.raises(RunFailed):
        plan_table(study, make_plan(study), tmp_path / "out")


@pytest.mark.processes
def test_a_step_is_tried_with_the_model_itself(zygote: Zygote, tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "overrides: [training.batch_size=8]"), ())
    assert 0 < tried_step_s(study, study.models[0]) < DEADLINE_S
    path = write_study(tmp_path, "overrides: [training.batch_size=8, distributed.backend=nccl]")
    broken = zygote.run(tmp_path, "commprof", "study", path, "--dry-run")
    assert broken.returncode == 1
    assert broken.stderr.splitlines()[-1].startswith("commprof: error: a step of small could not be tried: ")


@pytest.mark.usefixtures("half_a_second")
def test_a_dry_run_and_a_studys_first_line_say_the_same(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "bench: {seconds: 40}\nworld_sizes: [1, 2]"), ())
    plan = make_plan(study)
    told = plan_table(study, plan, tmp_path / "runs").splitlines()[-1]
    assert told.startswith("about 2 minutes in ")
    assert TimeLeft(study).words(plan.stages) == "about 2 minutes"


@pytest.mark.usefixtures("half_a_second")
def test_the_time_left_follows_what_the_stages_really_took(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, "bench: {seconds: 33.5}"), ())
    (bench, *_) = make_plan(study).wires  # 33.5 s, and to start 3 s, and 1.5 s a rank and core
    left = TimeLeft(study)
    estimated_s = 36.5 + 1.5 * 2 / usable_cores()
    assert left.words([bench]) == f"about {estimated_s:.0f} s"
    left.note(bench, 4 * estimated_s)
    assert left.words([bench]) == f"about {4 * estimated_s / 60:.0f} minutes"


def test_the_rules_of_thumb_count_what_ddp_sends() -> None:
    config = TrainConfig()  # 12,000 words of 128 features, 128 tokens, 2 layers with 512 inside
    per_layer = 4 * 128 * 128 + 2 * 128 * 512
    assert gradient_bytes(config) == 4 * (2 * per_layer + 12_128 * 128)


def test_a_trial_that_is_killed_without_a_word_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, ""), ())

    def killed(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(-9, command, stderr="")

    monkeypatch.setattr("subprocess.run", killed)
    with pytest.raises(RunFailed, match=r"could not be tried: .*SIGKILL.*and nothing said why"):
        tried_step_s(study, study.models[0])
