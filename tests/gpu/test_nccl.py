"""NCCL and CUDA events on one GPU: a world of one, which every machine with a GPU can hold."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.training import GradientTimeline, StepMeasurement
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.timing import CudaClock

SCRIPT = Path(sys.executable).parent / "commprof"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]


def commprof(folder: Path, *words: str) -> str:
    done = subprocess.run([SCRIPT, *words], cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cuda_events_time_the_device_and_not_the_launch() -> None:
    clock = CudaClock()
    matrix = torch.ones(8192, 8192, device="cuda")
    for _ in range(2):  # the first product pays for the library's start
        start = clock.mark()
        product = matrix @ matrix
        end = clock.mark()
        seconds = clock.seconds(start, end)
    flops = 2 * 8192**3
    assert product.shape == matrix.shape
    assert 0.1e12 < flops / seconds < 5e15


def test_one_nccl_rank_measures_and_verifies(tmp_path: Path) -> None:
    shown = commprof(tmp_path, "bench", "--backend", "nccl", "-b", "1M", "-e", "4M", "-n", "5", "--folder", "r")
    assert "# Theoretical ceiling" in shown
    measured = list(read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement))
    assert len(measured) == 6
    assert all(m.num_wrong == 0 and m.timer == "cuda_event" and m.cpu_s is None for m in measured)
    assert read_info(tmp_path / "r").software.nccl is not None


@pytest.mark.parametrize("op", [name for name in OPERATIONS if name not in ("send_recv", "barrier")])
def test_every_collective_is_right_on_one_rank_in_both_modes(tmp_path: Path, op: str) -> None:
    flags = ("-b", "64K", "-e", "64K", "-n", "3", "-d", "bfloat16", "--mode", "isolated,pipelined", "--folder", "r")
    commprof(tmp_path, "bench", op, "--backend", "nccl", *flags)
    measured = list(read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement))
    assert len(measured) == (4 if OPERATIONS[op].in_place else 2)
    assert all(m.num_wrong == 0 and m.timer == "cuda_event" for m in measured)


def test_a_cuda_graph_takes_the_launches_out_of_small_calls(tmp_path: Path) -> None:
    sizes = ("bench", "--backend", "nccl", "-b", "1K", "-e", "1K", "-n", "20", "--mode", "pipelined", "--place", "in")
    commprof(tmp_path, *sizes, "--folder", "launched")
    commprof(tmp_path, *sizes, "-G", "--folder", "replayed")
    (launched,), (replayed,) = (
        list(read_records(tmp_path / name / "collectives.jsonl", CollectiveMeasurement)) for name in ("launched", "replayed")
    )
    assert (launched.cuda_graph, replayed.cuda_graph) == (False, True)
    assert replayed.median_s < launched.median_s


def test_two_ranks_share_one_gpu_where_nccl_lets_them(tmp_path: Path) -> None:
    """NCCL refuses two ranks on one GPU of one host; with a host id each it takes them for two hosts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    words = (SCRIPT, "bench", "--backend", "nccl", "-b", "1M", "-e", "4M", "-n", "5", "--timeout", "60", "--folder", "r")
    ranks = [
        subprocess.Popen(
            words, cwd=tmp_path, env={**common, "RANK": rank, "NCCL_HOSTID": f"host{rank}", "MASTER_PORT": port},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    if any(words in error for error in errors for words in ("Duplicate GPU", "using the same GPU")):
        pytest.skip("this NCCL does not take two ranks on one GPU")
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    measured = list(read_records(tmp_path / "r" / "collectives.jsonl", CollectiveMeasurement))
    assert all(m.world_size == 2 and m.num_wrong == 0 for m in measured)


def test_training_on_a_gpu_records_device_times(tmp_path: Path) -> None:
    small = Path(__file__).parents[2] / "configs" / "small.yaml"
    words = ("training.max_steps=20", "training.evaluate=false", f"data.cache_dir={tmp_path}", "distributed.backend=nccl")
    commprof(tmp_path, "train", str(small), "--folder", "r", *words)
    steps = [s for s in read_records(tmp_path / "r" / "steps.rank00000.jsonl", StepMeasurement) if s.counts]
    assert all(0 < s.forward_s + s.backward_s + s.optimizer_s <= s.step_s * 1.01 for s in steps)
    timeline = read_document(tmp_path / "r" / "gradients.json", GradientTimeline)
    assert 0 < timeline.parameters[0].ready_s <= timeline.parameters[-1].ready_s <= timeline.backward_s * 1.01
