from pathlib import Path

import pytest

from commprof.analysis.runs.load import check_combinable, load_run, load_runs
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run
from tests.factory import run_info, workload, write_training_run
from tests.paper_study import STEPS, study


def test_a_studys_folder_stands_for_its_runs(tmp_path: Path) -> None:
    create_run(tmp_path / "s", run_info("study"))
    study(tmp_path / "s")
    (tmp_path / "s" / "incomplete").mkdir()
    write_training_run(tmp_path / "s" / "incomplete" / "profile-1", STEPS[:1])
    assert [run.path.name for run in load_runs([tmp_path / "s"])] == ["bench", "profile"]


def test_a_run_in_progress_can_be_read(tmp_path: Path) -> None:
    path = write_training_run(tmp_path / "r", STEPS[:3], status="running")
    with (path / "steps.rank00000.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "data')
    assert [s.step for s in load_run(path).steps[0]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workload": workload(experiment="large")}, "differ in experiment"),
        ({"workload": workload(samples_per_rank=64)}, "differ in samples_per_rank"),
        ({"world_size": 2, "backend": "nccl"}, "runs of different backends cannot be combined"),
        ({"world_size": 2, "backend": "mpi"}, "runs of different backends cannot be combined$"),
        ({"world_size": 1, "backend": "nccl"}, "no machine computes on CPUs and sends between GPUs"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folders = [*study(tmp_path), write_training_run(tmp_path / "other", STEPS, **change)]  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=message):
        check_combinable(load_runs(folders))
