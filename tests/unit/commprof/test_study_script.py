"""A study of a training that is not ours: how its command is started, what is refused, which study it is. No process."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commprof.cli import main, parser_of, verb_named
from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.foreign.cli import _hears_a_terminal
from commprof.commbench.machine.hardware import usable_cores
from commprof.commbench.records.rundir import create_run
from commprof.study import slurm
from commprof.study.backend import rank_environment
from commprof.study.cli import _asked, _study_argv, add_study_arguments
from commprof.study.command import check_command, name_of, words_at
from commprof.study.config import ScriptConfig, StudyConfig, load_study, script_study, shardings_of
from commprof.study.estimate import TimeLeft, plan_table
from commprof.study.identity import STUDY_FILE, check_identity, write_identity
from commprof.study.plan import make_plan
from commprof.study.recorded import run_recorded
from commprof.study.stages import _command, predict_cell
from commprof.study.trial import Tried
from tests import ROOT
from tests.factory import run_info, step, workload, write_training_run

COMMAND = "python train.py --lr 1e-3"
RUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with train.py, and a PATH with python and accelerate."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    for name in ("python", "accelerate", "torchrun", "bash"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "one", "four"),
    [
        ("python train.py -a 'b c'", ["python", "train.py", "-a", "b c"], ["python", *RUN, "4", "train.py", "-a", "b c"]),
        ("/x/python3.12 -u train.py", ["/x/python3.12", "-u", "train.py"], ["/x/python3.12", *RUN, "4", "train.py"]),
        ("python -m my.go -m 3", ["python", "-m", "my.go", "-m", "3"], ["python", *RUN, "4", "-m", "my.go", "-m", "3"]),
        ("torchrun --nproc={n} x.py", ["torchrun", "--nproc=1", "x.py"], ["torchrun", "--nproc=4", "x.py"]),
        ("""python x.py {n} '{"a": {n}}'""", ["python", "x.py", "1", '{"a": 1}'], ["python", "x.py", "4", '{"a": 4}']),
    ],
)  # fmt: skip
def test_a_command_on_one_rank_and_on_four(command: str, one: list[str], four: list[str]) -> None:
    assert words_at(command, 1) == tuple(one)
    assert words_at(command, 4) == tuple(four)
    if "{n}" not in command:
        assert words_at(command, 4, one_per_host=True) == tuple(one)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "command is empty"),
        ("python 'train.py", "No closing quotation; write it as you would type it"),
        ("torchrun --nproc-per-node 2 train.py", "write python X ARGS, or {n} where their number stands"),
        ("bash train.sh", "does not say how many ranks it starts"),
        ("cd x && python train.py", "&& is for a shell"),
        ("python train.py > log", "> is for a shell"),
        ("python train.py 2>&1", "2>&1 is for a shell"),
        ("LR=1 python train.py", "LR=1 is for a shell, and none reads the command; write it before commprof itself"),
        ("python3.99 train.py", "there is no program python3.99"),
        ("nowhere --n {n}", "there is no program nowhere"),
        ("python", "after python stands a script"),
        ("python -m", "after python stands a script"),
        ("python -X dev train.py", "with other flags of Python's own write it with {n}"),
        ("python gone.py", "there is no script gone.py in "),
    ],
)
def test_what_cannot_be_started_on_n_ranks_is_refused_with_how_to_write_it(command: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_command(command, one_per_host=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hosts_of_a_testbed_start_a_rank_each() -> None:
    check_command(COMMAND, one_per_host=True)
    with pytest.raises(BadInput, match="launcher: testbed and slurm start it on every host"):
        check_command("accelerate launch --num_processes {n} train.py", one_per_host=True)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python a/my.train.py --x b.py", "my-train"),
        ("python -m pkg.sub.pre_train -m 3", "pre_train"),
        ("python -m torch.distributed.run --nproc-per-node {n} -m pkg.go", "go"),
        ("bash job.sh {n}", "bash"),
    ],
)
def test_a_training_is_named_after_its_script(command: str, name: str) -> None:
    assert name_of(command) == name


def test_the_stages_of_a_script_record_it_and_its_predictions_have_their_place_before_its_checks() -> None:
    study = script_study(ScriptConfig(command=COMMAND, max_steps=40), ["world_sizes=[1,2]", "contention.rounds=0"])
    assert (study.name, study.models, study.is_grid) == ("study-train", [], False)
    plan = make_plan(study)
    assert [stage.name for stage in plan.stages] == ["bench-n2", "train-profile-n1", "train-compute-n2", "train-train-n2"]
    (training,) = plan.models
    recorded = ("record", "--experiment", "train", "--max-steps", "40")
    two = ("--", "python", *RUN, "2", "train.py", "--lr", "1e-3")
    assert training.profile.argv == (*recorded, "--", "python", "train.py", "--lr", "1e-3")
    assert training.cells[0].compute[0].argv == (*recorded, "--compute-only", *two)
    assert training.cells[0].checks[0].argv == (*recorded, *two)


def test_one_recorder_stands_outside_of_what_starts_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = script_study(ScriptConfig(command=COMMAND), ["launcher=testbed", "wires=[1gbit]"])
    set_to: list[object] = []
    monkeypatch.setattr("commprof.testbed.network.set_wire", set_to.append)
    plan = make_plan(study)
    (profile, compute, _) = plan.models[0].stages
    script = str(Path(sys.executable).parent / "commprof")
    begun = [script, "record", "--folder", str(tmp_path / "r"), "--experiment", "train", "--max-steps", "60"]
    assert _command(study, profile, tmp_path / "r") == [*begun, "--", *COMMAND.split()]
    assert not set_to
    hosts = [script, "testbed", "exec", "--hosts", "2", "--", *COMMAND.split()]
    assert _command(study, compute, tmp_path / "r") == [*begun, "--compute-only", "--", *hosts]
    assert len(set_to) == 1
    assert _command(study, plan.wires[0], tmp_path / "r")[:6] == [*hosts[:6]], "a bench's ranks record themselves"


def test_a_sharded_script_has_the_wire_of_its_collectives_and_no_run_that_sends_nothing() -> None:
    """It is predicted from its units by fully_shard's schedule, so that DDP's all-reduce need not be benched."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="fsdp"), ["world_sizes=[1,2,4]"])
    plan = make_plan(study, shardings_of(study))
    assert [stage.name for stage in plan.stages] == [
        *(f"bench-{op}-n{n}" for n in (2, 4) for op in ("all_gather", "reduce_scatter")),
        *("train-profile-n1", "train-train-n2", "train-train-n4"),
    ]
    (model,) = plan.models
    assert model.sharding is not None and model.sharding.strategy == "fsdp"
    with pytest.raises(BadInput, match="a script's strategy 'hsdp' is not one of ddp, fsdp, zero2"):
        script_study(ScriptConfig(command=COMMAND, strategy="hsdp"))


def test_over_gloo_a_script_sees_no_gpu_and_elsewhere_the_users() -> None:
    scripts = [ScriptConfig(command=COMMAND)]
    assert rank_environment(StudyConfig(scripts=scripts, backend="gloo"))["CUDA_VISIBLE_DEVICES"] == ""
    assert rank_environment(StudyConfig(scripts=scripts, threads_per_rank=3)) == {"OMP_NUM_THREADS": "3"}
    assert "CUDA_VISIBLE_DEVICES" not in rank_environment(StudyConfig(backend="gloo"))


def test_on_slurm_a_script_is_recorded_around_the_nodes_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder stands outside; how the nodes start the command is said in record.sbatch."""
    own = ["launcher=slurm", "slurm.ranks_per_node=4", "world_sizes=[1,8]", f"slurm.scripts={ROOT / 'slurm'}"]
    study = script_study(ScriptConfig(command=COMMAND), own)
    submitted: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], environ: dict[str, str]) -> str:
        submitted.append((command, environ))
        return "101"

    monkeypatch.setattr(slurm, "_run", run)
    queue = slurm._Queue(folder=tmp_path, study=study, study_argv=())
    queue.submit_stage(make_plan(study).models[0].stages[1])
    ((words, environ),) = submitted
    flags = ["--experiment", "train", "--max-steps", "60", "--compute-only"]
    assert words[-11:] == ["--nodes=2", str(ROOT / "slurm" / "record.sbatch"), *flags, "--", *COMMAND.split()][-11:]
    assert "--nodes=2" in words and str(ROOT / "slurm" / "record.sbatch") in words
    assert (environ["NPROC_PER_NODE"], environ["COMMPROF_RUN"]) == ("4", str(tmp_path / "train-compute-n8"))


def test_a_job_names_the_study_of_a_script_as_it_was_named() -> None:
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    typed = ["launcher=slurm", "--script", COMMAND, "--world-sizes", "1", "2", "--max-steps", "30", "--strategy", "fsdp"]
    again = _study_argv(parser.parse_args(typed))
    assert _asked(parser.parse_args(again)) == _asked(parser.parse_args(typed))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scripts: [{command: bash x.sh}]", "study.yaml: command 'bash x.sh' does not say how many"),
        ("scripts: [{command: python train.py, max_steps: 6}]", "max_steps=6 must be 12 to"),
        ("scripts: [{command: python train.py}, {command: python train.py --big}]", "need names of their own"),
        ("scripts: [{command: python train.py, name: a/b}]", "'a/b' names folders"),
        ("scripts: [{comand: python train.py}]", "comand"),
        ("{scripts: [{command: python train.py}], overrides: [training.max_steps=9]}", "a script's arguments stand in its"),
        ("{scripts: [{command: 'torchrun --nproc-per-node {n} train.py'}], launcher: slurm}", "without {n}"),
        ("{scripts: [{command: 'bash x {n}'}], launcher: testbed, wires: [1gbit]}", "start it on every host"),
        ("{scripts: [{command: python train.py}], strategies: [fsdp]}", "a script's is told by --strategy"),
        (f"scripts: [{{command: python train.py, name: {'n' * 101}}}]", "has 101 letters and names folders"),
        ("name: s", "need names of their own, here []"),
    ],
)
def test_a_file_with_scripts_is_checked_before_anything_starts(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(BadInput) as caught:
        load_study(tmp_path / "study.yaml")
    assert words in str(caught.value)


def test_models_and_scripts_stand_beside_each_other(tmp_path: Path) -> None:
    data = "data: {synthetic_articles: 600, cache_dir: cache}"
    (tmp_path / "tiny.yaml").write_text(f"{{model: {{vocabulary: 300}}, {data}, training: {{batch_size: 8, max_steps: 20}}}}")
    (tmp_path / "study.yaml").write_text("{models: [{config: tiny.yaml}], scripts: [{command: python train.py, name: mine}]}")
    study = load_study(tmp_path / "study.yaml")
    assert study.is_grid
    assert [model.name for model in make_plan(study).models] == ["small", "mine"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a training's command"),
        (["--max-steps", "30"], "give a training's command"),
        (["study.yaml", "--script", COMMAND], "study.yaml and --script are two studies"),
        (["--script", COMMAND, "--max-steps", "3"], "--script: max_steps=3 must be"),
        (["--script", COMMAND, "--world-sizes", "2", "4"], "must hold 1 and at least one larger size"),
        (["--script", "python a.py"], "there is no script a.py"),
    ],
)
def test_words_that_are_no_study(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words]) == 2
    assert message in capsys.readouterr().err


def test_keys_stand_before_or_after_the_script() -> None:
    def asked(*words: str) -> StudyConfig:
        return _asked(parser_of("study", verb_named("study")).read(words))

    before = asked("bench.seconds=5", "repeats=2", "--script", COMMAND, "--world-sizes", "1", "2", "4")
    after = asked("--world-sizes", "1", "2", "4", "--script", COMMAND, "bench.seconds=5", "repeats=2")
    assert before == after
    assert (before.world_sizes, before.bench.seconds, before.repeats) == ((1, 2, 4), 5.0, 2)


def test_the_folder_says_which_command_it_holds_and_shows_no_password(tmp_path: Path) -> None:
    secret = script_study(ScriptConfig(command="python train.py --api-token SECRET"))
    write_identity(tmp_path, secret, Path())
    assert "python train.py --api-token ***" in (tmp_path / STUDY_FILE).read_text()
    assert "SECRET" not in (tmp_path / STUDY_FILE).read_text()
    check_identity(tmp_path, secret, Path())
    with pytest.raises(BadInput, match=r"scripts\[0\].command was 'python train.py --api-token \*\*\*' and is"):
        check_identity(tmp_path, script_study(ScriptConfig(command="python train.py")), Path())
    with pytest.raises(BadInput, match=r"scripts\[0\].max_steps was 60 and is 20 now"):
        check_identity(tmp_path, script_study(ScriptConfig(command="python train.py --api-token S", max_steps=20)), Path())


def test_a_try_of_the_script_says_how_long_all_of_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = script_study(ScriptConfig(command=COMMAND, max_steps=50), ["contention.rounds=0"])
    tries: list[str] = []

    def tried(_: StudyConfig, script: ScriptConfig, logs: Path | None) -> Tried:
        tries.append(script.name)
        return Tried(step_s=0.5, start_s=10.0, gradient_bytes=2_000_000)

    monkeypatch.setattr("commprof.study.estimate.try_script", tried)
    plan = make_plan(study)
    rows = {line.split()[0]: line for line in plan_table(study, plan, tmp_path).splitlines()}
    assert rows["train-profile-n1"].endswith(f" {10 + 1.5 / usable_cores() + 50 * 0.5:.3g} s")
    pair_s = 10 + 3 / usable_cores() + 50 * (0.5 * max(1.0, 2 / usable_cores()) + 2e6 / 1e9)
    assert rows["train-train-n2"].endswith(f" {pair_s:.3g} s")
    assert tries == ["train"]
    for stage in plan.stages:
        create_run(tmp_path / stage.name, run_info("train", status="completed"))
    assert "about 0 s" in plan_table(study, plan, tmp_path)
    assert tries == ["train"], "where nothing is left to do nothing is tried"


def test_a_script_that_cannot_be_tried_ends_a_study_of_it_alone_before_its_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tried:
        raise RunFailed("no torch there")

    monkeypatch.setattr("commprof.study.estimate.try_script", fails)
    alone = script_study(ScriptConfig(command=COMMAND))
    with pytest.raises(RunFailed, match="no torch there"):
        TimeLeft(alone).words(make_plan(alone).stages)
    several = StudyConfig(scripts=[ScriptConfig(command=COMMAND, name="a"), ScriptConfig(command=COMMAND, name="b")])
    assert TimeLeft(several).words(make_plan(several).stages) == "an unknown time"


def recorded(monkeypatch: pytest.MonkeyPatch, run: Path, lines: list[str], *, fails: bool) -> None:
    """Run a recording of two ranks that says these lines."""

    def launch(*_: object, on_line: Callable[[str], None], **__: Any) -> None:  # noqa: ANN401
        for line in lines:
            on_line(line)
        if fails:
            raise RunFailed("the ranks could not be started")

    monkeypatch.setattr("commprof.study.recorded.launch", launch)
    with (run.parent / "log").open("w") as log:
        run_recorded([], run, 2, environ={}, log=log, show=lambda _: None)


def test_a_failed_recording_is_named_by_what_the_script_raised_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "[rank0]: Traceback (most recent call last):\n",
        "[rank0]: torch.cuda.OutOfMemoryError: no room\n",
        "[rank1]: RuntimeError: Connection closed by peer\n",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n",
    ]
    create_run(tmp_path / "run", run_info("train", status="failed", failure="the command ended with exit code 1"))
    with pytest.raises(RunFailed) as caught:
        recorded(monkeypatch, tmp_path / "run", lines, fails=True)
    assert str(caught.value) == "the command ended with exit code 1 (torch.cuda.OutOfMemoryError: no room)"
    nothing = "commprof: nothing was recorded: no Python of the command imported torch; it ended with exit code 2\n"
    with pytest.raises(RunFailed) as caught:
        recorded(monkeypatch, tmp_path / "none", [nothing], fails=True)
    assert str(caught.value) == "no Python of the command imported torch; it ended with exit code 2"


def test_ranks_that_trained_each_for_itself_are_no_training_on_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_run(tmp_path / "alone", run_info("train", world_size=1))
    with pytest.raises(RunFailed, match="of 2 ranks that were started 1 trained together; does the script call init_process"):
        recorded(monkeypatch, tmp_path / "alone", [], fails=False)
    create_run(tmp_path / "pair", run_info("train", world_size=2))
    recorded(monkeypatch, tmp_path / "pair", [], fails=False)


@pytest.mark.parametrize(("in_front", "hears"), [(0, True), (1, False), (None, False)])
def test_a_recorder_hands_on_what_no_terminal_tells_its_command(
    monkeypatch: pytest.MonkeyPatch, in_front: int | None, *, hears: bool
) -> None:
    """In the background, and in a session of a study's own, only the recorder is interrupted."""

    def foreground(_: int) -> int:
        if in_front is None:
            raise OSError
        return os.getpgrp() + in_front

    monkeypatch.setattr(os, "tcgetpgrp", foreground)
    assert _hears_a_terminal() is hears


def test_a_script_of_ddp_is_not_predicted_as_sharded(tmp_path: Path) -> None:
    """It would be held against runs of DDP."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="zero2"))
    (model,) = make_plan(study, shardings_of(study)).models
    write_training_run(tmp_path / model.profile.name, [step(i) for i in range(20)], workload=workload(kind="ddp"))
    (told,) = predict_cell(tmp_path, study, model, model.cells[0]).items()
    assert told == ("prediction of train as zero2", "its profile is DDP's; name the strategy that it has, or leave that out")
