import os
from pathlib import Path

import pytest

from commprof.cli import main
from commprof.commbench.foreign.cli import _hears_a_terminal


@pytest.mark.processes
def test_a_command_that_failed_keeps_its_exit_code_where_a_ranks_card_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    script = f"mkdir -p {run}/cards && echo junk > {run}/cards/rank00000.json; exit "
    assert main(["record", "--folder", str(run), "--", "sh", "-c", f"{script}7"]) == 7
    assert "rank00000.json" in (said := capsys.readouterr().err) and "the command ended with exit code 7" in said


@pytest.mark.processes
def test_a_command_that_went_well_and_left_no_card_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = f"mkdir -p {run}/cards && echo junk > {run}/cards/rank00000.json"
    assert main(["record", "--folder", str(run), "--", "sh", "-c", script]) == 2


@pytest.mark.parametrize(("in_front", "hears"), [(0, True), (1, False), (None, False)])
def test_a_recorder_hands_on_what_no_terminal_tells_its_command(
    monkeypatch: pytest.MonkeyPatch, in_front: int | None, *, hears: bool
) -> None:
    """In the background, and in a session of a study's own, only the recorder is interrupted."""

    def foreground(_: int) -> int:
        if in_front is None:
            raise OSError
        return os.getpgrp() + in_front

    monkeypatch.setattr(os, "tcgetpgrp", foreground)
    assert _hears_a_terminal() is hears
