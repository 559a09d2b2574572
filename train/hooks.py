"""What carries DDP's gradients from rank to rank: as they are, in two bytes, as low-rank factors, or all of them late.

A communication hook turns a bucket into a future of the bucket's mean over all ranks. `delayed` keeps every bucket until
backward has made the last one and only then hands them, in order, to the hook that it delays: the same communication
with nothing to hide behind. Ranks that only compute do with each bucket what the hook does, and send nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook, fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.recorder.bucket_tap import BucketTap
from commprof.commbench.records.training import EXCHANGED_PASSES
from commprof.train.config.exchange import DistributedConfig

Hook = Callable[[Any, GradBucket], Future[Tensor]]


def register_hook(model: DistributedDataParallel, distributed: DistributedConfig) -> None:
    """Register the configured communication hook; without one, and undelayed, DDP's own all-reduce stays in place."""
    state, hook = _configured(distributed, model.process_group)
    if distributed.synchronisation == "delayed":
        hook = delayed(hook or allreduce_hook)
    if hook is not None:
        model.register_comm_hook(state, hook)


def keep_gradients(model: DistributedDataParallel, distributed: DistributedConfig) -> None:
    """Keep a model's gradients on their rank once its ranks know how long to wait in the exchange's stead (stand_in.py)."""
    tap = BucketTap(model, None, alone=True)
    tap.attach()
    state, hook = _configured(distributed, model.process_group)
    if isinstance(state, PowerSGDState):
        state.iter = EXCHANGED_PASSES
    if hook is not None:
        tap.kept_by = state, hook


def delayed(hook: Hook) -> Hook:
    """Return a hook that calls `hook` for all buckets at once, in their order, when backward has made the last of them."""
    kept: list[GradBucket] = []
    landing: list[Future[Tensor]] = []
    gates: list[Future[None]] = []

    def delay(state: Any, bucket: GradBucket) -> Future[Tensor]:  # noqa: ANN401  whatever the hook keeps
        if not kept:
            landing.clear()
            gates[:] = [_gate(bucket.buffer().device)]
        index = len(kept)
        kept.append(bucket)
        late: Future[Tensor] = gates[0].then(lambda _: landing[index].wait())
        if bucket.is_last():
            landing.extend(hook(state, each) for each in kept)
            kept.clear()
            gates[0].set_result(None)  # each future now waits for its own bucket, and fails as it fails
        return late

    return delay


def _configured(distributed: DistributedConfig, group: dist.ProcessGroup) -> tuple[Any, Hook | None]:
    if distributed.communication_hook == "powersgd":
        return PowerSGDState(group, distributed.powersgd_rank, distributed.powersgd_start), powerSGD_hook
    hooks: dict[str, Hook | None] = {"none": None, "fp16": fp16_compress_hook, "bf16": _bf16_compress}
    return group, hooks[distributed.communication_hook]


def _bf16_compress(state: Any, bucket: GradBucket) -> Future[Tensor]:  # noqa: ANN401
    """Call torch's hook under a name of our own: DDP refuses its name without CUDA, though gloo adds bfloat16 too."""
    return bf16_compress_hook(state, bucket)


def _gate(device: torch.device) -> Future[None]:
    return Future(devices=[device] if device.type == "cuda" else None)
