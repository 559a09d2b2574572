"""How does a model's DDP carry its gradients? As its author set it, or as DDP does by default where nothing is wrapped yet."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from commprof.commbench.recorder.bucket_tap import average_over_ranks, tap_of
from commprof.commbench.recorder.element_counts import element_counts, num_bytes
from commprof.commbench.recorder.gradients import bare, uncompiled
from commprof.commbench.records.buckets import CAP_BYTES, FIRST_CAP_BYTES

_HOOKS_OF_TORCH = {
    "average_over_ranks": "none",
    "allreduce_hook": "none",
    "fp16_compress_hook": "fp16",
    "bf16_compress_hook": "bf16",
    "powerSGD_hook": "powersgd",
    "batched_powerSGD_hook": "powersgd",
    "ALLREDUCE": "none",
    "FP16_COMPRESS": "fp16",
}
_BUILT_IN = "BuiltinCommHookType."


@dataclass(frozen=True, slots=True, kw_only=True)
class DdpSettings:
    """The fields of a Workload that DDP decides, under their names there."""

    first_bucket_bytes: int
    bucket_cap_bytes: int
    communication_hook: str
    gradient_as_bucket_view: bool
    static_graph: bool
    find_unused_parameters: bool
    buffer_bytes: int


def ddp_settings(model: nn.Module, bucket_cap_bytes: int | None = None) -> DdpSettings:
    """Return how `model` is wrapped; where it is not, `bucket_cap_bytes` is what its script will ask DDP for."""
    if not isinstance(model, DistributedDataParallel):
        first, cap = (FIRST_CAP_BYTES, CAP_BYTES) if bucket_cap_bytes is None else (bucket_cap_bytes, bucket_cap_bytes)
        return DdpSettings(
            first_bucket_bytes=first,
            bucket_cap_bytes=cap,
            communication_hook="none",
            gradient_as_bucket_view=False,
            static_graph=False,
            find_unused_parameters=False,
            buffer_bytes=broadcast_bytes(model),
        )
    first, cap = _caps(model)
    return DdpSettings(
        first_bucket_bytes=first,
        bucket_cap_bytes=cap,
        communication_hook=_hook_name(model),
        gradient_as_bucket_view=model.gradient_as_bucket_view,
        static_graph=model.static_graph,
        find_unused_parameters=model.find_unused_parameters,
        buffer_bytes=broadcast_bytes(model),
    )


def assumed_settings(model: nn.Module, caps_are_told: bool) -> tuple[str, ...]:
    """Return the fields of DdpSettings that a model which is not wrapped cannot tell."""
    if isinstance(model, DistributedDataParallel):
        return ()
    told = ("first_bucket_bytes", "bucket_cap_bytes") if caps_are_told else ()
    return tuple(field.name for field in fields(DdpSettings) if field.name not in told)


def element_bytes(model: nn.Module) -> tuple[int, int]:
    """Return a model's number of parameters, and the bytes of those that are trained, of all shards together."""
    own = bare(model)
    counts = element_counts(own)
    trained = (counts[name] * parameter.element_size() for name, parameter in own.named_parameters() if parameter.requires_grad)
    return sum(counts.values()), sum(trained)


def frozen_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters that are not trained, of all shards together."""
    own = bare(model)
    counts = element_counts(own)
    return sum(counts[name] * p.element_size() for name, p in own.named_parameters() if not p.requires_grad)


def _caps(ddp: Any) -> tuple[int, int]:  # noqa: ANN401  DDP, whose inner parts have no types
    """Return the sizes at which DDP closes its first bucket and the others."""
    if own := list(getattr(ddp, "bucket_bytes_cap_list", ())):  # the last one repeats
        return own[0], own[min(1, len(own) - 1)]
    return (FIRST_CAP_BYTES if ddp.bucket_bytes_cap_default else ddp.bucket_bytes_cap), ddp.bucket_bytes_cap


def _hook_name(ddp: DistributedDataParallel) -> str:
    """Return what form gradients are sent in: one of torch's own by our name for it, else "own: " and the hook's name."""
    any_ddp: Any = ddp
    built_in: str = any_ddp._get_ddp_logging_data().get("comm_hook", "")
    if built_in.startswith(_BUILT_IN):
        return _HOOKS_OF_TORCH.get(built_in.removeprefix(_BUILT_IN), f"own: {built_in}")
    tap = tap_of(ddp)
    hooks: list[Callable[..., Any]] = [hook for hook, _ in ddp._comm_hooks] or [tap.hook if tap else average_over_ranks]
    hook = hooks[0].func if isinstance(hooks[0], partial) else hooks[0]
    name = getattr(hook, "__name__", type(hook).__name__)
    ours = getattr(hook, "__module__", "").startswith(("torch.distributed.algorithms.", "commprof."))
    return _HOOKS_OF_TORCH[name] if ours and name in _HOOKS_OF_TORCH else f"own: {name}"


def broadcast_bytes(model: nn.Module) -> int:
    """Return the bytes of buffers that DDP broadcasts before a step's forward pass; a model not yet wrapped, by its default."""
    wrapped = uncompiled(model)
    if isinstance(wrapped, DistributedDataParallel) and not wrapped.broadcast_buffers:
        return 0
    return sum(num_bytes(buffer) for buffer in wrapped.buffers())
