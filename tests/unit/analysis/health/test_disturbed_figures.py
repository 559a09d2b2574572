"""Figures of runs that other processes disturbed are not said as if nothing were wrong, whichever verb says them."""

import json
import re
from pathlib import Path

import pytest

from commprof.cli import main
from tests.factory import step, write_training_run
from tests.paper_study import study
from tests.unit.analysis.health.machines import add_surroundings, samples
from tests.unit.analysis.traces.sets.test_comparison import JITTER_US, add_set

BUSY = samples(*[(0.5, 0.5)] * 5)


@pytest.mark.parametrize("changed", [[], ["--batch", "2"]])
def test_predictions_come_after_why_they_tell_nothing_and_without_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: list[str]
) -> None:
    folders = [str(path) for path in study(tmp_path)]

    def shown() -> str:
        assert main(["predict", *folders, *changed]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "disturbed" not in shown()
    add_surroundings(tmp_path / "profile", BUSY)
    text = shown()
    before, _, table = text.partition("90 % interval")
    assert "cannot be told" in before and "This machine was disturbed: during profile" in before
    assert "too disturbed" in table and re.search(r"\d ms - [\d.]+ ms", table) is None


@pytest.mark.parametrize("command", [["predict"], ["predict", "--batch", "2"], ["predict", "--strategy", "ddp"], ["advise"]])
def test_a_document_is_whole_and_the_warning_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    folders = [str(path) for path in study(tmp_path)]
    for disturbed in (False, True):
        assert main([*command[:1], *folders, *command[1:], "--json"]) == 0
        written = capsys.readouterr()
        assert json.loads(written.out)
        assert ("This machine was disturbed: during profile" in written.err) is disturbed
        add_surroundings(tmp_path / "profile", BUSY)


def test_a_change_between_disturbed_runs_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for name, more_us in (("before", 0), ("after", 30)):
        runs.append(write_training_run(tmp_path / name, [step(i) for i in range(20)], world_size=2))
        add_set(runs[-1] / "traces", [100 + more_us + us for us in JITTER_US])
    command = ["trace", str(runs[1]), "--against", str(runs[0])]

    def judgements() -> tuple[set[str], str]:
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return {own["judgement"] for own in found["differences"]}, " ".join(found["notes"])

    judged, notes = judgements()
    assert "longer" in judged and "disturbed" not in notes
    add_surroundings(runs[1], BUSY)
    judged, notes = judgements()
    assert judged == {"unknown"}
    assert "nothing is judged: This machine was disturbed: during after" in notes
    assert main(command) == 0
    assert "This machine was disturbed" in " ".join(capsys.readouterr().out.split())
