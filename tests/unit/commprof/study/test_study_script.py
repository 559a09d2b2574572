"""A study of a training that is not ours: its stages, what is refused, which study it is. No process."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commprof.cli import main, parser_of, verb_named
from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.machine.hardware import usable_cores
from commprof.commbench.records.rundir import create_run
from commprof.study import slurm
from commprof.study.backend import rank_environment
from commprof.study.cli import _asked, _failed_in_words, _study_argv, add_study_arguments
from commprof.study.config import ScriptConfig, StudyConfig, load_study, script_study, shardings_of
from commprof.study.estimate import TimeLeft, plan_table
from commprof.study.files import set_aside
from commprof.study.identity import STUDY_FILE, check_identity, write_identity
from commprof.study.plan import make_plan
from commprof.study.recorded import run_recorded
from commprof.study.stages import _command, _run_stage, predict_cell
from commprof.study.trial import Tried
from tests import ROOT
from tests.factory import run_info, step, workload, write_training_run
from tests.unit.commprof.conftest import COMMAND, RUN

pytestmark = pytest.mark.usefixtures("script_home")


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


def test_a_sharded_script_has_the_wire_of_its_collectives_and_runs_that_send_nothing() -> None:
    """It is predicted from its units by fully_shard's schedule, so that DDP's all-reduce need not be benched."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="fsdp"), ["world_sizes=[1,2,4]"])
    plan = make_plan(study, shardings_of(study))
    assert [stage.name for stage in plan.stages] == [
        *(f"bench-{op}-n{n}" for n in (2, 4) for op in ("all_gather", "reduce_scatter")),
        *("train-profile-n1", "train-compute-n2", "train-compute-n4", "train-train-n2", "train-train-n4"),
    ]
    (model,) = plan.models
    assert all("--compute-only" in stage.argv for stage in model.cells[0].compute)
    assert model.sharding is not None and model.sharding.strategy == "fsdp"
    with pytest.raises(BadInput, match="a script's strategy 'zero3' is not one of ddp, fsdp, hsdp, zero2"):
        script_study(ScriptConfig(command=COMMAND, strategy="zero3"))


def test_a_script_in_copies_of_shards_has_the_wire_of_each_group() -> None:
    """On 4 ranks two copies of two shards: gathered and reduced by 2, and the copies are 2; on 2 ranks copies alone."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="hsdp"), ["world_sizes=[1,2,4]"])
    plan = make_plan(study, shardings_of(study))
    assert [stage.name for stage in plan.wires] == [f"bench-{op}-n2" for op in ("all_gather", "all_reduce", "reduce_scatter")]
    assert shardings_of(study)["train"].replicas == 2


@pytest.mark.parametrize(
    ("replicas", "words"),
    [
        (1, "replicas=1: hsdp keeps 2 copies or more; one is fsdp"),
        (3, "replicas=3 does not divide 4 ranks; use a divisor of 4"),
    ],
)
def test_copies_of_shards_divide_the_ranks(replicas: int, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        script_study(ScriptConfig(command=COMMAND, strategy="hsdp", replicas=replicas), ["world_sizes=[1,4]"])


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


def test_on_slurm_a_sharded_script_has_jobs_that_send_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["launcher=slurm", "world_sizes=[1,2]", f"slurm.scripts={ROOT / 'slurm'}"]
    study = script_study(ScriptConfig(command=COMMAND, strategy="fsdp"), own)
    submitted: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], environ: dict[str, str]) -> str:
        submitted.append((command, environ))
        return "101"

    monkeypatch.setattr(slurm, "_run", run)
    queue = slurm._Queue(folder=tmp_path, study=study, study_argv=())
    plan = make_plan(study, shardings_of(study))
    for stage in plan.stages:
        queue.submit_stage(stage)
    of_jobs = {Path(environ["COMMPROF_RUN"]).name: words for words, environ in submitted}
    assert list(of_jobs) == [stage.name for stage in plan.stages]
    assert [name for name, words in of_jobs.items() if "--compute-only" in words] == ["train-compute-n2"]
    assert {"bench-all_gather-n2", "bench-reduce_scatter-n2"} < set(of_jobs)


def test_ranks_that_could_not_be_kept_from_sending_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What sent all the same stays, a measurement at N; the prediction rests on one rank."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="fsdp"))
    (stage,) = make_plan(study, shardings_of(study)).models[0].cells[0].compute
    (tmp_path / "logs").mkdir()

    def recorded(_command: object, run: Path, world_size: int, **_: object) -> None:
        create_run(run, run_info("train", world_size=world_size, workload=workload(kind="fsdp1", synchronised=sent)))

    monkeypatch.setattr("commprof.study.stages.run_recorded", recorded)
    for sent in (False, True):
        set_aside(tmp_path, tmp_path / stage.name)
        assert _run_stage(tmp_path, study, stage, "[4/5]", "1 min") is None
        told = (
            "[4/5] train-compute-n2: its ranks exchanged as ever, for FSDP1 as it is here cannot be kept from it; predictions"
        )
        assert (told in capsys.readouterr().err) == sent


def test_a_job_names_the_study_of_a_script_as_it_was_named() -> None:
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    typed = ["launcher=slurm", "--script", COMMAND, "--world-sizes", "1", "3", "--max-steps", "30", "--strategy", "hsdp"]
    typed += ["--replicas", "3"]
    again = _study_argv(parser.parse_args(typed))
    assert _asked(parser.parse_args(again)) == _asked(parser.parse_args(typed))
    assert _asked(parser.parse_args(typed)).scripts[0].replicas == 3
    with pytest.raises(BadInput, match="--replicas 3 is hsdp's; add --strategy hsdp or leave it out"):
        _asked(parser.parse_args([word for word in typed if word not in ("--strategy", "hsdp")]))


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


def test_a_script_of_ddp_is_not_predicted_as_sharded(tmp_path: Path) -> None:
    """It would be held against runs of DDP."""
    study = script_study(ScriptConfig(command=COMMAND, strategy="zero2"))
    (model,) = make_plan(study, shardings_of(study)).models
    write_training_run(tmp_path / model.profile.name, [step(i) for i in range(20)], workload=workload(kind="ddp"))
    (told,) = predict_cell(tmp_path, study, model, model.cells[0]).items()
    assert told == ("prediction of train as zero2", "its profile is DDP's; name the strategy that it has, or leave that out")


def test_what_the_same_command_cannot_mend_is_not_said_to_be_tried_again() -> None:
    """A prediction reads what was measured, which the same command leaves as it is."""
    assert "to measure again takes another folder: --out" in _failed_in_words(["prediction of small"], 7)
    failures = ["prediction of small", "small-train-n2"]
    assert _failed_in_words(failures, 7) == "2 of 7 stages failed; the same command tries them again"
    kept = "; predictions were made without contention and are kept, to have it in them takes another folder: --out"
    assert _failed_in_words(["contention-n2"], 7) == f"1 of 7 stages failed; the same command tries them again{kept}"
