"""Research code has its own train.py, analysis.py or train/: ours work beside them, and theirs stay theirs."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from commprof.cli import VERBS
from tests.factory import write_bench_run, write_tiny_config
from tests.packaging.conftest import DEADLINE_S, run

TRAP = "raise SystemExit('the wrong module')\n"
# Without an optimizer of torch's, whose first use loads its compiler.
OWN_LOOP = """
import gc; gc.disable()
import sys
import torch
import commprof
from commprof import record_steps
if sys.argv[1] == "package":
    from importlib import import_module
    mine, other = import_module("train.mine"), import_module("analysis.mine")
    assert mine.NAME == other.NAME == "the user's"
model = torch.nn.Linear(4, 1)
with record_steps(model, samples_per_rank=2, folder=sys.argv[2]) as recorder:
    for batch in recorder.steps([torch.ones(2, 4)] * 12):
        loss = model(batch).sum()
        recorder.begin("backward")
        loss.backward()
        recorder.begin("optimizer")
        for parameter in model.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
"""


def modules(folder: Path) -> None:
    """Modules that end whatever imports them."""
    for name in ("train", "analysis", "commbench"):
        (folder / f"{name}.py").write_text(TRAP)


def package(folder: Path) -> None:
    """Folders without __init__.py, which an installed package of their name would hide."""
    for name in ("train", "analysis", "commbench"):
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text('NAME = "the user\'s"\n')


LAYOUTS = {"modules": modules, "package": package}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    LAYOUTS[request.param](tmp_path)
    return str(request.param)


@pytest.fixture(params=[None, "."], ids=["plain", "PYTHONPATH"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept if request.param is None else kept | {"PYTHONPATH": request.param}


# Where modules stand on the path before ours, and where folders stand in the working directory alone.
HARDEST = pytest.mark.parametrize(("layout", "environ"), [("modules", "."), ("package", None)], indirect=True)


def all_of(commands: list[list[str | Path]], cwd: Path, environ: dict[str, str]) -> None:
    """Run commands side by side; each must end well."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, cwd=cwd, env=environ, **options) for command in commands]
    for command, process in zip(commands, started, strict=True):
        said, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, f"{command}:\n{said}"


def test_every_verb_starts(installed: Path, tmp_path: Path, layout: str, environ: dict[str, str]) -> None:
    """Layouts, doors and verbs meet one another in two of four environments; each door is met with and without the variable."""
    by_module = (layout == "modules") == ("PYTHONPATH" in environ)
    door: list[str | Path] = [installed / "python", "-m", "commprof"] if by_module else [installed / "commprof"]
    for name in list(VERBS)["PYTHONPATH" in environ :: 2]:
        all_of([[*door, name, "--help"]], tmp_path, environ)


@HARDEST
def test_ranks_and_answers_are_ours(installed: Path, tmp_path: Path, layout: str, environ: dict[str, str]) -> None:
    """Ranks are started where modules would end them; folders can hide nothing from a rank that one process has not met."""
    (tmp_path / "configs").mkdir()
    config = write_tiny_config(tmp_path / "configs")
    write_bench_run(tmp_path / "known", 1e-4, 1e9)
    commprof = installed / "commprof"
    ranks: list[str | Path] = ["--nproc", "2"] if layout == "modules" else []
    all_of(
        [
            [commprof, "bench", "-b", "1K", "-e", "1K", "-n", "2", *ranks, "--folder", "bench"],
            [installed / "python", "-m", "commprof", "train", config, "--folder", "trained"],
            [commprof, "fit", "known"],
            [commprof, "report", "known"],
        ],
        tmp_path,
        environ,
    )
    assert (tmp_path / "bench" / "collectives.jsonl").exists()
    assert (tmp_path / "trained" / "gradients.json").exists()
    assert (tmp_path / "report.html").exists()


@HARDEST
def test_a_users_loop_imports_the_users_modules(installed: Path, tmp_path: Path, layout: str, environ: dict[str, str]) -> None:
    name = "train.py" if layout == "modules" else "main.py"
    (tmp_path / name).write_text(OWN_LOOP)
    run([installed / "python", name, layout, "recorded"], cwd=tmp_path, env=environ)
    assert (tmp_path / "recorded" / "gradients.json").exists()


def test_python_m_imports_nothing_from_the_working_directory(installed: Path, tmp_path: Path) -> None:
    for name in ("json", "typing", "argparse", "numpy", "torch"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    write_bench_run(tmp_path / "known", 1e-4, 1e9)
    assert "all-reduce" in run([installed / "python", "-m", "commprof", "fit", "known"], cwd=tmp_path).stdout
