"""A study whose contention stage failed: what its predictions lack is said, also once it has been measured."""

from pathlib import Path

import pytest

from commprof.analysis.report.study.pages import write_study_report
from commprof.analysis.study.predictions import write_predictions
from commprof.commbench.records.rundir import create_run
from tests.factory import run_info, write_contention_run
from tests.finished_study import finished_study

pytestmark = pytest.mark.usefixtures("undrawn")
WHY = "no backward pass fits into an all-reduce here"


def test_a_prediction_made_without_contention_is_named_when_it_failed_and_when_it_was_measured_later(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "study")
    assert write_predictions(root, "small", None, grid=False) == {}
    create_run(root / "incomplete" / "contention-n2-1", run_info("contention", status="failed", failure=WHY))
    page = write_study_report(root)[1].read_text()
    assert f"contention-n2 has no result: {WHY}; predictions do without it, and a study in another folder" in page
    write_contention_run(root / "contention-n2", [(2**22, 1.5, 2.0)])
    page = write_study_report(root)[1].read_text()
    assert "has no result" not in page
    assert "The prediction for 2 ranks was made without contention-n2, which was measured later" in page


def test_a_prediction_that_has_contention_is_not(tmp_path: Path) -> None:
    root = finished_study(tmp_path / "study")
    write_contention_run(root / "contention-n2", [(2**22, 1.5, 2.0)])
    assert write_predictions(root, "small", None, grid=False) == {}
    assert "made without contention" not in write_study_report(root)[1].read_text()
