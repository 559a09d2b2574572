"""Traces of several runs are each answered for themselves; where nothing tells two apart, people are asked."""

import json
from pathlib import Path

import pytest

from commprof.analysis.traces.sets.belonging import read_one_run, read_runs
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.traces import header, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1

NOW = 1_700_000_000_000_000_000
DAY = 86_400_000_000_000


def write(path: Path, rank: int, world_size: int = 2, *, since_ns: int | None = NOW) -> Path:
    fields = {} if since_ns is None else {"baseTimeNanoseconds": since_ns}
    return write_trace(path, (RANK_0, RANK_1)[rank % 2], header(rank, world_size, **fields))


def files(path: Path) -> list[list[str]]:
    return [[file.name for file in run.files] for run in read_runs([path])]


def test_the_ranks_of_a_run_belong_together(tmp_path: Path) -> None:
    for rank in range(2):
        write(tmp_path / f"{rank}.json", rank)
    (run,) = read_runs([tmp_path])
    assert len(run.traces) == 2
    assert run.findings == ()


def test_traces_that_share_no_wall_time_are_of_two_runs(tmp_path: Path) -> None:
    write(tmp_path / "0.json", 0)
    write(tmp_path / "1.json", 1, since_ns=NOW + 11 * DAY)
    first, second = read_runs([tmp_path])
    assert [len(run.traces) for run in (first, second)] == [1, 1]
    assert "is recorded 950400 s apart from these" in first.findings[0].message
    with pytest.raises(BadInput, match="traces of 2 runs"):
        read_one_run([tmp_path])


def test_hosts_clocks_may_be_off_by_seconds_and_then_it_is_said(tmp_path: Path) -> None:
    write(tmp_path / "0.json", 0)
    write(tmp_path / "1.json", 1, since_ns=NOW + 3 * 10**9)
    (run,) = read_runs([tmp_path])
    assert "after others' end by their clocks" in run.findings[0].message


def test_two_jobs_in_a_folder_are_told_apart_by_their_files_names(tmp_path: Path) -> None:
    for job in ("a", "b"):
        for rank in range(2):
            write(tmp_path / f"{job}-rank{rank}.json", rank)
    assert files(tmp_path) == [["a-rank0.json", "a-rank1.json"], ["b-rank0.json", "b-rank1.json"]]


def test_two_jobs_of_one_host_each_are_told_apart_by_their_hosts(tmp_path: Path) -> None:
    for number, (host, rank) in enumerate((host, rank) for host in ("a", "b") for rank in range(2)):
        fields = header(rank, 2, host_name=host, baseTimeNanoseconds=NOW)
        write_trace(tmp_path / f"{host}_{number}77.pt.trace.json", (RANK_0, RANK_1)[rank], fields)
    assert files(tmp_path) == [["a_077.pt.trace.json", "a_177.pt.trace.json"], ["b_277.pt.trace.json", "b_377.pt.trace.json"]]
    (tmp_path / "a_177.pt.trace.json").unlink()  # then rank 1 on b may belong to either rank 0
    with pytest.raises(BadInput, match="nothing tells their runs apart"):
        read_runs([tmp_path])


def test_jobs_of_other_numbers_of_ranks_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "0.json", 0, 2)
    write(tmp_path / "1.json", 1, 8)
    assert files(tmp_path) == [["0.json"], ["1.json"]]


def test_two_folders_may_hold_one_job_or_two(tmp_path: Path) -> None:
    write(tmp_path / "node0" / "0.json", 0)
    write(tmp_path / "node1" / "1.json", 1)
    assert len(read_runs([tmp_path / "node0", tmp_path / "node1"])) == 1
    write(tmp_path / "node1" / "0.json", 0)
    assert [len(run.files) for run in read_runs([tmp_path / "node0", tmp_path / "node1"])] == [1, 2]


@pytest.mark.parametrize(("numbered", "words"), [(10, "most likely of another window of this run's"), (0, "not of this run")])
def test_windows_of_one_run_are_answered_one_by_one(tmp_path: Path, numbered: int, words: str) -> None:
    """The profiler's next window counts its steps on; another run begins anew."""
    for window in range(2):
        for rank in range(2):
            steps = [
                own | {"name": own["name"].replace("Step#", f"Step#{window * numbered or ''}")}
                for own in (RANK_0, RANK_1)[rank]
            ]
            fields = header(rank, 2, host_name="a", baseTimeNanoseconds=NOW + window * 10**9)
            write_trace(tmp_path / f"host_{window}{rank}77.pt.trace.json", steps, fields)
    runs = read_runs([tmp_path])
    assert [len(own.files) for own in runs] == [2, 2]
    assert all(words in own.findings[0].message for own in runs)


def test_the_same_rank_twice_is_asked_about(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        write(tmp_path / f"{name}.json", 0 if name != "z" else 1)
    with pytest.raises(BadInput, match=r"x.json and .*y.json are both rank 0, and nothing tells their runs apart"):
        read_runs([tmp_path])


def test_our_merged_timeline_in_the_folder_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(2):
        write(tmp_path / f"rank{rank}.json", rank)
    assert main(["trace", str(tmp_path), "--perfetto", str(tmp_path / "merged" / "ranks.json.gz")]) == 0
    (tmp_path / "merged" / "ranks.json.gz").rename(tmp_path / "ranks.json.gz")
    capsys.readouterr()
    (run,) = read_runs([tmp_path])
    assert [own.name for own in run.files] == ["rank0.json", "rank1.json"]
    assert "ranks.json.gz is not of torch.profiler" in run.findings[0].message
    with pytest.raises(BadInput, match=r"ranks.json.gz is not of torch.profiler"):
        read_runs([tmp_path / "ranks.json.gz"])


def test_several_runs_each_have_their_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("a", "b"):
        for rank in range(2):
            write(tmp_path / run / "traces" / f"rank{rank}.json", rank)
        (tmp_path / run / "run.json").write_text("{}")
    paths = [str(tmp_path / run) for run in ("a", "b")]
    assert main(["trace", *paths]) == 0
    out = capsys.readouterr().out
    assert out.count("2 of 2 ranks") == 2
    assert "run a\n" in out
    assert "run b\n" in out
    assert main(["trace", *paths, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(own["name"], len(own["ranks"])) for own in document["runs"]] == [("a", 2), ("b", 2)]
    assert main(["trace", *paths, "--csv", str(tmp_path / "tables")]) == 2
    assert "--csv and --perfetto write one; name its traces" in capsys.readouterr().err
