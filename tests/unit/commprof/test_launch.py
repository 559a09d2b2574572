import io
from pathlib import Path

import pytest

from commprof.commbench.errors import Interrupted
from commprof.commbench.records.rundir import create_run, read_info
from commprof.launch import _explain, _forward, _Heard, _without_launch_flags
from tests.factory import run_info

TORCHRUN_WORDS = """\
W1122 08:21:32.123000 99 torch/distributed/run.py:766] Setting OMP_NUM_THREADS
USDT:2026-11-22 profiler_start
step 1/10  loss 1.2
E1122 08:45:32.101000 99 torch/distributed/elastic/api.py:1010] failed (exitcode: -9) local_rank: 1 (pid: 7) of binary: x
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""


def test_ranks_words_pass_and_torchruns_stay() -> None:
    shown, heard, seen = io.StringIO(), _Heard(), list[str]()
    _forward(io.StringIO(TORCHRUN_WORDS), shown, heard, seen.append)
    assert shown.getvalue() == "step 1/10  loss 1.2\n" == "".join(seen)
    assert "exitcode: -9" in heard.noise[0]


def test_a_flood_of_torchrun_words_stays_bounded() -> None:
    heard = _Heard()
    flood = TORCHRUN_WORDS + "x" * 10_000 + "\n" + "y\n" * 10_000 + "commprof: error: z\n" * 10_000
    _forward(io.StringIO(flood), io.StringIO(), heard, None)
    assert len(heard.noise) == len(heard.words) == 500
    assert max(map(len, heard.noise)) <= 1000


@pytest.mark.parametrize(
    ("noise", "words", "reason"),
    [
        ("failed (exitcode: -9) local_rank: 1 (pid: 7)", ["rank 0 lost rank 1"], "rank 1 was killed (SIGKILL)"),
        ("failed (exitcode: 1) local_rank: 0 (pid: 7)", ["no space left", "no space left"], "no space left"),
        ("failed (exitcode: 1) local_rank: 0 (pid: 7)", [], "rank 0 failed"),
        ("", [], "the ranks could not be started"),
    ],
)
def test_what_ended_the_run_is_one_line_and_marks_it(tmp_path: Path, noise: str, words: list[str], reason: str) -> None:
    create_run(tmp_path / "r", run_info(status="running"))
    error = _explain(_Heard(words=words, noise=[noise]), tmp_path / "r", 1)
    assert str(error).startswith(reason)
    assert str(tmp_path / "r") in str(error)
    assert (read_info(tmp_path / "r").failure or "").startswith(reason)


def test_ranks_that_ended_because_torchrun_was_killed_did_not_stop_by_themselves(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="interrupted"))
    assert str(_explain(_Heard(), tmp_path / "r", -9)).startswith("the launcher was killed (SIGKILL)")
    assert read_info(tmp_path / "r").status == "failed"


def test_a_run_that_was_asked_to_stop_is_not_called_failed(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="interrupted"))
    error = _explain(_Heard(noise=["failed (exitcode: 130) local_rank: 0 (pid: 7)"]), tmp_path / "r", 1)
    assert isinstance(error, Interrupted)
    assert read_info(tmp_path / "r").status == "interrupted"


def test_ranks_get_the_launchers_folder_and_no_launch_flags() -> None:
    argv = ["CONFIG", "--nproc", "2", "a=b", "--out=x", "--folder", "y", "-n", "3"]
    assert list(_without_launch_flags(argv)) == ["CONFIG", "a=b", "-n", "3"]
