"""Studies of trainings that are not ours: what is not DDP, whose batch changes with N, whose caps one rank cannot tell."""

from pathlib import Path

import pytest

from commprof.analysis.report.study.cell_pages import _write
from commprof.analysis.report.study.pages import write_study_report
from commprof.analysis.study.predictions import write_predictions
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run
from commprof.commbench.records.types import Workload
from tests.factory import run_info, workload, write_bench_run
from tests.finished_study import PAIR_S, SINGLE_S, training


def study_of(root: Path, name: str, pair: Workload, single: Workload) -> None:
    """Write a script's run on one rank and on two, and the study around them where there is none yet."""
    if not root.exists():
        create_run(root, run_info("study", run_id=root.name))
        write_bench_run(root / "bench-n2", 1e-3, 1e9)
    training(root / f"{name}-profile-n1", 1, SINGLE_S, work=single)
    training(root / f"{name}-train-n2", 2, PAIR_S, work=pair)


def test_ranks_that_could_not_be_kept_from_sending_tell_that_they_are_not_ddps_before_any_check(tmp_path: Path) -> None:
    root = tmp_path / "s"
    study_of(root, "mine", workload(experiment="mine", kind="fsdp2"), workload(experiment="mine", kind="none"))
    (root / "mine-train-n2").rename(root / "mine-compute-n2")
    failures = write_predictions(root, "mine", None, grid=False)
    assert "is FSDP2 on 2 ranks" in failures["prediction of mine"]
    assert not (root / "analysis").exists()


def test_a_batch_that_changes_with_the_ranks_costs_its_own_page_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "s"
    study_of(root, "fine", workload(experiment="fine"), workload(experiment="fine"))
    shrinking = workload(experiment="shrinking", samples_per_rank=16)
    study_of(root, "shrinking", shrinking, workload(experiment="shrinking"))
    _, page = write_study_report(root)
    assert "differ in samples_per_rank (" in page.read_text()
    table = (root / "analysis" / "study.csv").read_text()
    assert "fine" in table
    assert "shrinking" not in table, "its speedup would compare half a batch with a whole one"
    assert (root / "analysis" / "fine" / "report.html").exists()
    assert not (root / "analysis" / "shrinking").exists()


def test_where_no_training_can_be_compared_that_is_the_answer(tmp_path: Path) -> None:
    root = tmp_path / "s"
    study_of(root, "mine", workload(experiment="mine", samples_per_rank=16), workload(experiment="mine"))
    with pytest.raises(BadInput, match="differ in samples_per_rank"):
        write_study_report(root)


def test_a_page_written_beside_others_knows_what_two_ranks_tell_of_one(tmp_path: Path) -> None:
    root = tmp_path / "s"
    caps = {"first_bucket_bytes": 5000, "bucket_cap_bytes": 5000}
    pair = workload(experiment="mine", kind="ddp", **caps)
    study_of(root, "mine", pair, workload(experiment="mine", kind="none", assumed=tuple(caps)))
    paths = tuple(root / name for name in ("bench-n2", "mine-profile-n1", "mine-train-n2"))
    assert _write((root, "mine", None, paths, tmp_path / "page")).exists()
