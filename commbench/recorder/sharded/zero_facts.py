"""What does a DeepSpeed engine of a ZeRO stage keep, and can its schedule be told? Read from its own settings.

Refused are those whose collectives change with the number of ranks, go among others than the ranks that share the data, or
wait for something else than the wire.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from commprof.commbench.errors import UnusableData
from commprof.commbench.recorder.element_counts import num_bytes, num_elements
from commprof.commbench.recorder.parallelism import num_engines
from commprof.commbench.records.sharding import ZeroEngine

_NO_LIMIT: Final = 2**62  # elements; DeepSpeed's default is sys.maxsize


def cannot_tell(engine: Any) -> str:  # noqa: ANN401
    """Say why the schedule of an engine cannot be told; empty where it can."""
    return next((words for words, holds in _UNTOLD if holds(engine)), "")


def facts_of(engine: Any, num_shards: int) -> ZeroEngine:  # noqa: ANN401
    """Return what an engine that shards over so many ranks keeps; raise UnusableData beside others, that may have come late."""
    if num_engines() > 1:
        raise UnusableData("there are several DeepSpeed engines, which send through one object")
    optimizer, stage = engine.optimizer, int(engine.zero_optimization_stage())
    parameters = list(engine.module.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    width = max(parameter.element_size() for parameter in parameters)
    limit = _called(engine, "zero_model_persistence_threshold") if stage == 3 else None
    accumulated: torch.dtype = getattr(optimizer, "gradient_accumulation_dtype", trained[0].dtype)
    return ZeroEngine(
        stage=stage,  # type: ignore[arg-type]
        parameter_bytes=sum(map(num_bytes, parameters)),
        master_bytes=sum(map(num_bytes, masters_of(optimizer))) * num_shards,
        gradient_bytes=sum(map(num_elements, trained)) * accumulated.itemsize,
        bucket_bytes=_bucket_bytes(optimizer, width),
        overlaps=bool(_called(engine, "zero_overlap_comm")),
        persistent_bytes=sum(num_bytes(parameter) for parameter in parameters if getattr(parameter, "ds_persist", False)),
        persistence_limit_bytes=None if limit is None or limit >= _NO_LIMIT else int(limit) * width,
    )


def num_shards(optimizer: Any) -> int:  # noqa: ANN401
    """Return over how many ranks an engine shards."""
    return dist.get_world_size(group=optimizer.dp_process_group) if dist.is_initialized() else 1


def masters_of(optimizer: Any) -> Sequence[Tensor]:  # noqa: ANN401
    """Return this rank's part of the optimizer's own copy of all parameters."""
    found = getattr(optimizer, "single_partition_of_fp32_groups", None)
    return found if found is not None else getattr(optimizer, "fp32_partitioned_groups_flat", ())


def filled(optimizer: Any, arguments: Sequence[Any]) -> list[Tensor]:  # noqa: ANN401
    """Return the parameters in the bucket that is averaged: of its type of number, or as many as there are gradients."""
    buckets, groups = optimizer.ipg_buckets, getattr(optimizer, "bit16_groups", None)
    if groups is not None:
        return [groups[group][place] for group, place, _ in buckets[arguments[1]].params]
    return next((list(bucket.params) for bucket in buckets.values() if len(bucket.params) == len(arguments[0])), [])


def unavailable(parameters: Sequence[Any]) -> list[Any]:
    """Return those that a gather sends: what is whole already is left out."""
    return [
        each for each in parameters if getattr(getattr(each, "ds_status", None), "name", "NOT_AVAILABLE") == "NOT_AVAILABLE"
    ]


def not_as_known(error: Exception) -> str:
    """Say why nothing is told of an engine, by the error that looking at it led to."""
    if isinstance(error, UnusableData):
        return str(error)
    told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"this DeepSpeed is not as the version that is known, 0.19 ({told})"


def optimizer_bytes(optimizer: Any) -> int:  # noqa: ANN401
    """Return what the optimizer inside an engine's keeps on this rank, beside parameters and gradients."""
    states = (each for state in optimizer.optimizer.state.values() for each in state.values())
    return sum(each.numel() * each.element_size() for each in states if isinstance(each, Tensor))


def _bucket_bytes(optimizer: Any, width: int) -> int:  # noqa: ANN401
    if not getattr(optimizer, "contiguous_gradients", False):
        return 0
    buffers = 2 if getattr(optimizer, "overlap_comm", False) and hasattr(optimizer, "bit16_groups_flat") else 1
    return int(optimizer.reduce_bucket_size) * width * buffers


def _called(engine: Any, name: str) -> Any:  # noqa: ANN401
    """Return what an engine's method of this name says; None of a version without it."""
    method = getattr(engine, name, None)
    return method() if callable(method) else method


def _offloads(name: str) -> Callable[[Any], bool]:
    def offloads(engine: Any) -> bool:  # noqa: ANN401
        device = getattr(_called(engine, name), "device", None)
        return getattr(device, "value", device) not in (None, "none")

    return offloads


def _says(name: str, least: int = 1) -> Callable[[Any], bool]:
    return lambda engine: int(_called(engine, name) or 0) >= least


def _config(engine: Any, name: str) -> Any:  # noqa: ANN401
    return getattr(getattr(getattr(engine, "_config", None), "zero_config", None), name, None)


_UNTOLD: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("the optimizer is offloaded (offload_optimizer)", _offloads("zero_offload_optimizer")),
    ("parameters are offloaded (offload_param)", _offloads("zero_offload_param")),
    ("weights are gathered quantised (ZeRO++)", _says("zero_quantized_weights")),
    ("gradients are reduced quantised (ZeRO++)", _says("zero_quantized_gradients")),
    ("parameters have a second partition within a node (zero_hpz_partition_size)", _says("zero_hpz_partition_size", 2)),
    ("parameters are sharded within groups (mics_shard_size)", _says("mics_shard_size")),
    ("ZenFlow updates a part of the gradients by itself", _says("zenflow")),
    ("the model has experts, reduced among other ranks", _says("has_moe_layers")),
    ("the model is shared out by tensor parallelism as well", _says("mp_world_size", 2)),
    ("sequences are shared out as well", _says("sequence_parallel_size", 2)),
    ("the model is a pipeline", lambda engine: any(base.__name__ == "PipelineEngine" for base in type(engine).__mro__)),
    ("DeepCompile has put the collectives into its graph", _says("is_deepcompile_active")),
    (
        "each rank's part of a bucket is reduced by itself (use_multi_rank_bucket_allreduce off)",
        lambda engine: getattr(engine.optimizer, "use_multi_rank_bucket_allreduce", True) is False,
    ),
    ("parameters are gathered one by one (allgather_sequential)", lambda engine: bool(_config(engine, "allgather_sequential"))),
    (
        "parameters are gathered by all-reduces (use_all_reduce_for_fetch_params)",
        lambda engine: bool(_config(engine, "use_all_reduce_for_fetch_params")),
    ),
)  # fmt: skip
