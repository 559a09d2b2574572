"""The notebook of the documents runs from top to bottom in a kernel of its own and comes to a verdict."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests import ROOT
from tests.report_runs import add_study

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# In a process of its own: what the kernel's client warns of is no fault of ours.
RUN = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=240).execute()
nbformat.write(notebook, sys.argv[2])
"""


def outputs(cell: NotebookNode) -> list[str]:
    return [kind for output in cell.outputs for kind in output.get("data", {"text/plain": ""})]


@pytest.mark.processes
def test_every_cell_runs_and_the_last_one_is_the_verdict(tmp_path: Path) -> None:
    add_study(tmp_path / "runs" / "demo")
    (tmp_path / "docs").mkdir()
    done = tmp_path / "done.ipynb"
    command = [sys.executable, "-c", RUN, str(NOTEBOOK), str(done)]
    subprocess.run(command, cwd=tmp_path / "docs", capture_output=True, text=True, check=True, timeout=300)
    cells = [cell for cell in nbformat.read(done, 4).cells if cell.cell_type == "code"]
    assert len(cells) == 10
    assert all(cell.outputs for cell in cells)
    assert sum("image/png" in outputs(cell) for cell in cells) == 2
    assert sum("text/html" in outputs(cell) for cell in cells) >= 6
    assert cells[-1].outputs[0].text.startswith("yes: ")


def test_the_notebook_tells_nothing_of_where_it_ran() -> None:
    text = NOTEBOOK.read_text()
    for folder in ("home", "root"):
        assert f"/{folder}/" not in text
    nbformat.validate(nbformat.reads(text, 4))
