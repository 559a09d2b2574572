"""The package as people get it: built from a copy of the tree, installed into environments of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import ROOT

DEADLINE_S = 300
PARTS = ("commprof", "commbench", "train", "analysis")


def run(command: list[str | Path], **options: object) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout holds of the package, links as links."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in PARTS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, tmp_path_factory.mktemp("wheel"), "wheel")


def build(tree: Path, out: Path, kind: str) -> Path:
    """Build a wheel or an sdist with the setuptools that is installed here."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    run([sys.executable, "-c", code], cwd=tree)
    (built,) = out.iterdir()
    return built


def environment(folder: Path, *what: str | Path) -> Path:
    """Make an environment with `what` installed, beside the libraries of this one, and return its folder of programs."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth names is searched, but the .pth files in it are not read: not even this checkout's own.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    flags = ("--no-deps", "--no-compile", "--no-build-isolation", "--no-index", "--force-reinstall")
    run([*pip, *flags, *what], env=os.environ | PIP_ALONE)
    return folder / "bin"


PIP_ALONE = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment in which the wheel is installed."""
    return environment(tmp_path_factory.mktemp("fresh"), wheel)
