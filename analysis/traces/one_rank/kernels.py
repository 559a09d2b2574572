"""What kind of event is this, and how large is the message of a collective?

Kineto calls an accelerator's work `kernel`, `gpu_memcpy` and `gpu_memset`, whatever the accelerator, but the calls that
launch it after the accelerator's own runtime (`cuda_runtime`, `xpu_runtime`, `hip_driver`, ...). Which kernels communicate is
asked in libraries.py.
"""

import re
from math import prod
from typing import Any

from commprof.analysis.traces.one_rank.columns import Details
from commprof.commbench.records.operations import OPERATIONS

KERNEL_CATEGORIES = ("kernel", "Kernel")
MEMORY_CATEGORIES = ("gpu_memcpy", "gpu_memset", "Memcpy", "Memset")
LAUNCHES = re.compile(r"\w*_(?:runtime|driver)|Runtime")
_HOST = re.compile(
    r"cpu_op|cpu_instant_event|user_annotation|gpu_user_annotation|\w*_user_annotation|python_function|operator|Operator|overhead|"
    r"\w*_sync|Trace|collective_comm|\w*_profiler_range|external_correlation|enqueue|dequeue|"
)

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


def is_known(category: str) -> bool:
    """Say whether events of this category are understood, or rightly passed over."""
    known = (*KERNEL_CATEGORIES, *MEMORY_CATEGORIES)
    return category in known or LAUNCHES.fullmatch(category) is not None or _HOST.fullmatch(category) is not None


def message_bytes(op: str, details: Details, num_shares: int | None = None) -> int | None:
    """Return the collective's size as nccl-tests counts it, or None where the trace does not say.

    `num_shares` of an all-gather make the whole of it, of which the input is one.
    """
    if details.in_elements is not None and (size := _element_bytes(details.dtype)) is not None:
        total = max(details.in_elements, details.out_elements or 0) * size
        return total if total < _MAX_MESSAGE_BYTES else None
    if op in OPERATIONS and not OPERATIONS[op].shared:
        return tensor_bytes(details.input_shapes, details.input_types)
    if op == "all_gather" and num_shares is not None:
        total = num_shares * (tensor_bytes(details.input_shapes, details.input_types) or 0)
        return total if 0 < total < _MAX_MESSAGE_BYTES else None
    return None


def tensor_bytes(shapes: Any, types: Any) -> int | None:  # noqa: ANN401 - any JSON at all
    """Return the bytes of tensors of these shapes and types; None where the trace does not say."""
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
