import io
from pathlib import Path

import pytest

from commprof.commbench.errors import Interrupted
from commprof.commbench.ranks.heard import Heard, forward
from commprof.commbench.records.rundir import create_run, read_info
from commprof.launch import _explain, _without_launch_flags
from tests.factory import run_info

RANKS_WORDS = """\
W1122 08:21:32.123000 99 torch/distributed/distributed_c10d.py:766] Setting OMP_NUM_THREADS
USDT:2026-11-22 profiler_start
step 1/10  loss 1.2
[rank1]:[W1128 08:33:42.116299176 TCPStore.cpp:138] [c10d] recvValueWithTimeout failed on SocketImpl(fd=5): got 0 bytes.
<omitting python frames>

frame #0: c10::Error::Error(c10::SourceLocation, std::string)

step 2/10  loss 1.1

commprof: error: rank 0 lost rank 1
commprof: ranks: rank 1 was killed (SIGKILL)
"""


def test_output_passes_and_what_explains_an_end_is_kept() -> None:
    shown, heard, seen = io.StringIO(), Heard(), list[str]()
    forward(io.StringIO(RANKS_WORDS), shown, heard, seen.append)
    assert shown.getvalue() == "step 1/10  loss 1.2\nstep 2/10  loss 1.1\n\n" == "".join(seen)
    assert (heard.words, heard.ending) == (["rank 0 lost rank 1"], "rank 1 was killed (SIGKILL)")


def test_a_flood_of_words_stays_bounded() -> None:
    heard = Heard()
    flood = (
        "commprof: error: " + "z" * 10_000 + "\n" + "commprof: error: z\n" * 10_000 + "commprof: ranks: " + "y" * 9999 + "\n"
    )
    forward(io.StringIO(flood), io.StringIO(), heard, None)
    assert (len(heard.words), max(map(len, heard.words)), len(heard.ending)) == (500, 1000, 1000)


class Gone(io.StringIO):
    """A terminal, or `head`, whose reader has gone."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_lines_are_read_on_when_nobody_reads_them_any_more() -> None:
    heard, seen = Heard(), list[str]()
    forward(io.StringIO("a\nb\ncommprof: error: z\n"), Gone(), heard, seen.append)
    assert (heard.words, seen) == (["z"], ["a\n", "b\n"])


@pytest.mark.parametrize(
    ("ending", "words", "reason"),
    [
        ("rank 1 was killed (SIGKILL)", ["rank 0 lost rank 1"], "rank 1 was killed (SIGKILL)"),
        ("rank 0 failed with exit code 1", ["no space left", "no space left"], "no space left"),
        ("rank 0 failed with exit code 1", [], "rank 0 failed with exit code 1"),
        ("rank 1 did not end within 9 s of the others", [], "rank 1 did not end within 9 s"),
        ("", [], "the ranks could not be started"),
    ],
)
def test_what_ended_the_run_is_one_line_and_marks_it(tmp_path: Path, ending: str, words: list[str], reason: str) -> None:
    create_run(tmp_path / "r", run_info(status="running"))
    error = _explain(Heard(words=words, ending=ending), tmp_path / "r", "mark", 1, "rank 0")
    assert str(error).startswith(reason)
    assert str(tmp_path / "r") in str(error)
    assert (read_info(tmp_path / "r").failure or "").startswith(reason)


def watchdog_of(rank: int, prefix: str = "Rank {}") -> str:
    """What NCCL's watchdog writes as it ends a rank."""
    return (
        f"[rank{rank}]:[E1218 20:27:21.426415540 ProcessGroupNCCL.cpp:629] [{prefix.format(rank)}] Watchdog caught collective "
        "operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, NumelIn=262144, NumelOut=262144, Timeout(ms)=150000) ran for "
        "150081 milliseconds before timing out.\n"
    )


@pytest.mark.parametrize(
    ("waited", "world_size", "reason"),
    [
        ((0,), 2, "rank 1 died or stalls in NCCL's allreduce, for which rank 0 waited"),
        ((2, 0, 3), 4, "rank 1 died or stalls in NCCL's allreduce, for which ranks 0, 2, 3 waited"),
        ((0, 1), 2, "the ranks lost each other in NCCL's allreduce, for which ranks 0, 1 waited"),
        ((), 2, "rank 0 was killed (SIGABRT)"),
    ],
)
@pytest.mark.parametrize("prefix", ["Rank {}", "PG ID 0 PG GUID 0(default_pg) Rank {}"])
def test_a_survivor_that_nccls_watchdog_aborted_is_not_blamed(
    tmp_path: Path, waited: tuple[int, ...], world_size: int, reason: str, prefix: str
) -> None:
    create_run(tmp_path / "r", run_info(status="running", world_size=world_size))
    shown, heard = io.StringIO(), Heard()
    said = "".join(watchdog_of(rank, prefix) for rank in waited)
    forward(io.StringIO(f"{said}commprof: ranks: rank 0 was killed (SIGABRT)\n"), shown, heard, None)
    assert str(_explain(heard, tmp_path / "r", "mark", 1, "rank 0")).startswith(reason)
    assert (read_info(tmp_path / "r").failure, shown.getvalue()) == (reason, "")


def test_a_survivor_whose_connection_broke_is_not_blamed(tmp_path: Path) -> None:
    """NCCL's own error, which its watchdog sees a second after a rank on another host has gone."""
    create_run(tmp_path / "r", run_info(status="running", world_size=2))
    heard = Heard()
    said = (
        "[rank0]:[E1218 20:27:21.426415540 ProcessGroupNCCL.cpp:542] [Rank 0] Collective WorkNCCL(SeqNum=89, OpType=ALLREDUCE, "
        "NumelIn=4, Timeout(ms)=90000) raised the following async exception: NCCL error: remote process exited\n"
    )
    forward(io.StringIO(f"{said}commprof: ranks: rank 0 was killed (SIGABRT)\n"), io.StringIO(), heard, None)
    error = _explain(heard, tmp_path / "r", "mark", 1, "rank 0")
    assert str(error).startswith("rank 1 died or stalls in NCCL's allreduce, for which rank 0 waited")


def test_a_rank_that_was_killed_is_named_whatever_a_watchdog_said(tmp_path: Path) -> None:
    heard = Heard()
    forward(io.StringIO(f"{watchdog_of(0)}commprof: ranks: rank 1 was killed (SIGKILL)\n"), io.StringIO(), heard, None)
    assert str(_explain(heard, tmp_path / "r", "mark", 1, "rank 0")).startswith("rank 1 was killed (SIGKILL)")


def test_ranks_that_ended_because_their_launcher_was_killed_did_not_stop_by_themselves(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="interrupted"))
    assert str(_explain(Heard(), tmp_path / "r", "mark", -9, "the launcher of the ranks")).startswith(
        "the launcher of the ranks was killed (SIGKILL)"
    )
    assert read_info(tmp_path / "r").status == "failed"


def test_a_run_that_was_asked_to_stop_is_not_called_failed(tmp_path: Path) -> None:
    create_run(tmp_path / "r", run_info(status="interrupted"))
    error = _explain(Heard(ending="rank 0 failed with exit code 130"), tmp_path / "r", "mark", 1, "rank 0")
    assert isinstance(error, Interrupted)
    assert read_info(tmp_path / "r").status == "interrupted"


def test_ranks_get_the_launchers_folder_and_no_launch_flags() -> None:
    argv = ["CONFIG", "--nproc", "2", "a=b", "--out=x", "--folder", "y", "-n", "3"]
    assert list(_without_launch_flags(argv)) == ["CONFIG", "a=b", "-n", "3"]
