"""What do a rank's kernels do: multiply, attend, work element by element, reduce, move memory, communicate?

Going by the kernel's own name and, for generated GEMMs, by what their authors put into it. What no word tells is `other`, and
so is a kernel that several things were fused into and that names none first. Times are sums of durations by step: kernels of
several streams run at once, so the kinds of a step may add up to more than it is long.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.columns import Columns, distinct
from commprof.analysis.traces.one_rank.kernel_names.libraries import KernelTable
from commprof.analysis.traces.one_rank.kernels import KERNEL_CATEGORIES

Int64s = NDArray[np.int64]
COMMUNICATION, MEMORY, OTHER = "communication", "memory", "other"
# The first that fits, in the whole name: an attention kernel holds GEMMs, and elementwise functors hold names of all kinds.
_PATTERNS = (
    ("elementwise", r"elementwise_kernel|multi_tensor_apply|^triton_poi_"),  # whatever functor or fused operators they carry
    ("reduction", r"^triton_(?:red|per)_"),
    ("attention", r"flash_?(?:fwd|bwd|attn|attention|mla)|fmha|attention|\bmha_|paged_?kv|\bfa[23]_|sdpa|_?attn_|^sage_"),
    ("memory", r"embedding|nchwtonhwc|nhwctonchw|im2d?2?col|transpose"),
    (
        "gemm",
        r"gemm|gemv|\bnvjet|\bcijk_|cutlass.*(?:tensorop|wgmma|mma)|xmma|matmul|\bmm_kernel|^triton_(?:tem|mm)|splitk|dot_kernel|"
        r"convolve|conv\dd|_conv_|wgrad|dgrad|winograd|cublaslt|epilogue::impl",
    ),
    (
        "reduction",
        r"reduce|softmax|_norm|norm_|layernorm|rmsnorm|batch_?norm|groupnorm|\bbn_|moments|gammabeta|scan|radixsort|argmax|\bsum_|loss",
    ),
    (
        "memory",
        r"catarray|copy_kernel|direct_copy|\bcopy_|memcpy|memset|fill|index(?:_|select|put|func)|gather_?kernel|scatter|permute|"
        r"chunk_cat|split_with_sizes|cat_batched",
    ),
    (
        "elementwise",
        r"elementwise|foreach|adam|sgd|gelu|relu|silu|swiglu|dropout|\bact_|_add_|_mul_|rope|rotary|upsample|tensorop",
    ),
)
_KINDS = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)
KINDS = (*dict.fromkeys(kind for kind, _ in _KINDS), COMMUNICATION, OTHER)
_MAX_LIKELY = 5
_GRAPH = re.compile(r"GraphLaunch")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """A kernel by its own name: how often it ran and how long in all. `looks`: its name reads as if it communicated."""

    name: str
    count: int
    total_ns: int
    looks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KindTime:
    """All kernels of one kind in one step: their number, and their durations added up."""

    step: int
    kind: str
    count: int
    total_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launching:
    """How far the host was ahead: by step, how long its GPU events waited from the launch call to their start, added up.

    Over the step's length that is the mean queue depth (Little). `num_graphed` GPU events were launched as part of a graph, and
    wait for what comes before them in it, so they are not in the queue.
    """

    queued_ns: tuple[tuple[int, int], ...] = ()
    num_graphed: int = 0


def launching(
    events: Columns, launch_row: Int64s, launched_ns: Int64s, known: NDArray[np.bool_], start_ns: Int64s, steps: Int64s
) -> Launching:
    """Return how the GPU events were launched; all arrays have one entry an event, launches only where `known`."""
    graphs = np.array([_GRAPH.search(name) is not None for name in events.names])
    graphed = known & graphs[events.name[launch_row]]
    queued = known & ~graphed
    waited_ns = np.maximum(start_ns - launched_ns, 0)[queued]
    numbers, index = np.unique(steps[queued], return_inverse=True)
    totals = np.zeros(len(numbers), dtype=np.int64)
    np.add.at(totals, index, waited_ns)
    return Launching(queued_ns=tuple(zip(numbers.tolist(), totals.tolist(), strict=True)), num_graphed=int(graphed.sum()))


def kind_of(kernel: str) -> str:
    """Return what a kernel that does not communicate does, a word of KINDS."""
    name = kernel.lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), OTHER)


def kind_times(events: Columns, rows: Int64s, steps: Int64s, communicates: NDArray[np.bool_]) -> tuple[KindTime, ...]:
    """Return the kinds of GPU work in each step; `rows` are GPU events, copies and fills among them."""
    kernel = events.in_category(*KERNEL_CATEGORIES)[rows]
    codes = events.name[rows]
    kinds = {code: KINDS.index(kind_of(events.names[code])) for code in distinct(codes[kernel & ~communicates])}
    of_code = np.array([kinds.get(code, 0) for code in range(len(events.names))], dtype=np.int64)
    kind = np.where(communicates, KINDS.index(COMMUNICATION), np.where(kernel, of_code[codes], KINDS.index(MEMORY)))
    numbers, index = np.unique(steps, return_inverse=True)
    key = index * len(KINDS) + kind
    counts = np.bincount(key, minlength=len(numbers) * len(KINDS))
    totals = np.zeros(len(counts), dtype=np.int64)
    np.add.at(totals, key, events.duration_ns[rows])
    return tuple(
        KindTime(
            step=int(numbers[own // len(KINDS)]),
            kind=KINDS[own % len(KINDS)],
            count=int(counts[own]),
            total_ns=int(totals[own]),
        )
        for own in np.flatnonzero(counts).tolist()
    )


def likely_kernels(events: Columns, rows: Int64s, table: KernelTable) -> tuple[KernelTime, ...]:
    """Return the kernels, of those that count as computation, that most likely communicate, by time; at most five.

    Those whose names read so come first; then those off the stream that computes longest, where a library runs its own.
    """
    times_ns, counts = _by_name(events, rows)
    looks = [code for code in times_ns if table.is_likely(events.names[code])]
    chosen = sorted(looks, key=lambda code: -times_ns[code])
    if not chosen:
        chosen = sorted(_beside(events, rows, times_ns), key=lambda code: -times_ns[code])
    return tuple(
        KernelTime(name=events.names[code][:400], count=counts[code], total_ns=times_ns[code], looks=code in looks)
        for code in chosen[:_MAX_LIKELY]
    )


def _by_name(events: Columns, rows: Int64s) -> tuple[dict[int, int], dict[int, int]]:
    codes, index, counts = np.unique(events.name[rows], return_inverse=True, return_counts=True)
    totals = np.zeros(len(codes), dtype=np.int64)
    np.add.at(totals, index, events.duration_ns[rows])
    names = codes.tolist()
    return dict(zip(names, totals.tolist(), strict=True)), dict(zip(names, counts.tolist(), strict=True))


def _beside(events: Columns, rows: Int64s, times_ns: Mapping[int, int]) -> Sequence[int]:
    """Return the kernels that never run on the stream that is busiest."""
    busy_ns: dict[int, int] = defaultdict(int)
    for stream, duration_ns in zip(events.stream[rows].tolist(), events.duration_ns[rows].tolist(), strict=True):
        busy_ns[stream] += duration_ns
    main = max(busy_ns, key=lambda own: busy_ns[own], default=-1)
    on_main = set(events.name[rows[events.stream[rows] == main]].tolist())
    return [code for code in times_ns if code not in on_main]
