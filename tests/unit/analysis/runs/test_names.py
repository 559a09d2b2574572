"""Runs named in few words, and the list of what there is."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.runs.found import find_runs
from commprof.analysis.runs.names import KINDS, run_named
from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import create_run
from commprof.commbench.records.types import RunStatus
from tests.factory import (
    collective,
    run_info,
    step,
    timeline,
    workload,
    write_bench_run,
    write_measurements,
    write_training_run,
)

STARTED = "2026-01-0{}T00:00:00.000+00:00"


def place(
    path: Path, kind: str = "bench", *, day: int = 1, world_size: int = 2, status: RunStatus = "completed", **fields: object
) -> Path:
    """Make a run that has measured nothing."""
    info = run_info(
        kind,  # type: ignore[arg-type]
        world_size=world_size,
        status=status,
        run_id=path.name,
        started_at=STARTED.format(day),
        **fields,
    )
    create_run(path, info)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with runs of each kind, two of most, below runs/."""
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    for day in (1, 2):
        place(runs / f"day{day}-bench-n2-aa", day=day)
        place(runs / f"day{day}-train-n1-aa", "train", day=day, world_size=1, workload=workload())
        place(runs / f"day{day}-train-n2-aa", "train", day=day, workload=workload())
    place(runs / "day4-train-n2-quiet", "train", day=4, workload=workload(synchronised=False))
    place(runs / "day5-bench-n2-cut", day=5, status="interrupted")
    place(runs / "demo", "study", day=3, world_size=4)
    place(runs / "demo" / "bench-n4", day=3, world_size=4)
    place(runs / "demo" / "incomplete" / "bench-n4", day=9, world_size=4)
    return tmp_path


def named(word: str, *, ended_early: bool = False) -> str:
    run = run_named(word, find_runs(Path("runs")), ended_early=ended_early)
    assert run is not None
    return str(run.path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("word", "run"),
    [
        ("latest", "runs/day4-train-n2-quiet"),
        ("@train", "runs/day2-train-n2-aa"),
        ("@train-n1", "runs/day2-train-n1-aa"),
        ("@train-n2", "runs/day2-train-n2-aa"),  # what sends nothing is another kind
        ("@compute-n2", "runs/day4-train-n2-quiet"),
        ("@bench-n2", "runs/day2-bench-n2-aa"),
        ("@bench-n4", "runs/demo/bench-n4"),  # a study's stages have a kind too; what it set aside has none
        ("@study", "runs/demo"),
        ("day1-b", "runs/day1-bench-n2-aa"),
        ("demo", "runs/demo"),  # a whole name is no beginning of others
        ("demo/b", "runs/demo/bench-n4"),
        ("day5", "runs/day5-bench-n2-cut"),
    ],
)
def test_a_word_names_one_run(word: str, run: str) -> None:
    assert named(word) == run


@pytest.mark.usefixtures("here")
def test_what_is_gone_on_with_is_the_newest_that_ended_early() -> None:
    assert named("latest", ended_early=True) == named("@bench", ended_early=True) == "runs/day5-bench-n2-cut"
    with pytest.raises(BadInput, match="no train run that ended early lies below runs; runs/day2-train-n2-aa is completed"):
        named("@train", ended_early=True)


def test_a_run_that_only_failed_may_be_named(here: Path) -> None:
    place(here / "runs" / "day6-bench-n8", day=6, world_size=8, status="failed")
    with pytest.raises(BadInput, match="runs/day6-bench-n8 is failed, name it to take it anyway; commprof ls"):
        named("@bench-n8")


@pytest.mark.usefixtures("here")
def test_newer_runs_that_are_passed_over_are_named() -> None:
    run = run_named("@bench-n2", find_runs(Path("runs")))
    assert run is not None
    assert run.told == "@bench-n2: runs/day2-bench-n2-aa (newer: day5-bench-n2-cut is interrupted)"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("day1", "day1 begins the names of 3 runs: runs/day1-.*; type more"),
        ("@profile", "@profile names no kind of run; write for example @train-n1, with one of bench, .*study"),
        ("@train-n3", "no train run on 3 ranks that has completed lies below runs; commprof ls"),
        ("@links", "no links run that has completed lies below runs; commprof ls"),
    ],
)
def test_a_word_for_several_runs_or_none_is_refused(word: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        named(word)


@pytest.mark.usefixtures("here")
def test_a_word_that_begins_no_name_is_left_to_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_named("nothing", find_runs(Path("runs"))) is None
    assert main(["report", "nothing"]) == 2
    assert "nothing is not a run folder" in capsys.readouterr().err


@given(st.text(max_size=30))
def test_no_word_names_a_run_where_there_is_none(word: str) -> None:
    found = find_runs(Path("nowhere"))
    if word == "latest" or word.startswith("@"):
        with pytest.raises(BadInput):
            run_named(word, found)
    else:
        assert run_named(word, found) is None


def test_a_path_that_is_there_goes_before_a_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bench_run(here / "latest", 1e-4, 1e9)
    assert main(["fit", "latest"]) == 0
    assert "latest:" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["fit", "@bench-n2"], ["check", "day9"], ["predict", "@train-n1", "@bench-n2"]])
def test_each_verb_takes_names_and_says_what_it_took(here: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    late = STARTED.format(9)
    write_bench_run(here / "runs" / "day9-bench", 1e-4, 1e9, started_at=late)
    steps = [step(i) for i in range(20)]
    gradients = timeline([("head", 4_000_000, 1.0)], 0.06)
    write_training_run(here / "runs" / "late-profile", steps, world_size=1, gradients=gradients, started_at=late)
    assert main(words) in (0, 3)
    told = capsys.readouterr().err.splitlines()
    assert all(f"{word}: runs/" in line for word, line in zip(words[1:], told, strict=True))


def test_ranks_are_started_with_the_folder_and_not_with_the_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("commprof.launch.run_verb", lambda name, argv, args: started.append([name, *argv]) or 0)
    monkeypatch.setattr("commprof.commbench.bench.cli.check_bench", lambda args: None)
    monkeypatch.setattr("commprof.cli.verb_named", lambda name: _unchecked())
    for flag in (["--resume", "latest"], ["--resume=latest"], ["--res", "latest"]):
        assert main(["bench", "--nproc", "2", "--out", "latest", *flag]) == 0
    cut = "runs/day5-bench-n2-cut"
    assert [words[5:] for words in started] == [["--resume", cut], [f"--resume={cut}"], ["--res", cut]]
    assert all(words[4] == "latest" for words in started)  # what another flag takes stays as it is


def _unchecked() -> object:
    from dataclasses import replace

    from commprof.commbench.bench.cli import VERB

    return replace(VERB, check=lambda args: None)


@pytest.mark.usefixtures("here")
def test_sizes_are_no_beginning_of_a_runs_name(capsys: pytest.CaptureFixture[str]) -> None:
    place(Path("runs") / "178M-of-gradients")
    assert main(["bench", "--mode", "burst", "--buckets", "178M", "-b", "12Q"]) == 2
    assert "178M-of" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_ls_lists_the_newest_first_and_a_studys_stages_in_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [own["name"] for own in listed[:3]] == ["day5-bench-n2-cut", "day4-train-n2-quiet", "demo"]
    assert [own["kind"] for own in listed[:3]] == ["bench", "compute", "study"]
    assert listed[2]["num_stages"] == 1
    assert {own["kind"] for own in listed} <= set(KINDS)
    assert main(["ls", "demo"]) == 0
    shown = capsys.readouterr().out
    assert "bench-n4" in shown
    assert "study" not in shown


def test_ls_says_what_each_can_be_used_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    write_bench_run(runs / "bench", 1e-4, 1e9)
    steps, gradients = [step(i) for i in range(20)], timeline([("head", 4_000_000, 1.0)], 0.06)
    write_training_run(runs / "profile", steps, world_size=1, gradients=gradients)
    write_training_run(runs / "sharded", steps, gradients=gradients, workload=workload(kind="fsdp1"))  # its units were not seen
    place(runs / "dead", status="failed", failure="rank 1 was killed\nby SIGKILL")
    for op in ("all_gather", "broadcast"):
        write_measurements(runs / op, [collective(2**k, [1e-4] * 5, op=op) for k in range(3, 28)])
    (write_bench_run(runs / "damaged", 1e-4, 1e9) / "collectives.jsonl").write_text("{}\n")
    assert main(["ls", str(runs)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "for report, plots, fit, check; with a profile on one rank predict, advise" in shown
    assert "for report, plots; with a bench predict, advise" in shown
    assert "for report, plots, fit, check; with a sharded profile on one rank predict --strategy" in shown
    assert shown.count("for report, plots, fit, check") == 3, "a broadcast prices no gradients"
    assert shown.count("predict") == 3
    assert main(["ls", str(runs), "--json"]) == 0
    used_for = {own["name"]: own["used_for"] for own in json.loads(capsys.readouterr().out)}
    assert re.match(r"nothing: .*damaged/collectives.jsonl:1 is not a valid ", used_for["damaged"])
    assert "for nothing: it holds no measurement; it is failed: rank 1 was killed by SIGKILL" in shown


def test_ls_is_bounded_and_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        place(tmp_path / f"run{number:02}")
    assert main(["ls", str(tmp_path), "--most", "2"]) == 0
    shown = capsys.readouterr().out
    assert "10 older runs are left out; --most 12 shows them" in shown
    assert len(shown.splitlines()) < 10
    assert not find_runs(tmp_path, most_folders=5).whole
    assert find_runs(tmp_path, most_folders=13).whole
    for word in ("latest", "run0"):  # a newer one may lie where nobody looked
        with pytest.raises(BadInput, match="too many folders"):
            run_named(word, find_runs(tmp_path, most_folders=2))


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    place(tmp_path / "runs" / "real")
    (tmp_path / "runs" / "round").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "elsewhere").symlink_to(tmp_path / "runs" / "real")
    found = find_runs(tmp_path / "runs")
    assert sorted(found.name(run) for run in found.runs) == ["elsewhere", "real"]


def test_a_link_that_may_not_be_followed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /proc/1/cwd is for all but root."""
    place(tmp_path / "real")
    (tmp_path / "barred").symlink_to("/proc/1/cwd")
    real = os.stat

    def refuse(path: object, **how: object) -> os.stat_result:
        if "barred" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **how)  # type: ignore[arg-type, call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", refuse)
    found = find_runs(tmp_path)
    assert [found.name(run) for run in found.runs] == ["real"]


def test_a_word_too_long_for_a_path_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "x" * 5000]) == 2
    assert len(capsys.readouterr().err) < 300


def test_hostile_names_and_broken_cards_are_listed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place(tmp_path / "x\x1b[2J\n\u202ey", failure="\x1b[31m", status="failed")
    place(tmp_path / "plain").rename(tmp_path / os.fsdecode(b"\xff\xfe"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert main(["ls", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(shown)
    assert "cannot be read:" in shown
    assert "is not a valid RunInfo" in " ".join(shown.split())
    assert main(["ls", str(tmp_path), "--json"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "runs is no folder; commprof quickstart says where to begin"),
        (["."], "no run lies below"),
        (["--most", "0"], "--most 0 shows nothing"),
    ],
)
def test_ls_without_runs_says_where_to_begin(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ls", *words]) == 2
    assert said in capsys.readouterr().err
