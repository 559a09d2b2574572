"""A study's pages written side by side are those written one after the other, and an error in one names its file."""

from multiprocessing import active_children
from pathlib import Path

import pytest

from commprof.analysis.report.study import cell_pages
from commprof.analysis.report.study.cell_pages import write_cell_pages
from commprof.analysis.runs.load import load_run
from commprof.analysis.study.experiment import Cell
from commprof.commbench.errors import BadInput
from tests.report_runs import Page, add_bench


@pytest.mark.processes
def test_pages_written_side_by_side_are_whole_and_errors_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benches = [add_bench(tmp_path / f"bench-{wire}", 2, wire=wire) for wire in ("1gbit", "2gbit")]
    cells = [Cell(experiment="toy", wire=run.name, runs=(load_run(run),)) for run in benches]
    pages = [tmp_path / "analysis" / cell.name / "report.html" for cell in cells]
    alone = [page.read_text().split("<footer>")[0] for page in write_cell_pages(tmp_path, cells, pages)]
    monkeypatch.setattr(cell_pages, "_WORTH_PROCESSES", 1)
    together = write_cell_pages(tmp_path, cells, pages)
    assert together == pages
    assert [page.read_text().split("<footer>")[0] for page in together] == alone
    assert "wire" in Page(together[1]).sections
    (benches[1] / "collectives.jsonl").write_text("no record\n")
    with pytest.raises(BadInput, match=r"bench-2gbit/collectives\.jsonl:1"):
        write_cell_pages(tmp_path, cells, pages)
    assert not active_children()
