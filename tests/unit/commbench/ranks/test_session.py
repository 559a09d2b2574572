"""A run says how it ended, wherever it was stopped."""

import signal
from pathlib import Path

import pytest
import torch

from commprof.commbench.errors import Interrupted
from commprof.commbench.machine import hardware
from commprof.commbench.ranks import session
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.session import open_run
from commprof.commbench.records.rundir import finish_run, read_info
from commprof.commbench.records.types import RunStatus

ALONE = RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="none")


@pytest.mark.processes  # git tells the commit
def test_a_run_that_is_stopped_while_its_host_is_described_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "host_info", lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    opened = open_run("bench", ALONE, torch.device("cpu"), roll=None, backend="gloo", root=tmp_path, path=tmp_path / "r")
    try:
        with pytest.raises(Interrupted), opened:
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (read_info(tmp_path / "r").status, read_info(tmp_path / "r").failure) == ("interrupted", "stopped by SIGTERM")


@pytest.mark.processes
def test_a_second_signal_while_the_mark_is_written_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler sends SIGTERM to every process, and each launcher above a rank hands it on once more."""
    before = signal.getsignal(signal.SIGTERM)

    def finish(path: Path, status: RunStatus, failure: str | None = None) -> None:
        signal.raise_signal(signal.SIGTERM)
        finish_run(path, status, failure)

    monkeypatch.setattr(session, "finish_run", finish)
    opened = open_run("bench", ALONE, torch.device("cpu"), roll=None, backend="gloo", root=tmp_path, path=tmp_path / "r")
    try:
        with pytest.raises(Interrupted), opened:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (read_info(tmp_path / "r").status, read_info(tmp_path / "r").failure) == ("interrupted", "stopped by SIGTERM")
