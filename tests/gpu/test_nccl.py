"""NCCL and CUDA events on one GPU: a world of one, which every machine with a GPU can hold."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commbench.records import CollectiveMeasurement, GradientTimeline, StepMeasurement
from commbench.rundir import read_document, read_info, read_records
from commbench.timing import CudaClock

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


def test_training_on_a_gpu_records_device_times(tmp_path: Path) -> None:
    small = Path(__file__).parents[2] / "configs" / "small.yaml"
    words = ("training.max_steps=20", "training.evaluate=false", f"data.cache_dir={tmp_path}", "distributed.backend=nccl")
    commprof(tmp_path, "train", str(small), "--folder", "r", *words)
    steps = [s for s in read_records(tmp_path / "r" / "steps.rank00000.jsonl", StepMeasurement) if s.counts]
    assert all(0 < s.forward_s + s.backward_s + s.optimizer_s <= s.step_s * 1.01 for s in steps)
    timeline = read_document(tmp_path / "r" / "gradients.json", GradientTimeline)
    assert 0 < timeline.parameters[0].ready_s <= timeline.parameters[-1].ready_s <= timeline.backward_s * 1.01
