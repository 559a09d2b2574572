"""What a study as SLURM jobs says once its jobs are done."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import create_run, read_document
from commprof.study import slurm
from commprof.study.config import ScriptConfig, script_study, shardings_of
from commprof.study.plan import make_plan
from tests.factory import run_info, workload
from tests.unit.commprof.conftest import COMMAND


@pytest.mark.usefixtures("script_home")
@pytest.mark.parametrize("sent", [False, True])
def test_on_slurm_ranks_that_could_not_be_kept_from_sending_are_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sent: bool
) -> None:
    study = replace(script_study(ScriptConfig(command=COMMAND, strategy="fsdp")), launcher="slurm")
    plan = make_plan(study, shardings_of(study))
    for stage in plan.stages:
        own = workload(kind="fsdp1", synchronised=sent or stage.kind != "compute")
        create_run(tmp_path / stage.name, run_info("train", world_size=stage.world_size, workload=own, status="completed"))
    monkeypatch.setattr(slurm, "_run", lambda *_: "")
    slurm.run_jobs(tmp_path, study, plan, ())
    told = "train-compute-n2: its ranks exchanged as ever, for FSDP1 as it is here cannot be kept from it; predictions rest on"
    assert capsys.readouterr().err.count(told) == sent


@pytest.mark.usefixtures("script_home")
def test_a_signal_between_two_submissions_leaves_no_job_unwritten_and_says_which_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench.sbatch").touch()
    study = script_study(ScriptConfig(command=COMMAND))
    study = replace(study, launcher="slurm", slurm=replace(study.slurm, scripts=str(tmp_path)))

    def interrupted_while_it_submits(command: Sequence[str], environ: Mapping[str, str]) -> str:
        if command[0] == "sbatch":
            signal.raise_signal(signal.SIGINT)
        return "17\n" if command[0] == "sbatch" else ""

    monkeypatch.setattr(slurm, "_run", interrupted_while_it_submits)
    monkeypatch.setattr(slurm, "raise_when_stopped", lambda: None)
    plan = make_plan(study, shardings_of(study))
    (tmp_path / "logs").mkdir()
    with pytest.raises(KeyboardInterrupt):
        slurm.run_jobs(tmp_path, study, plan, ())
    assert read_document(tmp_path / "jobs.json", dict[str, str]) == {plan.stages[0].name: "17"}
    assert capsys.readouterr().err == "the jobs stay in the queue; scancel 17 ends them\n"
