"""The six lines: the same on the page, in the terminal, for a chat; and what they do not say."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.report.numbers.data import Material, gather
from commprof.analysis.report.numbers.six_lines import SixLines
from commprof.analysis.report.numbers.weakening import warnings
from commprof.analysis.report.page.words import MOST_LINES, as_text
from commprof.analysis.report.sections.build import build_report, write_report
from commprof.analysis.report.sections.six_lines import _checked, six_lines
from commprof.analysis.scaling.decision import Candidate
from commprof.cli import main
from tests.factory import step, write_training_run
from tests.paper_study import study
from tests.report_runs import HOSTILE, Page, add_bench, add_study, add_train
from tests.unit.analysis.health.test_disturbance import add_surroundings, samples

pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ["Verdict", "Why", "How sure", "Cost", "Change", "Next"]


def said_of(material: Material) -> SixLines:
    return six_lines(material, len(warnings(material)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_study(tmp_path_factory.mktemp("six") / "demo")


def said(*words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["report", *words, "--verdict"]) == 0
    return capsys.readouterr().out.splitlines()


def test_six_lines_for_a_chat_begin_with_the_decision(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(str(root), capsys=capsys)
    assert [line.partition(": ")[0] for line in lines] == NAMES
    assert lines[0] == (
        "Verdict: Use 4 ranks. 2: yes, 1.82x (predicted 1.65, 1.50 to 1.84). 4: yes, 3.20x (predicted 3.56, 3.23 to 3.95)."
    )
    assert lines[2].startswith(
        "How sure: Ranges are the 90 % intervals of the prediction. 2 was measured, inside its interval. Its "
        "communication was not as predicted: 3.95 ms predicted, 0 us measured from the last gradient"
    )
    assert "4 was measured below its interval. What failed is the assumption" in lines[2]
    assert "interval of the median" not in "".join(lines)  # one kind of interval, named once
    assert lines[5].startswith("Next: commprof advise ")


def test_page_terminal_and_markdown_say_the_same_six(root: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(str(root), capsys=capsys)
    assert main(["report", str(root)]) == 0
    printed = capsys.readouterr().out
    page = Page(root / "analysis" / "report.html")
    assert printed.splitlines()[-1] == str(page.path)
    for words in (" ".join(printed.split()), page.text):
        assert [words.count(line) for line in lines] == [1] * 6
    assert main(["report", str(root), "--markdown"]) == 0
    markdown = capsys.readouterr().out.replace("\\", "")
    assert all(line in markdown for line in lines)
    assert not list(here.iterdir())


@pytest.fixture
def slow_on_four(tmp_path: Path) -> Path:
    """A study of 4 ranks with one batch each in 0.25 s: 1.6 times one rank, which 2 ranks with 1.82 have already."""
    root = tmp_path / "demo"
    add_study(root)
    slow = root / "train-n4"
    for file in slow.iterdir():
        file.unlink() if file.is_file() else None
    slow.rmdir()
    add_train(slow, 4, 0.25, buckets=True, started_at="2026-01-01T12:00:00.000+00:00")
    return root


def test_why_and_change_are_of_the_ranks_to_use(slow_on_four: Path) -> None:
    """4 ranks are the most, and what the verdict names are 2."""
    told = said_of(gather([slow_on_four]))
    assert told.verdict.startswith("Use 2 ranks. ")
    assert "2 ranks" in told.why
    assert "on 2 ranks" in told.change
    assert "4 ranks" not in told.why + told.change


def test_the_break_even_table_and_the_headline_agree_with_the_verdict(slow_on_four: Path) -> None:
    root = slow_on_four
    page = Page(write_report([root], None).page)
    assert "Use 2 ranks. 2: yes, 1.82x" in page.text
    assert "4: no, 1.60x (predicted 3.56, 3.23 to 3.95): it adds nothing to 2 ranks here, because" in page.text
    assert "1.82x the samples per second of one rank, measured on 2 ranks" in page.text
    assert page.row("2 200 ms 101 ms 40 ms 5 2.02 110 ms measured yes")
    assert page.row("4 400 ms 101 ms 80 ms 5 1.34 250 ms measured no")


def test_cost_is_by_the_price_and_the_samples_that_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10^6 samples: 31250 steps of 0.1 s on one rank are 0.868 h; 7812.5 of 0.125 s on 4 are 0.271 h, 1.085 GPU-hours."""
    cost = said(str(root), capsys=capsys)[3]
    assert (
        cost == "Cost: a million samples cost 1.09 GPU-hours (0.271 h) on 4 ranks, +25%; 0.868 GPU-hours (0.868 h) on one rank."
    )
    cost = said(str(root), "--price", "2", "--samples", "2000000", capsys=capsys)[3]
    assert cost == (
        "Cost: an epoch of 2,000,000 samples costs 4.34 (0.543 h) on 4 ranks, +25%; 3.47 (1.74 h) on one rank, at 2 a GPU-hour."
    )
    for wrong in (["--price", "0"], ["--samples", "0"]):
        assert main(["report", str(root), *wrong]) == 2


def test_of_disturbed_runs_nothing_is_decided_advised_or_priced(tmp_path: Path) -> None:
    folders = study(tmp_path)
    folders.append(write_training_run(tmp_path / "real", [step(i, forward_s=0.1) for i in range(20)], world_size=2))
    add_surroundings(tmp_path / "real", samples(*[(0.5, 0.5)] * 5))
    told = said_of(gather(folders))
    assert told.verdict.startswith(
        "How many ranks to use cannot be told. 2: cannot be told: other processes disturbed these runs (2: 1.26x, predicted "
    )
    assert told.why == told.cost == "cannot be told from disturbed runs."
    assert told.change == "End what else runs there, and measure again."
    assert "This machine was disturbed: during real" in told.how_sure
    assert "assumption" not in told.how_sure
    assert told.next_command.endswith("the same on a quiet machine")


def test_a_disturbed_study_begins_again_elsewhere(tmp_path: Path) -> None:
    """In its own folder everything is measured already, and the same command would say the same again."""
    folder = add_study(tmp_path / "demo")
    add_surroundings(folder / "train-n4", samples(*[(0.5, 0.5)] * 5))
    told = said_of(gather([folder])).next_command
    assert told.endswith(f"--out {tmp_path / 'again'}: the same on a quiet machine")


def test_a_study_too_disturbed_for_intervals_begins_again_too(root: Path) -> None:
    """No saving can be told of such a machine, so that there is nothing to be advised."""
    material = gather([root])
    assert material.predicted is not None
    assert said_of(material).next_command.startswith("commprof advise ")
    jumpy = [replace(own, interval_s=None, too_disturbed="its pace drifts") for own in material.predicted.predictions]
    told = said_of(replace(material, predicted=replace(material.predicted, predictions=tuple(jumpy))))
    assert told.next_command.endswith(": the same on a quiet machine")


def test_runs_that_contradict_each_other_are_not_decided_on(tmp_path: Path) -> None:
    """Two ranks that take half of one rank's time for the same batch each."""
    folders = [add_train(tmp_path / "one", 1, 0.1), add_bench(tmp_path / "bench", 2), add_train(tmp_path / "two", 2, 0.05)]
    told = said_of(gather(folders))
    assert "2: cannot be told: these runs are not comparable, because 2 ranks cannot have more than 2 times" in told.verdict
    assert told.verdict.startswith("How many ranks to use cannot be told")


def test_what_is_missing_comes_next(tmp_path: Path) -> None:
    words = ("/opt/venv/bin/commprof", "train", "a config.yaml", "k=v", "--nproc", "1", "--folder", "x", "--out=y")
    alone, bench = add_train(tmp_path / "one", 1, 0.1, command=words), add_bench(tmp_path / "bench", 2)
    profile = said_of(gather([bench])).next_command
    assert profile.startswith("commprof train configs/small.yaml, or your own script")
    assert profile.endswith(f"; then commprof report @train-n1 {bench}"), "the bench that is there, on whatever ranks"
    log = add_bench(tmp_path / "log", 8, imported_from="all_reduce.log")
    assert "on one rank (docs/own-loop.md) on such a machine: " in said_of(gather([log])).next_command
    assert said_of(gather([alone])).next_command.startswith("commprof bench --nproc 2")
    again = said_of(gather([alone, bench])).next_command
    assert again == "commprof train 'a config.yaml' k=v --nproc 2: a run that checks what is predicted of 2 ranks"
    own = add_train(tmp_path / "own", 1, 0.1, command=("train.py", "--lr", "0.1"))
    again = said_of(gather([own, bench])).next_command
    assert again.startswith("torchrun --nproc-per-node 2 train.py --lr 0.1: ")


@pytest.mark.parametrize(
    ("script", "again"),
    [
        ("python3 train.py --out here", "commprof record --max-steps 80 -- torchrun --nproc-per-node 2 train.py --out here"),
        ("./train.sh --lr 0.1", "the same training on 2 ranks"),
    ],
)
def test_what_was_recorded_is_recorded_again(tmp_path: Path, script: str, again: str) -> None:
    words = ("commprof", "record", "--max-steps", "80", "--out", "elsewhere", "--", *script.split())
    alone, bench = add_train(tmp_path / "one", 1, 0.1, command=words), add_bench(tmp_path / "bench", 2)
    assert said_of(gather([alone, bench])).next_command.startswith(f"{again}: ")


@pytest.mark.parametrize(
    ("threads", "world_size", "expected"),
    [
        (1, 2, "commprof record -- torchrun --nproc-per-node 2 train.py: a run that checks"),
        (2, 2, "OMP_NUM_THREADS=2 commprof record -- torchrun --nproc-per-node 2 train.py: a run that checks"),
        (4, 2, "OMP_NUM_THREADS=1 commprof record -- python train.py: one rank with the one thread that torchrun gives"),
    ],
)
def test_ranks_that_are_to_be_compared_have_as_many_threads(
    tmp_path: Path, threads: int, world_size: int, expected: str
) -> None:
    """On four cores: torchrun's ranks have one thread each unless told otherwise, a rank alone one for every core."""
    words = ("commprof", "record", "--", "python", "train.py")
    alone = add_train(tmp_path / "one", 1, 0.1, command=words, threads_per_rank=threads)
    bench = add_bench(tmp_path / "bench", world_size)
    assert said_of(gather([alone, bench])).next_command.startswith(expected)


def test_measured_speedups_are_decided_on_without_a_prediction(tmp_path: Path) -> None:
    told = said_of(gather([add_train(tmp_path / "one", 1, 0.1), add_train(tmp_path / "two", 2, 0.11)]))
    assert told.verdict == "Use 2 ranks. 2: yes, 1.82x."
    assert told.how_sure.startswith("2 was measured, and not predicted.")


@pytest.mark.parametrize(("drifts", "answer"), [(0.0, "yes"), (0.1, "perhaps")])
def test_a_gain_within_the_machines_drift_is_not_sure(tmp_path: Path, drifts: float, answer: str) -> None:
    """1.10x or 1.15x; two runs of a quiet machine differ by 5 % at most, of one whose pace changes by 10 % by 17 %."""
    paces = [1 + drifts * (i // 4 % 2) for i in range(16)]
    alone = [step(i, forward_s=0.04 * pace, backward_s=0.06 * pace) for i, pace in enumerate(paces)]
    both = [step(i, forward_s=0.08, backward_s=0.105) for i in range(16)]
    folders = [
        write_training_run(tmp_path / "one", alone, world_size=1),
        write_training_run(tmp_path / "two", both, world_size=2),
    ]
    assert f"2: {answer}, 1.1" in said_of(gather(folders)).verdict


def test_ranks_that_share_cores_speak_for_no_devices(tmp_path: Path) -> None:
    root = add_study(tmp_path / "demo", cores_per_node=2)
    verdict = said_of(gather([root])).verdict
    assert verdict.startswith("Use 2 ranks. 2: yes, 1.82x")
    assert "4: cannot be told: its ranks share too few cores to speak for as many devices (4: 3.20x, predicted 3.56)" in verdict


def test_hostile_words_stay_words_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = HOSTILE.replace("/", "|")
    alone = add_train(tmp_path / name, 1, 0.1, command=("x\n\x1b[31m", HOSTILE))
    lines = said(str(alone), str(add_bench(tmp_path / "bench", 2)), capsys=capsys)
    assert len(lines) == 6
    assert not {"\x1b", "\u202e"} & set("".join(lines))


def test_text_has_120_lines_unless_all_is_asked_for(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted = {}
    for flag in ([], ["--full"]):
        assert main(["report", str(root), "--text", *flag]) == 0
        counted[len(flag)] = capsys.readouterr().out
    assert len(counted[0].splitlines()) <= MOST_LINES < len(counted[1].splitlines())
    assert "--full shows all of it" in counted[0] and "--full" not in counted[1]
    assert max(map(len, counted[0].splitlines())) <= 80
    assert "2 ranks: predicted 1.65x" in counted[0]
    assert main(["report", str(root), "--full"]) == 2
    many = [add_bench(tmp_path / f"bench-{number}", number) for number in range(2, 40)]
    report = build_report(gather(many), tmp_path / "page.html")
    assert len(as_text(report, full=False).splitlines()) <= MOST_LINES


def test_costs_are_refused_where_there_is_no_one_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [str(add_bench(tmp_path / name, 2, git_commit=name)) for name in ("a", "b")]
    assert main(["report", *sides, "--price", "1"]) == 2
    assert "have no one cost" in capsys.readouterr().err
    (verdict,) = [line for line in said(*sides, capsys=capsys) if line.startswith("Verdict: ")]
    assert verdict.startswith("Verdict: Which is faster cannot be told, because ") and "They are not pooled: " in verdict


def test_a_prediction_without_an_interval_is_told_from_none() -> None:
    """Where the machine's pace jumped about a prediction has no interval, but the first line gives its value."""
    candidate = Candidate(world_size=2, speedup=0.97, within=None, predicted=1.03, interval=None, measured=True)
    assert _checked(candidate, "") == "2 was measured, and predicted without an interval: too disturbed to give one."
    assert _checked(replace(candidate, predicted=None), "") == "2 was measured, and not predicted."
