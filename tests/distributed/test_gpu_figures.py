"""What `make gpu` asks of a GPU, rehearsed without one: stages start, end as they should and land in the result.

`python -m benchmarks.gpu.figures --cpu` rehearses all of them.
"""

import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from benchmarks.gpu import figures
from benchmarks.gpu.figures import Stage, stages
from commprof.cli import main
from tests.forked import Command, Zygote

ROOT = Path(__file__).parents[2]
STARTED = ["env", "clock", "tests"]
KINDS = ["env", "two-ranks", "clock", "collectives", "recorder", "marks", "tests", "lost-1"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # as make does


def test_stages_of_every_kind_run_on_the_processor(zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is measured nowhere else, a command of one rank, one of two, the tests, and a lost rank.

    A command, a module and the tests are started in earnest, the other stages are forks.
    """
    begin = figures._start

    def fork(stage: Stage, rank: int, log: Path) -> "Command | subprocess.Popen[bytes]":
        if stage.name in STARTED:
            return begin(stage, rank, log)
        environ = figures._two_hosts(stage, rank) if stage.ranks > 1 else {}
        words = ("commprof", *stage.words[1:]) if stage.words[0] == figures.COMMPROF else stage.words[1:]
        return Command(zygote, words, ROOT, log, environ)

    monkeypatch.setattr(figures, "_start", fork)
    rehearsed = [stage for stage in stages(tmp_path / "work", gpu=False) if stage.name in KINDS]
    monkeypatch.setattr(figures, "stages", lambda work, *, gpu: iter(rehearsed))
    assert figures.main(["--cpu", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 0
    text = (tmp_path / "out" / "gpu-a-rehearsal-without-a-gpu.md").read_text()
    assert re.findall(r"^\| ([\w-]+) \|", text, re.MULTILINE)[1:] == KINDS
    assert "commprof: error: rank 1 died or stalls in all_reduce of 1 MiB" in text
    assert "wrong none, blind to garbage none" in text


def test_the_stages_of_a_gpu_are_words_that_commprof_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs from the rehearsal are sizes, precisions and flags: each is parsed and checked as on a GPU."""
    monkeypatch.setattr("commprof.commbench.machine.hardware.has_nvidia_driver", lambda: True)
    ours = [stage for stage in stages(tmp_path, gpu=True) if stage.words[0] == figures.COMMPROF]
    assert len(ours) > 15
    for stage in ours:
        with pytest.raises(SystemExit) as left:
            main([*stage.words[1:], "--help"])
        assert left.value.code == 0
    limits_s = {part: sum(s.limit_s for s in stages(tmp_path, gpu=True) if s.part == part) for part in "ABC"}
    assert max(limits_s.values()) < 1800
    assert {stage.name for stage in stages(tmp_path, gpu=False)} <= {stage.name for stage in stages(tmp_path, gpu=True)}


def test_readme_says_that_no_gpu_has_run_it_until_one_has() -> None:
    results = [path for path in (ROOT / "docs" / "results").glob("gpu-*.md") if "rehearsal" not in path.name]
    first_screen = " ".join((ROOT / "README.md").read_text().splitlines()[:12])
    assert ("have met fakes only;" in first_screen) == (not results)


def test_without_a_gpu_and_without_the_word_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if figures.torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "benchmarks.gpu.figures $(GPU_PARTS)" in (ROOT / "Makefile").read_text()  # `make gpu GPU_PARTS=--cpu` rehearses
    assert figures.main([]) == 2
    assert "try --cpu" in capsys.readouterr().err
    assert figures.main(["--cpu", "Z"]) == 2
    monkeypatch.setattr(figures, "COMMPROF", str(tmp_path / "commprof"))
    assert figures.main(["--cpu"]) == 2
    assert "is missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stopped_in_a_stage_it_leaves_no_folder_and_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rank = Stage(name="endless", part="A", limit_s=60, words=("sleep", "60"))
    monkeypatch.setattr(figures, "stages", lambda work, *, gpu: iter([rank]))
    started: list[subprocess.Popen[bytes]] = []

    def stopped(process: "subprocess.Popen[bytes]", limit_s: float) -> int:
        started.append(process)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr(figures, "_wait", stopped)
    with pytest.raises(SystemExit) as left:
        figures.main(["--cpu"])
    assert (left.value.code, started[0].returncode) == (128 + signal.SIGTERM, -signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
