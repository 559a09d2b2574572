"""Run by every rank: profiled DDP steps over gloo in which the last rank sleeps before each forward pass.

Writes `native/rankN.json.gz` as Kineto does and `compact/rankN.json.gz` as torch's Python exporter does, into the folder named
by the first argument; the second is the sleep in seconds.
"""

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile, schedule

STEPS = 12


def main() -> None:
    folder, sleep_s = Path(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, last = dist.get_rank(), dist.get_world_size() - 1

    def write(profiler: profile) -> None:
        for layout in ("native", "compact"):
            (folder / layout).mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(folder / layout / f"rank{rank}.json.gz"), use_python_export=layout == "compact")

    model = DistributedDataParallel(torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(4)]), bucket_cap_mb=0.3)
    plan = schedule(wait=1, warmup=1, active=STEPS, repeat=1)
    with profile(activities=[ProfilerActivity.CPU], schedule=plan, on_trace_ready=write, record_shapes=True) as profiler:
        for _ in range(STEPS + 2):
            if rank == last:
                time.sleep(sleep_s)
            model(torch.randn(32, 256)).sum().backward()
            profiler.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
