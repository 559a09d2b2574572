"""Runs that may only be read, full disks, names that no file system takes: an answer, or one line that names the file."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from commprof.cli import main
from commprof.commbench.records.rundir import create_run, write_text
from tests.factory import run_info, write_bench_run
from tests.report_runs import add_study

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished study on a file system that takes no writes, not even root's."""
    disk = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    try:
        add_study(disk / "study")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield disk / "study"
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A finished study whose analysis/ nobody can write to, for it is a file."""
    study = add_study(tmp_path / "study")
    kept = (study / "analysis" / "predictions.json").read_bytes()
    for file in (study / "analysis").iterdir():
        file.unlink()
    (study / "analysis").rmdir()
    (study / "analysis").write_bytes(kept)
    return study


@pytest.mark.processes
@pytest.mark.parametrize("verb", ["fit", "predict", "advise", "report", "check"])
def test_a_study_that_may_only_be_read_is_answered(
    read_only: Path, here: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    runs = [read_only / "bench-n2"] if verb == "check" else [read_only]
    assert main([verb, *map(str, runs)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) > 3
    assert ("--out FILE writes it elsewhere" in err) == (verb in ("fit", "predict", "report"))
    assert list(here.iterdir()) == [], "nothing is written that nobody asked for"


@pytest.mark.processes
@pytest.mark.parametrize("verb", ["fit", "predict", "advise", "report"])
def test_what_is_told_of_it_is_kept_where_out_says(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    path = tmp_path / "new" / "kept"
    assert main([verb, str(read_only), "--out", str(path)]) == 0
    content = path.read_text()
    assert content.lower().startswith("<!doctype html>") if verb == "report" else json.loads(content)


@pytest.mark.processes
def test_a_paper_on_it_names_the_file_and_the_flag(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(read_only), "--latex"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Read-only file system" in line and "--out" in line and str(read_only) in line


@pytest.mark.parametrize("verb", ["fit", "predict", "report"])
def test_a_folder_that_cannot_be_written_to_is_named(
    unwritable: Path, here: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main([verb, str(unwritable)]) == 0
    out, err = capsys.readouterr()
    assert f"commprof: not kept: cannot write {unwritable}/analysis" in err
    assert out


def test_predictions_take_the_place_of_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, path = add_study(tmp_path / "study"), tmp_path / "mine.json"
    path.write_text("mine")
    assert main(["predict", str(study), "--out", str(path)]) == 2
    assert "mine.json exists, and predictions are written once" in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--times", "1=1", "2=2", "--out", "x"],
        ["predict", "{run}", "--batch", "2", "--out", "x"],
    ],
)
def test_what_is_never_kept_takes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    run = write_bench_run(tmp_path / "r", 1e-4, 1e9)
    assert main([word.format(run=run) for word in words]) == 2
    assert "is printed only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "{long}"],
        ["report", "{long}"],
        ["check", "{long}"],
        ["predict", "{long}"],
        ["trace", "{long}"],
        ["import", "{long}"],
        ["plots", "{long}"],
        ["extrapolate", "{long}", "-n", "4"],
        ["report", "{run}", "--out", "{long}"],
        ["fit", "{run}", "--out", "{long}"],
        ["bench", "--folder", "{long}"],
        ["bench", "--buckets", "{long}", "--mode", "burst"],
        ["bench", "--resume", "{long}"],
        ["train", "{long}"],
        ["study", "{long}"],
        ["import", "--preset", "h100x8-nvlink", "--folder", "{long}"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("long", ["x" * 300, "x/" * 2500], ids=["name", "path"])
def test_a_name_that_no_file_system_takes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], long: str
) -> None:
    run = write_bench_run(tmp_path / "r", 1e-4, 1e9)
    assert main([word.format(run=run, long=long) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("commprof: error: ")


@pytest.mark.processes
def test_a_full_disk_is_told_with_the_file_that_has_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    try:
        (disk / "full").write_bytes(b"x" * 4096)
        with pytest.raises(OSError, match=rf"No space left on device: '{disk}/r"):
            create_run(disk / "r", run_info())
        assert not (disk / "r").exists(), "a run without its card is none"
        assert main(["import", "--preset", "h100x8-nvlink", "--folder", str(disk / "i")]) == 1
        assert f"cannot use {disk}/i/run.json: No space left on device; make room" in capsys.readouterr().err
        run = write_bench_run(tmp_path / "r", 1e-4, 1e9)
        assert main(["report", str(run), "--out", str(disk / "page.html")]) == 1
        assert f"cannot use {disk}/page.html: No space left on device; make room" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "all")
    assert (tmp_path / ("x" * 255)).read_text() == "all"
