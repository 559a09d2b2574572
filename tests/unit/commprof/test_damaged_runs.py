"""A finished study of which one file is damaged, cut, missing or no file: each verb answers or refuses, and none breaks."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commprof.cli import main
from tests.report_runs import add_study

FILES = (
    *("run.json", "bench-n2/run.json", "bench-n4/collectives.jsonl", "profile-n1/run.json", "compute-n4/run.json"),
    *("train-n4/run.json", "train-n4/gradients.json", "profile-n1/gradients.json", "profile-n1/steps.rank00000.jsonl"),
    *("train-n4/steps.rank00000.jsonl", "compute-n2/steps.rank00001.jsonl", "analysis/predictions.json"),
)


def wrong_byte(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\x8a" + content[middle + 1 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n")


def zeros(path: Path) -> None:
    """Every number is 0."""
    path.write_bytes(bytes(ord("0") if chr(byte).isdigit() else byte for byte in path.read_bytes()))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Callable[[Path], None], ...] = (wrong_byte, cut, zeros, Path.unlink, pipe, folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_study(tmp_path_factory.mktemp("whole") / "study")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_breaks_no_verb(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / "study"
    shutil.copytree(study, root)
    damage(root / name)
    for verb in ("fit", "advise"):
        code = main([verb, str(root)])
        out, err = capsys.readouterr()
        assert (code, bool(out), len(err.splitlines())) in ((0, True, 0), (2, False, 1)), err
