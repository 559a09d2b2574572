"""Two NCCL ranks on one GPU, taken for two hosts: what is right, what is marked, who is lost, what runs out."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.figures import Outcome, Stage, run, stages
from commprof.commbench.machine.hardware import host_info
from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.types import CollectiveMeasurement, SizeFailure
from tests.distributed.test_faults import wait_until
from tests.forked import DEADLINE_S
from tests.gpu.test_nccl import SCRIPT, commprof

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
ROOT = Path(__file__).parents[2]
SHARED = ("Duplicate GPU", "using the same GPU")  # NCCL's words before 2.30.7 and since

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(GPUS == 0, reason="this machine has no NVIDIA GPU")]


def stage(name: str, work: Path) -> Stage:
    return next(each for each in stages(work, gpu=True) if each.name == name)


def done(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.chdir(ROOT)
    outcome = run(stage(name, work), work)
    if any(words in line for words in SHARED for line in outcome.lines):
        pytest.skip("this NCCL does not take two ranks on one GPU")
    return outcome


def test_every_collective_is_right_and_garbage_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = done("collectives", tmp_path, monkeypatch)
    assert outcome.codes == (0, 0), outcome.lines
    assert re.search(r"\d\d+ combinations, wrong none, blind to garbage none", "\n".join(outcome.lines))


def test_marks_lie_where_the_profiler_sees_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = done("marks", tmp_path, monkeypatch)
    told = "\n".join(outcome.lines)
    offsets = [json.loads(row.replace("'", '"')) for row in re.findall(r"us: (\[.*\])", told)]
    assert len(offsets) == 2, told
    landed = [float(offset) for offset in offsets[1]]
    assert len(landed) >= 4
    assert max(map(abs, landed)) < 20, told


@pytest.mark.parametrize(("name", "lost"), [("lost-0", 0), ("lost-1", 1), ("killed-1", 1)])
def test_a_stopped_or_killed_rank_is_named_within_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lost: int
) -> None:
    outcome = done(name, tmp_path, monkeypatch)
    assert outcome.codes == (1,)
    assert outcome.seconds < 60  # of which 20 are the timeout, and the rest is the start
    assert outcome.lines[-1] == f"commprof: error: rank {lost} died or stalls in all_reduce of 1 MiB"
    info = read_info(tmp_path / name)
    assert (info.status, info.failure) == ("failed", f"rank {lost} died or stalls in all_reduce of 1 MiB")


@pytest.mark.skipif(GPUS < 2, reason="this machine has fewer than two GPUs")
def test_a_killed_rank_is_named_by_the_launcher(tmp_path: Path) -> None:
    words = ("bench", "--nproc", "2", "-b", "1M", "-e", "1M", "-n", "50000", "--timeout", "60", "--folder", "r")
    begun = subprocess.Popen([SCRIPT, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until("the plan to be written", (tmp_path / "r" / "bench.json").exists)
    torchrun = Path(f"/proc/{begun.pid}/task/{begun.pid}/children").read_text().split()[0]
    ranks = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, errors = begun.communicate(timeout=DEADLINE_S)
    assert "was killed (SIGKILL)" in errors.splitlines()[-1]
    assert read_info(tmp_path / "r").status == "failed"


def test_the_size_that_does_not_fit_is_named_and_what_came_before_is_kept(tmp_path: Path) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    words = ("bench", "--backend", "nccl", "-b", "1M", "-e", str(2 * total), "-f", "1000000", "-n", "2", "--folder", "r")
    ended = subprocess.run([SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 1
    assert "rank 0 is out of memory for all_reduce of" in ended.stderr.splitlines()[-1]
    (failure,) = read_records(tmp_path / "r" / "failures.jsonl", SizeFailure)
    assert failure.message_bytes > 2**20
    assert {m.message_bytes for m in read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement)} == {2**20}


@pytest.mark.skipif(GPUS < 2, reason="this machine has fewer than two GPUs")
def test_a_rank_that_is_shown_the_second_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    commprof(tmp_path, "bench", "--backend", "nccl", "-b", "1M", "-e", "1M", "-n", "2", "--folder", "r")
    second = next(gpu for gpu in host_info().gpus if gpu.index == 1)
    assert read_info(tmp_path / "r").ranks[0].pci_bus_id == second.pci_bus_id


@pytest.mark.parametrize("verb", [("bench", "-b", "1M", "-e", "1M"), ("links", "-b", "1M", "-e", "1M")])
def test_nothing_warns(tmp_path: Path, verb: tuple[str, ...]) -> None:
    words = (*verb, "--backend", "nccl", "-n", "3", "--folder", "r")
    ended = subprocess.run([SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    assert "warn" not in ended.stderr.lower()
