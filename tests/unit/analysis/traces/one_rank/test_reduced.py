"""Reduced traces: the same answer from kilobytes, and one line for a file that is none."""

import gzip
import json
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import msgspec
import pytest

from commprof.analysis.traces.all_ranks.matched.clocks import RankClock
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective
from commprof.analysis.traces.all_ranks.stragglers import costs_ns
from commprof.analysis.traces.one_rank import files, reduced
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.spans import union
from commprof.cli import main
from commprof.commbench.errors import BadInput
from tests.traces import event, gloo_all_reduce, header, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1
from tests.unit.analysis.traces.all_ranks.test_ranks import ONE

GLOO = [profiler_step(1, 0, 90), event("cpu_op", "aten::mm", 0, 40), gloo_all_reduce(30, 70), gloo_all_reduce(35, 80)]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Ranks 0 and 1 on a GPU, the second one's clock a second ahead; rank 2 on gloo, with a cut file."""
    later = [own | {"ts": own["ts"] + 1e6} for own in RANK_1]
    write_trace(tmp_path / "traces/rank0.trace.json.gz", RANK_0, header(0, 3, host_name="a"))
    write_trace(tmp_path / "traces/rank1.pt.trace.json", later, header(1, 3, host_name="b"))
    cut = write_trace(tmp_path / "traces/rank2.json", [*GLOO, event("cpu_op", "lost", 80, 81)], header(None))
    cut.write_bytes(cut.read_bytes()[:-20])
    return tmp_path


@pytest.mark.processes
def test_reduced_files_give_the_answer_that_their_traces_give_here_and_in_processes(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(traces / "traces"), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(files, "_WORTH_PROCESSES_BYTES", 0)
    out = traces / "reduced"
    assert main(["trace", "--reduce", str(traces), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("3 reduced traces, ")
    assert sorted(path.name for path in out.iterdir()) == [f"rank{rank}.reduced.gz" for rank in range(3)]
    answers = []
    for folder in (traces / "traces", out):
        assert main(["trace", str(folder), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == here
    assert not active_children()
    assert {own["name"] for own in answers[0]["findings"]} >= {"damaged", "rank"}
    assert main(["trace", "--reduce", str(out), "--out", str(traces / "again")]) == 0
    assert [(traces / "again" / path.name).read_bytes() == path.read_bytes() for path in out.iterdir()] == [True] * 3


def test_a_run_without_traces_is_read_from_its_reduced_ones(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = traces / "run"
    assert main(["trace", "--reduce", str(traces / "traces" / "rank0.trace.json.gz"), "--out", str(run / "reduced")]) == 0
    assert main(["trace", str(run)]) == 0
    assert "1 of 3 ranks" in capsys.readouterr().out


def document(**changes: object) -> bytes:
    """A reduced trace as it is written, with these fields changed."""
    whole = {
        "path": "x", "header": {}, "on_gpu": False, "windows": [{"number": 1, "start_ns": 0, "end_ns": 9}],
        "notes": {"text_bytes": 9, "lost_bytes": 0, "damage": "", "num_events": 1, "num_unreadable": 0, "num_python": 0,
                  "whole_us": False},
        "kinds": [{"op": "barrier", "group": "", **dict.fromkeys(("message_bytes", "dtype", "group_ranks", "group_size"))}],
        "collectives": dict.fromkeys(("kind", "start_ns", "duration_ns", "step", "sequence"), bytes(8)),
        "compute": bytes(8) + (1).to_bytes(8, "little"), "memory": b"", "launch_idle": b"",
        "lag_ns": None, "num_gpu_events": 0, "num_orphans": 0, "span_ns": 9, "buckets": [],
    }  # fmt: skip
    return b"commprof reduced trace 1\n" + msgspec.msgpack.encode(whole | changes)


def test_what_is_written_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(document()))
    trace = reduced.read_reduced(tmp_path / "x")
    assert trace.compute.tolist() == [[0, 1]]
    assert [(own.op, own.sequence) for own in trace.collectives] == [("barrier", 0)]


ROW = dict.fromkeys(("kind", "start_ns", "duration_ns", "step", "sequence"), bytes(8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document()[:-20], "no whole reduced trace"),
        (document().replace(b"trace 1\n", b"trace 12\n"), "of version 12, this commprof reads 1; upgrade"),
        (document().replace(b"trace 1\n", b"trace \xb2\n"), "does not begin as one"),
        (document(span_ns="\x1b[31m"), "no whole reduced trace"),
        (document(span_ns=2**63), "a time is out of range"),
        (document(compute=bytes(8)), "intervals are out of order"),
        (document(compute=bytes(16)), "intervals are out of order"),
        (document(memory=b"abc"), "no whole reduced trace"),
        (document(collectives=ROW | {"step": b""}), "columns differ in length"),
        (document(collectives=ROW | {"kind": b"\1" + bytes(7)}), "a collective is broken"),
        (document(collectives=ROW | {"start_ns": b"\xff" * 7 + b"\x7f"}), "a number is out of range"),
        (document(collectives=ROW | {"duration_ns": b"\xff" * 8}), "duration is out of range"),
        (document(header={"rank": -1}), "a rank or a number of ranks"),
        (document(windows=[{"number": 1, "start_ns": 5, "end_ns": 5}]), "a step lasts no time"),
        (document(path="x" * 5000), "a name is too long"),
    ],
)
def test_one_line_for_what_is_no_reduced_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes, message: str
) -> None:
    (tmp_path / "rank0.reduced.gz").write_bytes(gzip.compress(text, 1))
    assert main(["trace", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "\x1b" not in err
    assert err.splitlines()[-1].startswith("commprof: error: ")


def test_a_cut_file_and_what_is_too_large_to_be_read_back_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.reduced.gz"
    path.write_bytes(gzip.compress(document()) + gzip.compress(bytes(2**20)) * 256)
    with pytest.raises(BadInput, match="unpacks to more than 256 MiB"):
        reduced.read_reduced(path)
    path.write_bytes(gzip.compress(document()))
    trace = reduced.read_reduced(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match="its packed data end too early; reduce the trace again"):
        reduced.read_reduced(path)
    monkeypatch.setattr(reduced, "MAX_BYTES", 100)
    with pytest.raises(BadInput, match="more than is read back"):
        reduced.write_reduced(path, trace)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reduce"], "--reduce and --out belong together"),
        (["--out", "x"], "--reduce and --out belong together"),
        (["--reduce", "--out", "x", "--json"], "--reduce only reduces"),
        (["--reduce", "--out", "x", "rank0.json"], "would both become x/rank0.reduced.gz"),
    ],
)
def test_one_line_for_wrong_words(
    traces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(traces)
    write_trace(traces / "rank0.json", GLOO)
    assert main(["trace", "traces", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("x").exists()


def test_waits_that_overlap_count_once_and_not_while_the_rank_was_busy() -> None:
    """Rank 0 waits for rank 1 over [0, 30) and [10, 40) and is busy over [5, 15): 30. For rank 2 it waits over [38, 50): 12."""

    def seen(start_ns: dict[int, int], end_ns: int) -> MatchedCollective:
        parts: dict[int, Collective] = {rank: replace(ONE, start_ns=own, end_ns=end_ns) for rank, own in start_ns.items()}
        return MatchedCollective(parts=parts, num_expected=2, by_sequence=True)

    matched = [seen({0: 0, 1: 30}, 60), seen({0: 10, 1: 40}, 60), seen({0: 38, 2: 50}, 60)]
    clocks = {rank: RankClock(rank=rank) for rank in range(3)}
    busy = {rank: union([5], [15]) for rank in range(3)}
    assert costs_ns(matched, clocks, busy) == {1: {1: 30, 2: 12}}
