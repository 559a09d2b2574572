"""What a wheel, an sdist and an editable install put where: one importable name, every file, the same from each."""

import tarfile
from pathlib import Path
from zipfile import ZipFile

from tests import ROOT
from tests.packaging.conftest import build, environment, run

CODE = (
    "import sys, importlib.util as u, commprof.train.cli, commprof.commbench.units, commprof.analysis.wire.cost; "
    "print([name for name in ('train', 'analysis', 'commbench') if u.find_spec(name)]); print(commprof.__file__)"
)


def names(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def ours() -> set[str]:
    """Every file of the package in this checkout, as a wheel names it."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT)
    found = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    below = {f"commprof/{name}" for name in found if name.startswith(("commbench/", "train/", "analysis/"))}
    return below | {name for name in found if name.startswith("commprof/")}


def test_a_wheel_holds_every_file_below_one_name(wheel: Path) -> None:
    assert names(wheel) == ours()
    assert {name.split("/")[0] for name in names(wheel)} == {"commprof"}


def test_an_sdist_gives_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    (tmp_path / "again").mkdir()
    with tarfile.open(build(tree, tmp_path / "sdist", "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert names(build(unpacked, tmp_path / "again", "wheel")) == names(wheel)


def test_an_installed_wheel_adds_one_name(installed: Path) -> None:
    found = run([installed / "python", "-c", CODE], cwd="/")
    none, where = found.stdout.splitlines()
    assert none == "[]"
    assert Path(where).is_relative_to(installed.parent)
    site = Path(where).parents[1]
    packages = [path.name for path in site.iterdir() if path.suffix not in (".pth", ".dist-info")]
    assert packages == ["commprof"]


def test_an_editable_install_adds_one_name(tree: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "env", "--editable", tree)
    found = run([programs / "python", "-c", CODE], cwd="/")
    assert found.stdout.splitlines() == ["[]", str(tree / "commprof" / "__init__.py")]
    assert run([programs / "commprof", "--version"], cwd="/").stdout.startswith("commprof ")
