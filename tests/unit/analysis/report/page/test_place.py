"""Where a report goes: a study keeps its own, runs that are only read are left as they are, and nothing foreign is replaced."""

from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_run
from commprof.cli import main
from tests.report_runs import add_study

pytestmark = pytest.mark.usefixtures("undrawn")

FORMS = {"page": (), "text": ("--text",), "markdown": ("--markdown",), "json": ("--json",), "latex": ("--latex",)}


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    study = add_study(tmp_path / "demo")
    return [str(study / name) for name in ("profile-n1", "bench-n2", "compute-n2", "train-n2")]


@pytest.mark.processes
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 4], ids=["one run", "runs"])
def test_runs_that_are_read_are_left_as_they_are(
    runs: list[str], here: Path, count: int, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(Path(runs[0]).parent)
    assert main(["report", *runs[:count], *FORMS[form]]) == 0
    assert files_below(Path(runs[0]).parent) == before
    said = capsys.readouterr().out
    if form in ("page", "latex"):
        assert (here / said.splitlines()[-1]).exists()
    else:
        assert not list(here.iterdir())


def test_runs_side_by_side_are_left_as_they_are(runs: list[str], tmp_path: Path, here: Path) -> None:
    other = add_study(tmp_path / "other")
    before = files_below(tmp_path / "demo"), files_below(other)
    assert main(["report", str(tmp_path / "demo"), str(other)]) == 0
    assert (files_below(tmp_path / "demo"), files_below(other)) == before
    assert (here / "comparison.html").exists()
    assert load_run(Path(runs[0])).info.run_id == "profile-n1"


def test_a_study_keeps_its_own_report(runs: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Path(runs[0]).parent
    assert main(["report", str(study)]) == 0
    assert capsys.readouterr().out.endswith(f"\n{study}/analysis/report.html\n")
    assert (study / "analysis" / "verification.json").exists()
    assert not list(here.iterdir())


def test_a_report_takes_the_place_of_a_report_only(runs: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = here / "report.html"
    assert main(["report", *runs]) == 0
    assert main(["report", *runs]) == 0
    page.write_text("<p>a page of somebody else</p>")
    assert main(["report", *runs]) == 2
    assert "name another file with --out" in capsys.readouterr().err
    assert page.read_text() == "<p>a page of somebody else</p>"
    assert main(["report", *runs, "--out", str(page)]) == 0
    page.unlink()
    page.mkdir()
    assert main(["report", *runs]) == 2
