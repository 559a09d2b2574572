"""`commprof trace` as users meet it: folders, findings, one JSON document, harmless tables, one line for what is wrong."""

import csv
import json
from multiprocessing import active_children
from pathlib import Path

import pytest

from commprof.cli import main
from tests.traces import all_reduce, event, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for rank, events in enumerate((RANK_0, RANK_1)):
        name = f"rank{rank:05d}.trace.json.gz"
        write_trace(tmp_path / "run" / "traces" / name, events, header(rank, 2, host_name="a"))
    return tmp_path / "run"


def test_a_run_in_80_columns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(run)]) == 0
    out, err = capsys.readouterr()
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "2 of 2 ranks" in out
    assert "   0    60 us   33.3%    8.3%   12.5%    8.3%    4.2%    4.2%   25.0%    4.2%" in out
    assert "160 GB/s" in out
    assert "23.1% is waiting" in " ".join(out.split())
    assert err.startswith("reading 2 traces")


def test_one_json_document_and_tables(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(run / "traces"), "--json", "--csv", str(tmp_path / "tables")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [own["rank"] for own in document["ranks"]] == [0, 1]
    assert document["budgets"][0]["waiting_exposed_s"] == 5e-6
    with (tmp_path / "tables" / "budget.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wall_s"]) for row in rows] == pytest.approx([65e-6, 55e-6, 60e-6, 60e-6])
    with (tmp_path / "tables" / "collectives.csv").open() as file:
        assert [row["message_bytes"] for row in csv.DictReader(file)] == ["4000000", "4000000"]


def test_findings_name_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The unnamed file comes first by name, and still rank 3 belongs to the file that says so."""
    unnamed = header(None)
    whole = [*RANK_0, *kernel("orphan", 140, 150, launched_us=139, correlation=80)[1:]]
    write_trace(tmp_path / "b.json", RANK_1, header(3, 4))
    write_trace(tmp_path / "a.json", whole, unnamed)
    (tmp_path / "notes.json").write_text("{}")
    cut = write_trace(tmp_path / "c.json", RANK_1, header(1, 4))
    cut.write_bytes(cut.read_bytes()[:-300])
    assert main(["trace", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(own["rank"], Path(own["path"]).name) for own in document["ranks"]] == [(0, "a.json"), (1, "c.json"), (3, "b.json")]
    names = {own["name"] for own in document["findings"]}
    assert names >= {"rank", "left out", "damaged", "orphans", "missing"}
    assert any("the order of files" in own["message"] for own in document["findings"])


def test_hostile_names_are_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = {
        "Process Group Name": "=cmd|'/c calc'!A0",
        "Collective name": "<script>\x1b[31mallreduce",
        "Process Group Ranks": "[0, ...]",
    }
    events = [profiler_step(1, 0, 100), *all_reduce(30, 70, launched_us=20, correlation=3, **group)]
    write_trace(tmp_path / "e\x1b[2Jvil.json", events, header(None))
    write_trace(tmp_path / "f.json", [event("cpu_op", "\x1b]0;x\x07", 1, 2)], header(None))
    assert main(["trace", str(tmp_path), "--csv", str(tmp_path / "tables")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    with (tmp_path / "tables" / "collectives.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["group"].startswith("'=")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "no trace (.json or .json.gz) in"),
        (lambda path: path.write_text('{"a": 1}'), "has no traceEvents"),
        (lambda path: None, "does not exist"),
        (lambda path: (path.mkdir(), (path / "1.json").write_text("[")), "1.json holds no timed event"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{}")), "is a run without traces"),
        (
            lambda path: ((path / "train-n2" / "traces").mkdir(parents=True), (path / "run.json").write_text("{}")),
            "x.json/train-n2",
        ),
    ],
)
def test_one_line_for_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, message: str) -> None:
    make(tmp_path / "x.json")  # type: ignore[operator]
    assert main(["trace", str(tmp_path / "x.json")]) == 2
    assert not active_children()
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.splitlines()[-1].startswith("commprof: error: ")
