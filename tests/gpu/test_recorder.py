"""The recorder beside NCCL: events on the device's own timeline, gradients as DDP makes them without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commprof.commbench.records.rundir import read_document
from commprof.commbench.records.training import GradientTimeline

LOOPS = Path(__file__).parents[1] / "distributed" / "recorded_loops.py"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]


def test_recorded_gradients_are_ddps_own(tmp_path: Path) -> None:
    torchrun = [Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", "1"]
    done = subprocess.run([*torchrun, LOOPS, tmp_path, "cuda"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {case: seen["while"] for case, seen in told.items()} == dict.fromkeys(told, 0.0)
    timeline = read_document(tmp_path / "run0" / "gradients.json", GradientTimeline)
    assert all(0 < b.launched_s <= b.done_s <= timeline.backward_s for b in timeline.buckets)
