import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commprof.cli import main
from commprof.commbench.errors import BadInput, Interrupted
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.stopping import StopRequest
from commprof.commbench.records.rundir import RecordWriter, create_run, read_records
from commprof.commbench.records.training import EvaluationMeasurement, StepMeasurement
from commprof.commbench.records.types import RunKind, RunStatus
from commprof.train.checkpoint import CheckpointKeeper, comparable, drop_later_records, load_checkpoint, restore
from commprof.train.config.load import dump_config
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.trainee import Trainee, build_trainee
from tests.factory import run_info, step

CPU = torch.device("cpu")
ALONE = RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back what a StopRequest changes."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "model: {vocabulary: 300, sequence_length: 16, d_model: 16, layers: 1, heads: 2, feed_forward: 32}\n"
        f"data: {{synthetic_articles: 600, cache_dir: {tmp_path / 'cache'}}}\n"
        "training: {batch_size: 8, max_steps: 50, checkpoint_every: 10}\n"
    )
    return load_train_config(path)


def keeper_of(config: TrainConfig, run: Path, trainee: Trainee, stop: StopRequest) -> CheckpointKeeper:
    return CheckpointKeeper(config, trainee, context=ALONE, run=run, stop=stop)


def one_step(trainee: Trainee) -> None:
    trainee.model(torch.randint(1, 300, (4, 16))).sum().backward()
    trainee.optimizer.step()
    trainee.optimizer.zero_grad()


@pytest.fixture
def stopped_run(tmp_path: Path, config: TrainConfig, signals: None) -> Path:
    """A run of one rank that ended early and left a checkpoint after step 10."""
    run = tmp_path / "r"
    create_run(run, run_info("train", world_size=1, status="interrupted"))
    trainee = build_trainee(config, CPU)
    one_step(trainee)
    keeper_of(config, run, trainee, StopRequest()).after_step(10, 1.5)
    return run


def test_what_is_saved_comes_back_to_the_last_bit(stopped_run: Path, config: TrainConfig) -> None:
    trainee = build_trainee(config, CPU)
    one_step(trainee)  # the same seed, so this is the model that was saved
    expected = torch.rand(3), {name: value.clone() for name, value in trainee.model.state_dict().items()}
    other = build_trainee(replace(config, training=replace(config.training, seed=9)), CPU)
    checkpoint = load_checkpoint(stopped_run, config, 1)
    restore(checkpoint, other, ALONE)
    assert (checkpoint.step, checkpoint.elapsed_s) == (10, 1.5)
    assert torch.equal(torch.rand(3), expected[0])
    torch.manual_seed(1)
    one_step(trainee)
    torch.manual_seed(1)
    one_step(other)  # Adam's moments too
    for name, value in trainee.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value)
        assert name.startswith("encoder.layers.0.self_attn") or not torch.equal(expected[1][name], value)


def test_the_last_two_are_kept_and_scraps_of_a_killed_write_go(stopped_run: Path, config: TrainConfig) -> None:
    folder = stopped_run / "checkpoints"
    (folder / ".step-00000020.pt.scrap").write_bytes(b"half")
    keeper = keeper_of(config, stopped_run, build_trainee(config, CPU), StopRequest())
    for done in range(11, 41):
        keeper.after_step(done, 2.0)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000030.pt", "step-00000040.pt"]


def test_a_warning_and_the_echo_of_a_sigterm_may_come_again_but_a_later_one_means_now(
    stopped_run: Path, config: TrainConfig
) -> None:
    times_s = iter([0.0, 2.0, 4.0])
    stop = StopRequest((signal.SIGUSR2,), now_s=lambda: next(times_s))
    keeper = keeper_of(config, stopped_run, build_trainee(config, CPU), stop)
    for signum in (signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), signum)
    with pytest.raises(
        Interrupted, match=r"stopped by SIGUSR2 after step 13; commprof train .*/r/config.yaml --resume .*/r goes on"
    ):
        keeper.after_step(13, 2.0)
    assert load_checkpoint(stopped_run, config, 1).step == 13
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_was_recorded_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    for rank in range(2):
        with RecordWriter(tmp_path / f"steps.rank0000{rank}.jsonl") as writer:
            for index in range(13):
                writer.append(step(index))
    with RecordWriter(tmp_path / "evaluations.jsonl") as writer:
        for done in (5, 10, 12):
            writer.append(EvaluationMeasurement(step=done, epoch=1, loss=1.0, accuracy=0.5, num_samples=4, elapsed_s=1.0))
    with (tmp_path / "steps.rank00001.jsonl").open("a") as file:
        file.write('{"step": 13, "data')
    for _ in range(2):  # a run that is killed again before its next checkpoint does it again
        drop_later_records(tmp_path, 1, 10)
        assert list(read_records(tmp_path / "steps.rank00001.jsonl", StepMeasurement)) == [step(index) for index in range(10)]
    assert len(list(read_records(tmp_path / "steps.rank00000.jsonl", StepMeasurement))) == 13  # rank 0's to drop
    drop_later_records(tmp_path, 0, 10)
    assert [each.step for each in read_records(tmp_path / "evaluations.jsonl", EvaluationMeasurement)] == [5, 10]


def refusal(run: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line with which `commprof train --resume` refuses."""
    path = run.parent / "again.yaml"
    path.write_text(dump_config(config))
    assert main(["train", str(path), "--resume", str(run), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.d_model=32"], "step-00000010.pt was made with model.d_model=16, not 32; go on with what it began with, "),
        (["training.schedule=cosine"], "was made with training.schedule=constant, not cosine"),
        (["training.scaling=strong"], "was made with training.scaling=weak, not strong"),
        (["data.synthetic_seed=1"], "was made with data.synthetic_seed=0, not 1"),
        (["training.max_steps=10", "profiling.trace_steps=0"], "is past the end of a training of 10 steps"),
        (["--nproc", "2"], "was measured on 1 ranks, not 2; use --nproc 1"),
        (["--folder", "x"], "--resume names the run folder already; drop --folder"),
    ],
)
def test_a_run_is_gone_on_with_as_it_began(
    stopped_run: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refusal(stopped_run, config, capsys, *words)


def test_where_a_cosine_ends_with_the_run_the_run_may_not_become_longer(config: TrainConfig) -> None:
    def key_words(**training: object) -> dict[str, str]:
        return comparable(replace(config, training=replace(config.training, **training)))  # type: ignore[arg-type]

    assert key_words(max_steps=50) == key_words(max_steps=60, epochs=9)
    assert key_words(schedule="cosine", max_steps=50) != key_words(schedule="cosine", max_steps=60)
    assert key_words(schedule="cosine", decay_updates=40, max_steps=50) == key_words(
        schedule="cosine", decay_updates=40, max_steps=60
    )


def test_the_scale_of_float16_is_saved(tmp_path: Path, config: TrainConfig, signals: None) -> None:
    config = replace(config, training=replace(config.training, precision="float16"))
    create_run(tmp_path / "r", run_info("train", world_size=1, status="interrupted"))
    trainee = build_trainee(config, CPU)
    trainee.scaler.scale(torch.ones(1))  # there is no scale before the first loss
    trainee.scaler.update(512.0)
    keeper_of(config, tmp_path / "r", trainee, StopRequest()).after_step(10, 1.5)
    other = build_trainee(config, CPU)
    restore(load_checkpoint(tmp_path / "r", config, 1), other, ALONE)
    assert other.scaler.state_dict() == trainee.scaler.state_dict()
    assert other.scaler.get_scale() == 512.0


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        ("completed", "train", "is complete; there is nothing to go on with"),
        ("interrupted", "bench", "is a bench run; go on with it as it began, or name a train run"),
        ("failed", "train", "has no checkpoint to go on from (training.checkpoint_every makes them); start a new run"),
    ],
)
def test_a_run_without_a_way_on_is_refused(
    tmp_path: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str], status: RunStatus, kind: RunKind, message: str
) -> None:
    create_run(tmp_path / "r", run_info(kind, world_size=1, status=status))
    assert message in refusal(tmp_path / "r", config, capsys)


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: b"\x80\x02.", lambda content: content[: len(content) // 2], flip],
    ids=["empty", "another pickle", "half", "one byte wrong"],
)
def test_a_damaged_checkpoint_is_named(stopped_run: Path, config: TrainConfig, damage: Callable[[bytes], bytes]) -> None:
    path = stopped_run / "checkpoints" / "step-00000010.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=r"step-00000010.pt.*remove it to go on from the one before"):
        load_checkpoint(stopped_run, config, 1)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch trapped",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(model=Trap()), "cannot read"),
        (lambda d: d.update(format=3), "is not a checkpoint of this commprof"),
        (lambda d: d.update(format=1), "was made by an earlier commprof, which saved less; start anew"),
        (lambda d: d.update(step="10"), "is not a checkpoint of this commprof"),
        (lambda d: d.update(step=11), "is not a checkpoint of this commprof"),
        (lambda d: d.update(format=torch.zeros(3)), "is not a checkpoint of this commprof"),
        (lambda d: d.update(format=torch.tensor(2)), "is not a checkpoint of this commprof"),
        (lambda d: d.update(step=torch.tensor(10)), "is not a checkpoint of this commprof"),
        (lambda d: d.update(elapsed_s=float("nan")), "is not a checkpoint of this commprof"),
        (lambda d: d["config"].update({"training.batch_size": torch.zeros(3)}), "is not a checkpoint of this commprof"),
        (lambda d: d.update(random_states=[torch.zeros(3)]), "is not a checkpoint of this commprof"),
        (lambda d: d.update(random_states=[[], []]), "was made by 2 ranks, not 1"),
        (lambda d: d.update(random_states=[[]]), "does not fit this training"),
        (lambda d: d.update(random_states=[[torch.zeros(3)]]), "does not fit this training"),
        (lambda d: d["model"].pop("head.weight"), "does not fit this training"),
        (lambda d: d["optimizer"].update(param_groups=[]), "does not fit this training"),
        (lambda d: d["optimizer"].clear(), "does not fit this training"),
        (lambda d: d["optimizer"].update(param_groups=torch.zeros(1)), "its optimizer has other settings"),
        (lambda d: d["optimizer"]["param_groups"][0].update(lr="0.1"), "its optimizer has other settings"),
        (lambda d: d["optimizer"]["param_groups"][0].update(betas=torch.zeros(2)), "its optimizer has other settings"),
        (lambda d: d["optimizer"]["param_groups"][0].update(capturable=True), "its optimizer has other settings"),
        (lambda d: d["optimizer"]["state"].update({0: []}), "its optimizer's state of parameter 0 fits no such"),
        (lambda d: d["optimizer"]["state"].update({2**70: {}}), "its optimizer's state of parameter 1180"),
        (lambda d: d["optimizer"]["state"][0].update(step=torch.tensor(-1.0)), "its optimizer's state of parameter 0"),
        (lambda d: d["optimizer"]["state"][0].update(step=torch.zeros(3)), "its optimizer's state of parameter 0"),
        (lambda d: d["optimizer"]["state"][0].update(exp_avg=None), "its optimizer's state of parameter 0"),
        (lambda d: d["optimizer"]["state"][0].pop("exp_avg_sq"), "its optimizer's state of parameter 0"),
    ],
)
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(
    stopped_run: Path,
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    monkeypatch.chdir(stopped_run)
    path = stopped_run / "checkpoints" / "step-00000010.pt"
    document = torch.load(path, weights_only=True)
    change(document)
    torch.save(document, path)
    trainee = build_trainee(config, CPU)
    with pytest.raises(BadInput, match=message):
        restore(load_checkpoint(stopped_run, config, 1), trainee, ALONE)
    assert not (stopped_run / "trapped").exists()
