"""Runs that cannot be pooled, side by side: what differs, ratios over A worked out on paper, and when they are pooled."""

import itertools
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.page.html import Noted
from commprof.analysis.report.sides.decided import faster
from commprof.analysis.report.sides.page import write_comparison
from commprof.analysis.report.sides.sections import step_section
from commprof.analysis.report.sides.sides import common_ranks, differences, sides_of, why_apart
from commprof.analysis.step.decided import DISTURBED
from commprof.cli import main
from commprof.commbench.errors import BadInput
from commprof.commbench.records.types import RankInfo
from tests.report_runs import EVERY_PAGE, HOSTILE, OWN_SCRIPTS, WORKLOAD, Page, add_bench, add_study, add_train

LARGE = replace(WORKLOAD, experiment="large", num_parameters=5_000_000)


def test_two_models_are_compared_and_what_differs_comes_first(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """64 samples in 0.1 s against 64 in 0.125 s: 0.8 of A's throughput."""
    small = add_train(tmp_path / "small", 2, 0.1)
    large = add_train(tmp_path / "large", 2, 0.125, workload=LARGE)
    assert main(["report", str(small), str(large)]) == 0
    printed = capsys.readouterr()
    assert "side by side, not pooled:" in printed.err and "experiment (toy and large)" in printed.err
    page = Page(Path(printed.out.splitlines()[-1]))
    assert page.path.resolve() == here / "comparison.html"
    assert page.sections[:2] == ["setup", "step"] and {"files-a", "files-b", "training-b"} <= set(page.sections)
    assert "0.80x the samples per second of A, measured for B on 2 ranks 0.80x to 0.80x" in page.text
    assert "A sample is not the same work for both." in page.text
    assert "They differ in Training." in page.text
    assert page.row("Training toy: 1,000,000 parameters, 3.815 MiB of gradients large: 5,000,000 parameters")
    assert page.row("B large 2 synchronised 125 ms 125 to 125 ms 16 512 512 to 512 0.80x 0.80x to 0.80x")
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_two_benches_are_compared_wire_against_wire(tmp_path: Path) -> None:
    first, second = add_bench(tmp_path / "monday", 2), add_bench(tmp_path / "tuesday", 2, git_commit="def456")
    reason = why_apart([first, second])
    assert reason is not None and reason.endswith("are both benches on 2 ranks")
    page = Page(write_comparison([first, second], reason, tmp_path / "page.html").page)
    assert "1.00x the bus bandwidth of A, measured for B on 2 ranks at 8 MiB 0.67x to 1.50x" in page.text
    assert page.row("1 KiB 1 ms 841 us to 1.16 ms 1 ms 841 us to 1.16 ms 1.00x")
    assert "Git commit abc123 def456" in page.text
    assert {"A, 2 ranks", "B, 2 ranks"} <= {word.strip() for word in page.words}


def test_what_belongs_together_is_pooled(tmp_path: Path) -> None:
    runs = [add_train(tmp_path / "one", 1, 0.1), add_bench(tmp_path / "bench", 2), add_train(tmp_path / "two", 2, 0.11)]
    assert why_apart(runs) is None
    assert why_apart([runs[0], runs[0]]) is None


def test_a_training_before_and_after_a_change_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one model, on one machine, with no bench: all that two such runs can say is which is faster."""
    before, after = add_train(tmp_path / "before", 2, 0.125), add_train(tmp_path / "after", 2, 0.1)
    assert "are both trainings on 2 ranks, with no bench beside them" in (why_apart([before, after]) or "")
    assert main(["report", str(before), str(after), "--verdict"]) == 0
    assert capsys.readouterr().out.startswith("Verdict: B is faster: B has 1.25x the samples per second of A on 2 ranks.")
    assert why_apart([before, after, add_bench(tmp_path / "bench", 2)]) is None


def test_trainings_shared_out_in_other_ways_are_not_one_training(tmp_path: Path) -> None:
    """Sharded and not on as many ranks: side by side, and the strategy is what differs; on one rank both are profiles."""
    plain = add_train(tmp_path / "plain", 2, 0.1, workload=replace(WORKLOAD, kind="ddp"))
    sharded = add_train(tmp_path / "sharded", 2, 0.125, workload=replace(WORKLOAD, kind="fsdp2"))
    reason = why_apart([plain, sharded])
    assert reason is not None and reason.endswith("sharded as FSDP2 on 2 ranks") and "plain ran as DDP and" in reason
    page = Page(write_comparison([plain, sharded], reason, tmp_path / "page.html").page)
    assert "They differ in Strategy" in page.text
    assert page.row("Strategy DDP FSDP2")
    one = add_train(tmp_path / "one", 1, 0.1, workload=replace(WORKLOAD, kind="none"))
    assert why_apart([one, add_train(tmp_path / "shards", 1, 0.1, workload=replace(WORKLOAD, kind="fsdp2"))]) is None


def test_what_a_training_sends_is_among_what_differs(tmp_path: Path) -> None:
    own = replace(WORKLOAD, precision="bf16", accumulation=4, communication_hook="bf16")
    sides = sides_of([add_train(tmp_path / "a", 2, 0.1), add_train(tmp_path / "b", 2, 0.1, workload=own)], "")
    apart, _ = differences(sides)
    assert apart["Precision"] == ("-", "bf16")
    assert apart["Accumulation"] == ("-", "4 micro-batches per step")
    assert apart["Communication hook"] == ("-", "bf16")


def test_other_machines_and_two_studies_stand_apart(tmp_path: Path) -> None:
    devices = tuple(RankInfo(rank=r, local_rank=r, hostname="node-b", device_name="Xeon") for r in range(2))
    here, there = add_train(tmp_path / "here", 2, 0.1), add_train(tmp_path / "there", 2, 0.2, ranks=devices)
    assert "different machines" in (why_apart([here, there]) or "")
    sides = sides_of([here, there], "why")
    apart, shared = differences(sides)
    assert apart == {"Devices": ("node-a: EPYC", "node-b: Xeon")} and shared["Backend"] == ("gloo", "gloo")
    section = step_section(sides)
    assert section is not None
    assert [row[-1] for row in section.tables[0].rows] == ["-", Noted(value="0.50x", note="0.50x to 0.50x")]
    studies = [add_study(tmp_path / name, cores_per_node=2) for name in ("left", "right")]
    assert why_apart(studies) == "left and right are both studies"
    assert common_ranks(sides_of(studies, "why")) == [2, 1, 4], "4 ranks share 2 cores"


def test_more_than_six_are_refused_with_the_reason(tmp_path: Path) -> None:
    runs = [add_bench(tmp_path / f"bench{number}", 2, sizes=(1024,)) for number in range(7)]
    with pytest.raises(BadInput, match="both benches on 2 ranks; 6 runs or studies can stand side by side, not 7"):
        write_comparison(runs, why_apart(runs) or "", None)


def test_text_from_files_is_only_ever_text(tmp_path: Path) -> None:
    evil = {"environ": {HOSTILE: HOSTILE}, "git_commit": HOSTILE, "launcher": HOSTILE, "failure": HOSTILE, "status": "failed"}
    ranks = (RankInfo(rank=0, local_rank=0, hostname=HOSTILE, device_name=HOSTILE),)
    name = HOSTILE.replace("/", "|")
    first = add_train(tmp_path / name, 1, 0.1, workload=replace(WORKLOAD, experiment=HOSTILE), ranks=ranks, **evil)
    page = Page(write_comparison([first, add_train(tmp_path / "two", 1, 0.1)], HOSTILE, tmp_path / "page.html").page)
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.of("script") in (EVERY_PAGE, OWN_SCRIPTS)
    assert not [attribute for _, attributes in page.elements for attribute in attributes if attribute.startswith("on")]
    assert "\x1b" not in page.source and "\u202e" not in page.source


def test_too_many_runs_are_told_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models' runs on one wire, and a bench of another: the first model's go with the wire that they ran on."""
    small = [add_train(tmp_path / f"small-{n}", n, 0.1) for n in (1, 2, 4)]
    large = [add_train(tmp_path / f"large-{n}", n, 0.2, workload=LARGE) for n in (1, 2)]
    benches = [add_bench(tmp_path / "bench", 2), add_bench(tmp_path / "my bench", 2, backend="nccl")]
    assert main(["report", *map(str, [*small, *large, *benches])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    commands = line.partition("What belongs together: ")[2].split("; ")
    assert len(commands) == 2
    for command, own in zip(commands, (small, large), strict=True):
        words = shlex.split(command)
        assert words[:2] == ["commprof", "report"]
        assert {str(run) for run in own} <= set(words[2:])
        assert str(benches[1]) not in words
        assert main([*words[1:], "--text"]) == 0


def test_runs_of_several_strategies_are_told_what_to_type_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was typed was offered again before."""
    common = [add_train(tmp_path / "one", 1, 0.1), *(add_bench(tmp_path / f"bench-{n}", n) for n in (2, 4))]
    ways = [
        [add_train(tmp_path / f"{kind}-{n}", n, 0.1, workload=replace(WORKLOAD, kind=kind)) for n in (2, 4)]
        for kind in ("ddp", "fsdp2", "hsdp")
    ]
    typed = [str(run) for run in (*common, *itertools.chain(*ways))]
    assert main(["report", *typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    commands = [shlex.split(command) for command in line.partition("What belongs together: ")[2].split("; ")]
    assert [set(words[2:]) for words in commands] == [set(map(str, [*common, *own])) for own in ways]
    for words in commands:
        assert main([*words[1:], "--text"]) == 0


def test_the_decision_comes_first_wherever_sides_are_shown(
    tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """64 samples in 0.1 s against as many in 0.125 s, on other machines: 1.25 times as many a second."""
    devices = tuple(RankInfo(rank=r, local_rank=r, hostname="node-b", device_name="Xeon") for r in range(2))
    paths = [str(add_train(tmp_path / "before", 2, 0.125)), str(add_train(tmp_path / "after", 2, 0.1, ranks=devices))]
    said = "Verdict: B is faster: B has 1.25x the samples per second of A on 2 ranks."
    shown = {}
    for flag in ("--out", "--text", "--markdown", "--verdict"):
        assert main(["report", *paths, flag, *(["page.html"] if flag == "--out" else [])]) == 0
        shown[flag] = " ".join(capsys.readouterr().out.replace("**", "").split())
        assert said in shown[flag], flag
    assert shown["--verdict"].startswith(said) and shown["--out"].startswith(said)
    page = Page(here / "page.html")
    assert said in page.text and ("a", "answer") in {(tag, dict(own).get("class")) for tag, own in page.elements}
    assert "B is faster" in page.text.partition("Skip to the verdict")[2][:20]


@pytest.mark.parametrize(
    ("seconds", "first"),
    [
        ((0.1, 0.1), "Which is faster cannot be told, because B has 1.00x the samples per second of A on 2 ranks, no more"),
        ((0.1, 0.103), "Which is faster cannot be told, because B has 0.97x "),  # as two runs of one training differ
        ((0.1, 0.2), "A is faster: B has 0.50x the samples per second of A on 2 ranks."),
        ((0.4, 0.2, 0.1), "C is the fastest: C has 2.00x the samples per second of B on 2 ranks."),
        ((0.4, 0.1, 0.101), "Which is faster cannot be told, because B has 1.01x the samples per second of C"),
    ],
)
def test_which_is_faster(seconds: tuple[float, ...], first: str, tmp_path: Path) -> None:
    sides = sides_of([add_train(tmp_path / f"side{number}", 2, step_s) for number, step_s in enumerate(seconds)], "")
    assert faster(sides, disturbed=False).sentence.startswith(first)
    told = faster(sides, disturbed=True)
    assert (told.sentence, told.sign) == (f"Which is faster cannot be told, because {DISTURBED}.", "unknown")


def test_what_cannot_be_compared_has_its_reason(tmp_path: Path) -> None:
    wire, small = add_bench(tmp_path / "wire", 2), add_train(tmp_path / "small", 2, 0.1)
    large = add_train(tmp_path / "large", 2, 0.2, workload=LARGE)
    said = {
        "not the same work": [small, large],
        "no number of ranks on which all of them trained, nor": [small, wire],
        "B has 1.00x the bus bandwidth of A on 2 ranks at 8 MiB": [wire, add_bench(tmp_path / "other", 2)],
    }
    for reason, paths in said.items():
        assert reason in faster(sides_of(paths, ""), disturbed=False).sentence


def test_a_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """@train-n2 may be the folder that stands beside it."""
    run = str(add_train(tmp_path / "after", 2, 0.1))
    assert main(["report", run, f"{run}/."]) == 2
    assert "after, which leaves nothing to compare; name the other run by its folder" in capsys.readouterr().err
