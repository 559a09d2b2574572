from pathlib import Path

import pytest

from commprof.cli import main


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
