import importlib.util
from pathlib import Path

import pytest

from commprof.cli import main
from commprof.train.board import board
from tests.factory import write_tiny_config


def test_a_missing_package_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["train", str(write_tiny_config(tmp_path)), "training.tensorboard=true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("training.tensorboard=true needs a package that is missing; pip install 'commprof[tensorboard]'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("default")  # the package's own
def test_a_run_that_goes_on_hides_what_it_plots_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with board(tmp_path, first_step=0, enabled=True) as plot:
        for step in range(4):
            plot(step, {"loss": 10.0 + step})
    with board(tmp_path, first_step=2, enabled=True) as plot:
        plot(2, {"loss": 0.5})
    curves = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("loss")] == [(0, 10.0), (1, 11.0), (2, 0.5)]
    with board(tmp_path / "other", first_step=0, enabled=False) as plot:
        plot(0, {"loss": 1.0})
    assert not (tmp_path / "other").exists()
