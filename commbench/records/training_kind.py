"""How the ranks of a training share their work, and what of that DDP's schedule describes. No torch here."""

from typing import Final, Literal, get_args

TrainingKind = Literal[
    "none",
    "ddp",
    "zero_redundancy_optimizer",
    "replicate",
    "fsdp1",
    "fsdp2",
    "hsdp",
    "deepspeed",
    "zero1",
    "zero2",
    "zero3",
    "tensor_parallel",
    "pipeline",
    "hand_made",
    "in_turn",
]

KIND_NAMES: Final[dict[TrainingKind, str]] = {
    "none": "nothing exchanged",
    "ddp": "DDP",
    "zero_redundancy_optimizer": "DDP with a ZeroRedundancyOptimizer",
    "replicate": "replicate()",
    "fsdp1": "FSDP1",
    "fsdp2": "FSDP2",
    "hsdp": "HSDP",
    "deepspeed": "DeepSpeed without ZeRO",
    "zero1": "DeepSpeed ZeRO-1",
    "zero2": "DeepSpeed ZeRO-2",
    "zero3": "DeepSpeed ZeRO-3",
    "tensor_parallel": "tensor parallelism",
    "pipeline": "pipeline parallelism",
    "hand_made": "an exchange made by hand",
    "in_turn": "several trainings in turn, as in a GAN",
}

assert set(KIND_NAMES) == set(get_args(TrainingKind))


def follows_ddp(kind: TrainingKind | None, world_size: int) -> bool:
    """Whether DDP's schedule may speak of a training; None is an older record, of which nothing but DDP was told.

    One rank that exchanges nothing is what DDP is predicted from. Several that do not are trainings of their own.
    """
    return kind in (None, "ddp") or (kind == "none" and world_size == 1)
