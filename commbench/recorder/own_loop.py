"""A run folder for a training loop of the user's own, written around it in a few lines.

    from commprof import record_steps

    with record_steps(model, samples_per_rank=8) as recorder:
        for tokens, targets in recorder.steps(loader):
            ...

The folder is what `commprof train` makes: steps, gradients, the machine and its telemetry, the same identity card. The
process group is the script's own, or there is none; the recorder opens none, closes none and takes over no signal.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.errors import BadInput
from commprof.commbench.machine import hardware
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.ranks.runtime import gather_text
from commprof.commbench.ranks.session import make_run, marked, sampled
from commprof.commbench.recorder.gradients import bare, broadcast_bytes, uncompiled
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.buckets import CAP_BYTES, FIRST_CAP_BYTES
from commprof.commbench.records.rundir import new_run_path
from commprof.commbench.records.types import Workload
from commprof.commbench.timing import device_clock
from commprof.commbench.units import printable


@contextmanager
def record_steps(
    model: nn.Module,
    *,
    samples_per_rank: int,
    experiment: str | None = None,
    scaling: Literal["weak", "strong"] = "weak",
    sequence_length: int | None = None,
    dataset: str | None = None,
    warmup_steps: int = 5,
    folder: Path | str | None = None,
) -> Iterator[StepRecorder]:
    """Record a loop's steps into a new run folder, by default below `runs/`. Every rank enters, after `model` is wrapped.

    `samples_per_rank` is what each rank trains on in one optimizer step; `scaling` says whether it stays (weak) or shrinks
    (strong) as ranks are added. `experiment` names the training, by default after the script: runs are compared where it
    and the model agree. `dataset` names what is trained on. Raises BadInput where the folder cannot be made or nothing is to
    be recorded, or the model is on a device that is neither the host nor a CUDA one.
    """
    parameters = list(bare(model).parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise BadInput("the model has no parameter that is trained; give record_steps the one that your optimizer has")
    if samples_per_rank < 1 or warmup_steps < 0:
        raise BadInput(f"samples_per_rank={samples_per_rank}, warmup_steps={warmup_steps}: use at least 1 and at least 0")
    device = parameters[0].device
    clock = device_clock(device)
    context = _own_place(device)
    path = Path(folder) if folder is not None else new_run_path(Path("runs"), "train", context.world_size)
    first_cap_bytes, cap_bytes = _bucket_caps(model)
    workload = Workload(
        experiment=experiment or Path(sys.argv[0]).stem or "own-loop",
        num_parameters=sum(parameter.numel() for parameter in parameters),
        gradient_bytes=sum(p.numel() * p.element_size() for p in parameters if p.requires_grad),
        samples_per_rank=samples_per_rank,
        sequence_length=sequence_length,
        first_bucket_bytes=first_cap_bytes,
        bucket_cap_bytes=cap_bytes,
        synchronised=True,
        scaling=scaling,
        precision="unknown",
        buffer_bytes=broadcast_bytes(model),
        dataset=dataset,
    )
    backend = "nccl" if device.type == "cuda" else "gloo"
    run = make_run("train", context, device, path, backend=backend, workload=workload)
    recorder = StepRecorder(
        model, folder=run, rank=context.rank, clock=clock, samples_per_rank=samples_per_rank, warmup_steps=warmup_steps
    )
    with marked(run, context.rank), sampled(run, context), recorder:
        yield recorder
    if context.rank == 0:
        sys.stderr.write(f"commprof: the steps are in {printable(str(run))}\n")


def _own_place(device: torch.device) -> RankContext:
    """Say which rank this is, by the script's own process group, and how many share its host."""
    if not dist.is_initialized():
        return RankContext(rank=0, local_rank=0, world_size=1, local_world_size=1, launcher="single")
    hosts = gather_text(hardware.hostname(), device)
    rank = dist.get_rank()
    return RankContext(
        rank=rank,
        local_rank=hosts[:rank].count(hosts[rank]),
        world_size=len(hosts),
        local_world_size=max(map(hosts.count, hosts)),
        launcher="own",
    )


def _bucket_caps(model: nn.Module) -> tuple[int, int]:
    """Return the sizes at which DDP closes its first bucket and the others; its defaults for a model on one rank."""
    ddp = uncompiled(model)
    if not isinstance(ddp, DistributedDataParallel) or ddp.bucket_bytes_cap_default:
        return FIRST_CAP_BYTES, CAP_BYTES
    return ddp.bucket_bytes_cap, ddp.bucket_bytes_cap
