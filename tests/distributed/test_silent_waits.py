"""A lost rank where nothing fails, as under NCCL: who is named, in what, how soon, and what the run's card says afterwards."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.distributed import HashStore

from commprof.commbench import timing
from commprof.commbench.ranks.deadline import Deadline
from commprof.commbench.ranks.rollcall import RollCall
from commprof.commbench.records.rundir import read_info
from commprof.commbench.timing import HostWait, device_clock
from tests.distributed.test_faults import lines, wait_until
from tests.fake_cuda import fake_cuda
from tests.forked import Zygote, ended
from tests.lateness import Lateness

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


def test_a_rank_that_is_held_in_a_launch_names_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device stands in an all-reduce, its queue is full, and the host is held in whatever it launches next."""
    cuda, wait, held = fake_cuda(monkeypatch, 1), HostWait(), threading.Event()
    monkeypatch.setattr(timing, "host_wait", wait)
    roll, marked, codes = RollCall(0, 3, Shared(), wait_s=1), [], []  # type: ignore[var-annotated]
    other = RollCall(1, 3, roll._held, wait_s=1)
    roll.doing = other.doing = "the train run"
    clock = device_clock(torch.device("cuda", 0))

    def end(code: int) -> None:
        codes.append(code)
        held.set()

    with Deadline(roll, 0.2, wait=wait, end=end) as deadline:
        deadline.before_end.append(marked.append)
        clock.mark()
        assert not held.wait(0.6)  # reached, and the host is at something else
        cuda.work(0, 1e9)
        clock.mark()
        assert held.wait(30)  # a launch
    assert (codes, marked) == ([1], ["rank 2 died or stalls in the train run"])


def test_short_waits_and_long_work_between_them_end_nothing() -> None:
    wait, codes = HostWait(), []  # type: ignore[var-annotated]
    roll = RollCall(1, 2, Shared(), wait_s=0.1)
    with Deadline(roll, 1.0, wait=wait, end=codes.append):
        for _ in range(40):
            with wait, wait:  # one within another is one
                threading.Event().wait(0.03)
        assert wait.since_s is None
        threading.Event().wait(1.5)  # a rank that waits for nobody
    assert codes == []


def start(zygote: Zygote, run: Path) -> list[int]:
    """Start two ranks, each for itself, whose errors go to `err.RANK`, and return their processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    flags = ("-b", "1M", "-e", "1M", "-n", "50000", "--backend", "gloo", "--timeout", f"{TIMEOUT_S:g}", "--folder", str(run))
    words = ("-m", "tests.distributed.silent_ranks", "bench", *flags)
    return [
        zygote.start(
            words, run.parent, out=Path(os.devnull), err=run.with_name(f"err.{rank}"),
            environ={**place, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip


@pytest.mark.parametrize("lost", [0, 1])
def test_the_stopped_rank_is_named_within_the_timeout_and_the_run_is_marked(zygote: Zygote, tmp_path: Path, lost: int) -> None:
    """Twice at most: where others need the cores, a look at the clock comes late."""
    (tmp_path / "second").mkdir()
    took_s = stopped_s(zygote, tmp_path / "r", lost)
    assert took_s < TIMEOUT_S or stopped_s(zygote, tmp_path / "second" / "r", lost) < TIMEOUT_S


def stopped_s(zygote: Zygote, run: Path, lost: int) -> float:
    """Return how long the other rank goes on, without what it waits for a core; assert that it says who is lost and in what."""
    ranks = start(zygote, run)
    wait_until("the plan to be written", lambda: lines(run / "telemetry.jsonl") >= 2 and (run / "bench.json").exists())
    os.kill(ranks[lost], signal.SIGSTOP)
    began_s = time.monotonic()
    with Lateness() as cores:
        in_time = ended(ranks[1 - lost], DEADLINE_S)
    took_s = time.monotonic() - began_s - cores.late_s
    for rank in ranks:
        os.kill(rank, signal.SIGKILL)
    codes = [zygote.reap(rank) for rank in ranks]
    errors = run.with_name(f"err.{1 - lost}").read_text()
    assert in_time, errors
    expected = f"rank {lost} died or stalls in all_reduce of 1 MiB"
    assert re.fullmatch(f"commprof: error: {expected}", errors.splitlines()[-1]), errors
    assert codes[1 - lost] == 1
    assert (read_info(run).status, read_info(run).failure) == ("failed", expected)
    return took_s
