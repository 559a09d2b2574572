"""Do the recorder's marks of a bucket lie where Kineto sees NCCL's kernels begin and end? Two ranks, one profiled step.

Differences between buckets need no common origin: a mark minus the first bucket's mark, against the same of the kernels.
"""

import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from commprof.commbench.recorder.gradients import Backward
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.timing import device_clock

_BUCKET_MB = 5


def one_step(recorder: StepRecorder, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
    with recorder.step():
        with recorder.phase("forward"):
            loss = model(batch).square().mean()
        with recorder.phase("backward"):
            loss.backward()
        with recorder.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad()


def kernels_s(trace: Path) -> list[tuple[float, float]]:
    """Return begin and end of each all-reduce kernel, in order."""
    events: list[dict[str, Any]] = json.loads(trace.read_text())["traceEvents"]
    found = [e for e in events if e.get("cat") == "kernel" and "nccl" in e["name"].lower() and "allreduce" in e["name"].lower()]
    return sorted((e["ts"] * 1e-6, (e["ts"] + e["dur"]) * 1e-6) for e in found)


def marks_s(clock: Any, counted: Backward) -> list[tuple[float, float]]:  # noqa: ANN401  a clock of either kind
    """Return launch and landing of each bucket, in order, in seconds after backward began."""
    both = sorted(counted.launched.keys() & counted.landed.keys())
    return sorted(
        (clock.seconds(counted.start, counted.launched[index]), clock.seconds(counted.start, counted.landed[index]))
        for index in both
    )


def offsets_us(marks: list[tuple[float, float]], kernels: list[tuple[float, float]], which: int) -> list[float]:
    origin, kernel_origin = marks[0][which], kernels[0][which]
    return [
        ((mark[which] - origin) - (kernel[which] - kernel_origin)) * 1e6 for mark, kernel in zip(marks, kernels, strict=True)
    ]


def main(kind: str) -> None:
    device = torch.device("cuda", 0) if kind == "cuda" else torch.device("cpu")
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo", timeout=timedelta(seconds=60), device_id=device if kind == "cuda" else None
    )
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(8)]).to(device)
    model = DistributedDataParallel(layers, bucket_cap_mb=_BUCKET_MB)
    optimizer, batch, clock = (
        torch.optim.SGD(model.parameters(), lr=0.0),
        torch.randn(256, 1024, device=device),
        device_clock(device),
    )
    taken: list[Backward] = []
    with tempfile.TemporaryDirectory() as folder:
        recorder = StepRecorder(
            model, folder=Path(folder), rank=dist.get_rank(), clock=clock, samples_per_rank=1, warmup_steps=0
        )
        with recorder:
            for _ in range(4):
                one_step(recorder, model, optimizer, batch)
            recorder.catch_up()
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if kind == "cuda" else [])]
            with profile(activities=activities) as profiler:
                one_step(recorder, model, optimizer, batch)
                assert recorder.queued is not None or kind == "cpu"
                if recorder.queued is not None and recorder.queued.backward is not None:
                    taken.append(recorder.queued.backward)
            if taken:
                clock.synchronize()
                marks = marks_s(clock, taken[0])
            profiler.export_chrome_trace(str(Path(folder, "trace.json")))
            kernels = kernels_s(Path(folder, "trace.json"))
    if taken and len(kernels) == len(marks):
        for which, name in enumerate(("launch marks against kernel begins", "landing marks against kernel ends")):
            sys.stdout.write(f"{name}, us: {[f'{offset:+.1f}' for offset in offsets_us(marks, kernels, which)]}\n")
    else:
        sys.stdout.write(f"{len(kernels)} NCCL kernels and {len(taken)} queued steps: nothing to compare here\n")
    sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # gloo's threads may meet an interpreter that is taken down
