"""A lost rank where nothing fails, as under NCCL: who is named, in what, how soon, and what the run's card says afterwards."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch.distributed import HashStore

from commprof.commbench.ranks.deadline import Deadline
from commprof.commbench.ranks.rollcall import RollCall
from commprof.commbench.records.rundir import read_info
from commprof.commbench.timing import HostWait
from tests.distributed.test_faults import lines, wait_until

TIMEOUT_S = 12.0
DEADLINE_S = 60.0


class Shared(HashStore):
    def clone(self) -> "Shared":
        return self


def test_a_wait_beyond_the_limit_names_who_is_missing_and_ends_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    ended, marked, wait = threading.Event(), [], HostWait()  # type: ignore[var-annotated]
    roll = RollCall(0, 2, Shared(), wait_s=0.1)
    roll.doing = "all_reduce of 4 MiB"
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    with Deadline(roll, 0.2, wait=wait, end=end) as deadline, wait:
        deadline.before_end.append(marked.append)
        assert ended.wait(30)
    assert codes == [1]
    assert marked == ["rank 1 died or stalls in all_reduce of 4 MiB"]
    assert capfd.readouterr().err == "commprof: error: rank 1 died or stalls in all_reduce of 4 MiB\n"


def test_short_waits_and_long_work_between_them_end_nothing() -> None:
    wait, codes = HostWait(), []  # type: ignore[var-annotated]
    roll = RollCall(1, 2, Shared(), wait_s=0.1)
    with Deadline(roll, 0.2, wait=wait, end=codes.append):
        for _ in range(40):
            with wait, wait:  # one within another is one
                threading.Event().wait(0.01)
        assert wait.since_s is None
        threading.Event().wait(0.5)  # a rank that waits for nobody
    assert codes == []


def start(run: Path) -> list["subprocess.Popen[str]"]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environ = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("silent_ranks.py")
    flags = ("-b", "1M", "-e", "1M", "-n", "50000", "--backend", "gloo", "--timeout", f"{TIMEOUT_S:g}", "--folder", run)
    return [
        subprocess.Popen(
            [sys.executable, script, "bench", *flags],
            env={**environ, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in ("0", "1")
    ]


@pytest.mark.parametrize("lost", [0, 1])
def test_the_stopped_rank_is_named_within_the_timeout_and_the_run_is_marked(tmp_path: Path, lost: int) -> None:
    """Twice at most: where others need the cores, a look at the clock comes late."""
    took_s = stopped_s(tmp_path / "first", lost)
    assert took_s < TIMEOUT_S or stopped_s(tmp_path / "second", lost) < TIMEOUT_S


def stopped_s(run: Path, lost: int) -> float:
    ranks = start(run)
    wait_until("the plan to be written", lambda: lines(run / "telemetry.jsonl") >= 2 and (run / "bench.json").exists())
    os.kill(ranks[lost].pid, signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        _, errors = ranks[1 - lost].communicate(timeout=DEADLINE_S)
        took_s = time.monotonic() - began_s
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate(timeout=DEADLINE_S)
    expected = f"rank {lost} died or stalls in all_reduce of 1 MiB"
    assert re.fullmatch(f"commprof: error: {expected}", errors.splitlines()[-1]), errors
    assert ranks[1 - lost].returncode == 1
    assert (read_info(run).status, read_info(run).failure) == ("failed", expected)
    return took_s
