"""What `import commprof as cp` loads, and that its names are found by whoever completes them."""

import rlcompleter
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jedi
import pytest

import commprof as cp
from tests import ROOT
from tests.forked import DEADLINE_S


@pytest.mark.processes
def test_import_brings_nothing_with_it() -> None:
    code = (
        "import sys; before = set(sys.modules); import commprof; "
        "print(sorted(set(sys.modules) - before)); dir(commprof); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert done.stdout == "['commprof']\n['commprof']\n"


@pytest.mark.processes
def test_tables_and_answers_bring_neither_torch_nor_pyplot(study: Path) -> None:
    code = (
        f"import sys; import commprof as cp; runs = cp.load({str(study)!r}); answer = cp.predict(runs); "
        "lazy = 'pandas' in sys.modules; answer.to_frame(); answer.plot(); "
        "print(lazy, 'torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert done.stdout == "False False False\n"


@pytest.mark.processes
def test_a_script_needs_no_guard_to_read_traces(traces: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import commprof as cp\nprint('once')\n"
        "from commprof.analysis.traces.one_rank import files\n"
        "files._WORTH_PROCESSES_BYTES = 0\n"  # as if these were large
        f"print(len(cp.trace({str(traces)!r}).to_frame()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert done.stdout == "once\n2\n"


def test_names_complete_and_are_there() -> None:
    found: list[str | None] = []
    complete = rlcompleter.Completer({"cp": cp}).complete
    while (match := complete("cp.", len(found))) is not None:
        found.append(match.rstrip("()").removeprefix("cp."))
    assert set(cp.__all__) <= set(found)
    assert all(getattr(cp, name).__doc__ for name in cp.__all__)
    assert cp.__version__ == version("commprof")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cp.nonsense  # type: ignore[attr-defined]


@pytest.mark.processes
def test_an_editor_knows_the_names() -> None:
    def completed(line: str) -> set[str]:
        project = jedi.Project(ROOT, sys_path=[str(ROOT), *sys.path])
        return {found.name for found in jedi.Script(f"import commprof as cp\n{line}", project=project).complete()}

    assert set(cp.__all__) <= completed("cp.")
    assert "to_frame" in completed("cp.predict('runs').")
