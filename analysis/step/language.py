"""How a setting is written for whoever asks: a line of `commprof train`'s configuration, or PyTorch's own words.

A loop of one's own and the traces of another program know no configuration of ours. Named is only what the backend takes:
DistributedDataParallel refuses torch's bf16 hook without NCCL (its _check_comm_hook); the fp16 hook runs on gloo as well.
"""

from pathlib import Path

from commprof.commbench.records.types import RunInfo

_HOOKS = "torch.distributed.algorithms.ddp_comm_hooks.default_hooks"
_SCRIPTS = ("commprof", "__main__.py")

MAY_SEEM_TO_LOSE = (
    "within noise: it cannot be told from no saving; of two runs, one with the change and one without, that with it may be the "
    "slower by its pace alone"
)


def is_configured(info: RunInfo) -> bool:
    """Say whether `commprof train` made the run, so that the lines of its configuration mean something to whoever asks."""
    script, *words = info.command or ("",)
    return info.imported_from is None and Path(script).name in _SCRIPTS and words[:1] == ["train"]


def batch_setting(samples: int, *, configured: bool) -> str:
    return f"training.batch_size={samples}" if configured else f"a DataLoader with batch_size={samples} on each rank"


def accumulation_setting(parts: int, samples: int, *, configured: bool) -> str:
    """Write a step of `parts` micro-batches, `samples` in all."""
    if configured:
        return f"training.accumulation={parts} training.batch_size={samples}"
    return f"optimizer.step() after every {parts} batches, model.no_sync() around the backward of all but the last"


def two_byte_setting(backend: str, *, configured: bool) -> tuple[str, str]:
    """Return how gradients are sent in two bytes on this backend, and what that does to them."""
    bfloat = "gradients are summed with 8 significant bits"
    if configured:
        return "distributed.communication_hook=bf16", bfloat
    if backend == "nccl":
        return f"model.register_comm_hook(None, {_HOOKS}.bf16_compress_hook)", bfloat
    return (
        f"model.register_comm_hook(None, {_HOOKS}.fp16_compress_hook)",
        "gradients are summed with 11 significant bits, and those beyond 65,504 overflow",
    )


def bucket_view_setting(*, configured: bool) -> str:
    return f"{_ddp(configured)}gradient_as_bucket_view={'true' if configured else 'True)'}"


def bucket_cap_setting(cap_mb: int, *, configured: bool) -> str:
    return f"{_ddp(configured)}bucket_cap_mb={cap_mb}{'' if configured else ')'}"


def compute_only_run(world_size: int, *, configured: bool) -> str:
    """Write how ranks are measured that compute and send nothing."""
    if configured:
        return f"commprof train ... --nproc {world_size} distributed.synchronisation=compute_only"
    return f"commprof record --compute-only -- torchrun --nproc-per-node {world_size} SCRIPT"


def _ddp(configured: bool) -> str:
    return "distributed." if configured else "DistributedDataParallel(..., "
