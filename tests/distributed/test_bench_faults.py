"""A bench that goes wrong: what was measured is on disk, nobody waits for ever, and one line says what happened."""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.types import CollectiveMeasurement, SizeFailure
from tests.distributed.conftest import DEADLINE_S, Commprof, ranks_of, told
from tests.distributed.test_faults import Fork, Process, Start, lines, wait_until
from tests.forked import Zygote, ended
from tests.lateness import Lateness

LONG = ("-b", "64K", "-e", "64M", "-n", "500")
TIMEOUT_S = 16.0  # half of it is for what follows a lost rank, as for every longer timeout
SIZE = r"all_reduce of \d+ [KM]iB"


def begin(start: Callable[..., Process], run: Path, *flags: str) -> Process:
    """Start a bench that takes minutes and wait until it has its first measurement and works on the next."""
    process = start("bench", "--nproc", "2", *LONG, "--folder", run, *flags)
    wait_until("the first measurement", lambda: lines(run / "collectives.jsonl") >= 1)
    return process


def end(process: Process) -> str:
    """Return the bench's last line."""
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in output
    return output.splitlines()[-1]


def test_a_stalled_rank_is_named_with_the_size_within_the_timeout(fork: Fork, tmp_path: Path) -> None:
    """Twice at most: where others need the cores, the launcher's seconds of grace become more."""
    if stalled_s(fork, tmp_path / "first") >= TIMEOUT_S:
        assert stalled_s(fork, tmp_path / "second") < TIMEOUT_S


def stalled_s(fork: Fork, run: Path) -> float:
    """Return how long a bench goes on once a rank stalls, without its waits for a core; assert that it ends as it should."""
    process = begin(fork, run, "--timeout", f"{TIMEOUT_S:g}")
    os.kill(ranks_of(run)[-1], signal.SIGSTOP)
    began_s = time.monotonic()
    with Lateness() as cores:
        line = end(process)
    took_s = time.monotonic() - began_s - cores.late_s
    assert re.search(f"rank 1 died or stalls in {SIZE}; what was measured until then is in", line)
    assert process.returncode == 1
    assert (read_info(run).status, ranks_of(run)) == ("failed", [])
    return took_s


def test_a_killed_rank_is_named(fork: Fork, tmp_path: Path) -> None:
    run = tmp_path / "r"
    process = begin(fork, run)
    os.kill(ranks_of(run)[-1], signal.SIGKILL)
    assert "rank 1 was killed (SIGKILL)" in end(process)
    assert (process.returncode, read_info(run).status, ranks_of(run)) == (1, "failed", [])


def test_without_the_launcher_the_survivor_names_the_rank_that_died(zygote: Zygote, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run, errors = tmp_path / "r", tmp_path / "errors"
    words = ("commprof", "bench", *LONG, "--timeout", "60", "--folder", str(run))
    survivor, victim = (
        zygote.start(words, tmp_path, out=Path(os.devnull), err=err, environ={**place, "RANK": rank, "LOCAL_RANK": rank})
        for rank, err in (("0", errors), ("1", Path(os.devnull)))
    )
    wait_until("the first measurement", lambda: lines(run / "collectives.jsonl") >= 1)
    os.kill(victim, signal.SIGKILL)
    assert ended(survivor, DEADLINE_S)
    assert (zygote.reap(survivor), zygote.reap(victim)) == (1, -signal.SIGKILL)
    assert re.fullmatch(f"commprof: error: rank 1 died or stalls in {SIZE}", errors.read_text().splitlines()[-1])
    assert re.fullmatch(f"rank 1 died or stalls in {SIZE}", read_info(run).failure or "")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM to one rank", "SIGTERM to the launcher"])
def test_the_size_in_hand_is_finished_and_the_sweep_goes_on_later(
    start: Start, fork: Fork, commprof: Commprof, forked: Commprof, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "r"
    begun = start if how == "Ctrl-C" else fork
    process = begun("bench", "--nproc", "2", "-b", "64K", "-e", "256K", "--seconds", "200", "--rigorous", "--folder", run)
    wait_until("the plan to be written", (run / "bench.json").exists)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(ranks_of(run)[-1] if how == "SIGTERM to one rank" else process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert f"commprof bench --resume {run} --nproc 2 goes on with the rest" in said
    assert (read_info(run).status, ranks_of(run)) == ("interrupted", [])
    (kept,) = read_records(run / "collectives.jsonl", CollectiveMeasurement)
    assert (kept.message_bytes, kept.in_place, kept.num_wrong) == (65536, False, 0)
    plan = (run / "bench.json").read_text().replace('"precision": 0.005', '"precision": 1.0')
    (run / "bench.json").write_text(plan)  # the rest need not be rigorous here

    resume = ("bench", "--resume", run)
    done = commprof(*resume, "--nproc", "2") if how == "Ctrl-C" else forked(2, *resume)
    assert done.returncode == 0, done.stderr
    measured = list(read_records(run / "collectives.jsonl", CollectiveMeasurement))
    assert measured[0] == kept
    assert [(m.message_bytes, m.in_place) for m in measured] == [(s, p) for s in (65536, 131072, 262144) for p in (False, True)]
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:1] == " "] == ["65536", "131072", "262144"]
    assert read_info(run).status == "completed"


def test_a_full_disk_ends_the_run_with_one_line(commprof: Commprof, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        done = commprof("bench", "--nproc", "2", "-e", "1M", "-n", "200", "--folder", disk / "r")
        assert done.returncode == 1
        (line,) = told(done.stderr)
        assert "collectives.jsonl: No space left on device" in line
        assert read_info(disk / "r").status == "failed"
        assert list(read_records(disk / "r" / "collectives.jsonl", CollectiveMeasurement))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_size_without_memory_is_recorded_and_the_smaller_ones_stay(start: Start, tmp_path: Path) -> None:
    """The address space is limited rather than the memory: torch alone takes over 1 GB of it."""
    run = tmp_path / "r"
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (9 * 2**29, limits[1]))
    try:
        flags = ("-b", "1M", "-e", "4G", "-f", "4096", "-n", "1", "-w", "0", "-c", "0", "--place", "in")
        process = start("bench", "--nproc", "2", *flags, "--folder", run)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    line = end(process)
    if "lower -e" in line and "is free" in line:
        pytest.skip("this machine has less memory than the sizes need")
    assert "out of memory for all_reduce of 4294967296 bytes" in line
    (failure,) = read_records(run / "failures.jsonl", SizeFailure)
    assert (failure.message_bytes, failure.reason) == (4 * 2**30, "out of memory")
    (kept,) = read_records(run / "collectives.jsonl", CollectiveMeasurement)
    assert kept.message_bytes == 2**20


# One rank of two as torchrun would run it, in an environment that does not work.
ALONE = ("bench", "-e", "16", "--timeout", "4")


def test_a_taken_port_is_one_line(commprof: Commprof) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = commprof(*ALONE, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    assert done.returncode == 1
    assert done.stderr == (
        f"commprof: error: the port of 127.0.0.1:{port} is taken; "
        "set MASTER_PORT to a free one, or let torchrun --standalone choose\n"
    )


def test_an_unreachable_master_is_one_line(commprof: Commprof) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = commprof(*ALONE, RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"commprof: error: rank 1 did not meet the others at 127.0.0.1:{port} within ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("greets", [False, True])
def test_a_foreign_program_at_the_port_is_not_waited_for(commprof: Commprof, greets: bool) -> None:
    """torch waits without end for whoever listens there and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = str(foreign.getsockname()[1])
        with ThreadPoolExecutor() as pool:
            rank = pool.submit(commprof, *ALONE, RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            caller, _ = foreign.accept()
            if greets:
                caller.sendall(b"220 smtp.example.com ESMTP\r\n" * 9)
            done = rank.result(DEADLINE_S)
            caller.close()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("commprof: error: rank 1 ") and f"127.0.0.1:{port}" in line


def test_a_wrong_interface_is_refused_before_anything_starts(commprof: Commprof, tmp_path: Path) -> None:
    done = commprof(*ALONE, GLOO_SOCKET_IFNAME="nope7")
    assert done.returncode == 2
    assert done.stderr.startswith("commprof: error: GLOO_SOCKET_IFNAME=nope7 is no interface of this host; it has ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ranks_without_a_launcher_end_in_good_order(zygote: Zygote, tmp_path: Path) -> None:
    """The store is rank 0's own here; torch aborts a process whose thread still waits at a store that has gone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = ("commprof", "bench", "-b", "8", "-e", "64", "-n", "3", "--timeout", "60", "--folder", str(tmp_path / "r"))
    errors = tmp_path / "errors"
    ranks = [
        zygote.start(words, tmp_path, out=Path(os.devnull), err=errors, environ={**place, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    assert all(ended(rank, DEADLINE_S) for rank in ranks)
    assert ([zygote.reap(rank) for rank in ranks], "frame #" in errors.read_text()) == ([0, 0], False)
