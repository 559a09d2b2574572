"""Is this GPU work computation, communication or a copy, and which collective is it?

NCCL and RCCL name their kernels `ncclKernel_AllReduce_RING_LL_...` (until 2.18), `ncclDevKernel_AllReduce_Sum_f32_...` (since)
and `ncclDevKernel_Generic...`, whose metadata alone say which collective it is; on symmetric memory `ncclSymDevKernel_...`
(2.27) and `ncclSymkDevKernel_...` (since). Kernels that communicate without them are listed in CUSTOM_KERNELS; add a line to
teach commprof another library. What is not listed is computation, SyncBatchNorm's kernels included: its exchange is a NCCL
kernel of its own.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from commprof.analysis.traces.one_rank.columns import Details
from commprof.commbench.records.operations import OPERATIONS

KERNEL_CATEGORIES = ("kernel", "Kernel")
MEMORY_CATEGORIES = ("gpu_memcpy", "gpu_memset", "Memcpy", "Memset")
LAUNCH_CATEGORIES = ("cuda_runtime", "cuda_driver", "Runtime")

_LIBRARY_KERNEL = re.compile(r"(?:^|\W)(?:nccl|rccl|msccl)(?:Symk?)?(?:Dev)?Kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomKernel:
    """Kernels of one library that communicate on their own: how they are recognised, and which collective they stand for."""

    library: str
    pattern: re.Pattern[str]
    op: str


CUSTOM_KERNELS = (
    CustomKernel(library="DeepEP", pattern=re.compile(r"deep_ep::.*(?:dispatch|combine|notify)"), op="all_to_all"),
    CustomKernel(library="symmetric memory", pattern=re.compile(r"(?:multimem|one_shot|two_shot)_all_reduce"), op="all_reduce"),
    CustomKernel(library="symmetric memory", pattern=re.compile(r"multimem_all_gather"), op="all_gather"),
    CustomKernel(library="vLLM", pattern=re.compile(r"cross_device_reduce"), op="all_reduce"),
    CustomKernel(
        library="TensorRT-LLM", pattern=re.compile(r"(?:one|two)ShotAllReduce|allreduce_fusion_kernel"), op="all_reduce"
    ),
    CustomKernel(library="MSCCL++", pattern=re.compile(r"mscclpp"), op="all_reduce"),
)

# The first that fits; the longer words come before those that they hold.
_OPS = {
    "all_reduce": re.compile(r"all_?reduce"),
    "reduce_scatter": re.compile(r"reduce_?scatter"),
    "all_gather": re.compile(r"all_?gather"),
    "all_to_all": re.compile(r"all_?to_?all"),
    "broadcast": re.compile(r"broadcast|bcast"),
    "scatter": re.compile(r"scatter"),
    "gather": re.compile(r"gather"),
    "reduce": re.compile(r"reduce"),
    "barrier": re.compile(r"barrier"),
    "send_recv": re.compile(r"send|recv"),
}
assert set(_OPS) == set(OPERATIONS)
UNKNOWN_OP = "unknown"
_MAX_MESSAGE_BYTES = 2**60

# As Kineto writes them for a process group ("BFloat16") and for an operator's input ("c10::BFloat16", "long int").
_ELEMENT_BYTES = {
    **dict.fromkeys(("float", "int", "float32", "int32"), 4),
    **dict.fromkeys(("double", "long", "long int", "float64", "int64", "complexfloat"), 8),
    **dict.fromkeys(("half", "bfloat16", "short", "float16", "int16"), 2),
    **dict.fromkeys(
        ("char", "byte", "bool", "signed char", "unsigned char", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 1
    ),
}


def is_communication(kernel: str) -> bool:
    """Say whether a kernel of this name communicates."""
    return _LIBRARY_KERNEL.search(kernel) is not None or custom_kernel(kernel) is not None


def custom_kernel(kernel: str) -> CustomKernel | None:
    """Return which library's own communication this is."""
    return next((own for own in CUSTOM_KERNELS if own.pattern.search(kernel)), None)


@lru_cache(maxsize=4096)
def op_named(words: str) -> str:
    """Return our name of the collective that a kernel, an annotation or its metadata name, or UNKNOWN_OP."""
    own = custom_kernel(words)
    if own is not None:
        return own.op
    plain = words.partition("(")[0].lower()
    return next((op for op, pattern in _OPS.items() if pattern.search(plain)), UNKNOWN_OP)


def message_bytes(op: str, details: Details) -> int | None:
    """Return the collective's size as nccl-tests counts it, or None where the trace does not say."""
    if details.in_elements is not None and (size := _element_bytes(details.dtype)) is not None:
        total = max(details.in_elements, details.out_elements or 0) * size
        return total if total < _MAX_MESSAGE_BYTES else None
    if op in OPERATIONS and not OPERATIONS[op].shared:
        return _input_bytes(details.input_shapes, details.input_types)
    return None


def _input_bytes(shapes: Any, types: Any) -> int | None:  # noqa: ANN401 - any JSON at all
    if not isinstance(shapes, list) or not isinstance(types, list) or len(shapes) != len(types):
        return None
    total = 0
    for shape, kind in zip(shapes, types, strict=True):
        size = _element_bytes(kind)
        if size is None or not isinstance(shape, list) or not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
            return None
        total += prod(shape) * size
    return total if 0 < total < _MAX_MESSAGE_BYTES else None


def _element_bytes(dtype: object) -> int | None:
    return _ELEMENT_BYTES.get(dtype.lower().removeprefix("c10::")) if isinstance(dtype, str) else None


def rank_list(text: str | None) -> tuple[int, ...] | None:
    """Turn `[0, 1]` into ranks; None where the trace abbreviates the list or does not have it."""
    inner = (text or "").strip("[] ")
    words = [word.strip() for word in inner.split(",")]
    return tuple(map(int, words)) if all(word.isdecimal() and len(word) < 10 for word in words) else None
