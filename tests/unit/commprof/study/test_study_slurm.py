"""What a study as SLURM jobs says once its jobs are done."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import create_run
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
