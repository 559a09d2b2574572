"""What a wheel, an sdist and an editable install put where: one importable name, every file, the same from each."""

import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

from tests import ROOT
from tests.packaging.conftest import build, environment, run

CODE = (
    "import sys, importlib.util as u, commprof.train.cli, commprof.commbench.units, commprof.analysis.wire.cost; "
    "print([name for name in ('train', 'analysis', 'commbench') if u.find_spec(name)]); print(commprof.__file__)"
)


EVERY_MODULE = """
import os, pkgutil, sys
from importlib import import_module
import commprof
for module in pkgutil.walk_packages(commprof.__path__, "commprof."):
    try:
        import_module(module.name)
    except ModuleNotFoundError as error:  # a framework's callback, without the framework
        if not module.name.startswith("commprof.integrations."):
            raise
files = [os.path.realpath(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
own = [file for file in files if file.startswith(os.getcwd() + os.sep) and ".venv" not in file]
twice = sorted({file for file in own if own.count(file) > 1})
top = sorted(name for name in sys.modules if name.split(".")[0] in ("train", "analysis", "commbench"))
print(len(own) > 200, twice, top)
"""


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


def test_no_file_is_imported_under_two_names() -> None:
    assert run([sys.executable, "-c", EVERY_MODULE], cwd=ROOT).stdout == "True [] []\n"
