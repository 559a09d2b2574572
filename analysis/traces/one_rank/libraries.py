"""Which kernels of which library communicate? A table: pattern, operation, library, source. The first that fits counts.

A pattern is searched in the function's own name, without parameters, template arguments and return type: what a GEMM carries
in its template says nothing of it. An operation of "" stands in the name itself. A source is the file or the issue in which
the name was read; "reported" are names seen in profiles whose source was not read.

Users add rules of their own, from the command line or a file of the same four columns; these come first and are searched in the
whole name. A kernel that bears a collective's whole name communicates even where no library is known; what torch.compile
generates does not, for its kernels are named after all that was fused around them. Whatever only might communicate
is named to people and counted as computation.
"""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.reading import read_bounded

UNKNOWN_OP = "unknown"
NO_OP = "none"  # a user's word for: this kernel does not communicate
_COLUMNS = ["pattern", "operation", "library", "source"]
_MAX_RULES = 1000
_MAX_FILE_BYTES = 2**20
_MAX_PATTERN = 500

# The first that fits; the longer words come before those that they hold.
WORDS = {
    "all_reduce": re.compile(r"all_?reduce|rdxn"),
    "reduce_scatter": re.compile(r"reduce_?scatter"),
    "all_gather": re.compile(r"all_?gather|fcollect"),
    "all_to_all": re.compile(r"all_?(?:to|2)_?all"),
    "broadcast": re.compile(r"broadcast|bcast"),
    "scatter": re.compile(r"scatter"),
    "gather": re.compile(r"gather"),
    "reduce": re.compile(r"reduce"),
    "barrier": re.compile(r"barrier"),
    "send_recv": re.compile(r"send|recv"),
}
assert set(WORDS) == set(OPERATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRule:
    """How kernels of a library that communicate are recognised, and which collective they are ("": the name tells)."""

    pattern: re.Pattern[str]
    operation: str
    library: str
    source: str


def _rules(library: str, source: str, *patterns: tuple[str, str]) -> tuple[KernelRule, ...]:
    return tuple(
        KernelRule(pattern=re.compile(pattern), operation=operation, library=library, source=source)
        for pattern, operation in patterns
    )


TABLE = (
    *_rules("NCCL, RCCL", "NVIDIA/nccl src/device, all versions; ROCm/rccl src/device", (r"^(?:\w+::)*[nr]ccl", "")),
    *_rules("MSCCL", "ROCm/rccl src/include/msccl/msccl_kernel.h", (r"^(?:\w+::)*msccl_?[kK]ernel", UNKNOWN_OP)),
    *_rules(
        "DeepEP and its forks",
        "deepseek-ai/DeepEP csrc/kernels/*.cu, deep_ep/include/deep_ep/impls",
        (r"\b(?:intra|inter)node(?:_ll)?(?:_v\d+)?::(?:dispatch|combine|notify|cached_notify)", "all_to_all"),
        (r"\b(?:intra|inter)node(?:_ll)?::(?:barrier|clean_low_latency_buffer)", "barrier"),
        (r"\bdeep_ep::(?:\w+::)*(?:hybrid_)?(?:dispatch|combine)(?:_impl)?$", "all_to_all"),
        (r"\bdeep_ep::(?:\w+::)*(?:cached_)?notify", "all_to_all"),
        (r"\bdeep_ep::(?:\w+::)*barrier", "barrier"),
        (r"\bdeep_ep::(?:\w+::)*pp_(?:send|recv)_impl", "send_recv"),
        (r"\bhybrid_ep::(?:dispatch|combine)_kernel", "all_to_all"),
        (r"\bep::(?:\w+::)*(?:dispatch|combine)$", "all_to_all"),
    ),
    *_rules(
        "pplx-kernels, pplx-garden",
        "perplexityai/pplx-kernels csrc/all_to_all/*.cu; perplexityai/pplx-garden p2p-all-to-all",
        (r"(?:^|::)(?:dispatch|combine)Kernel$", "all_to_all"),
        (r"\ba2a_(?:dispatch|combine)_(?:send|recv)_kernel", "all_to_all"),
    ),
    *_rules(
        "MORI",
        "ROCm/mori src/ops/dispatch_combine, src/ops/kernels, include/mori/collective",
        (r"(?:^|::)Ep(?:Dispatch|Combine)(?!Handle)", "all_to_all"),
        (r"\bReduceScatterAllGatherFusedKernel", "all_reduce"),
        (r"\bmori_shmem_barrier|\bShmemBarrier", "barrier"),
    ),
    *_rules(
        "vLLM, SGLang, aiter, FlashInfer (cross device)",
        "ROCm/aiter csrc/include/custom_all_reduce.cuh; flashinfer include/flashinfer/comm; ROCm/mori include/mori/collective",
        (r"cross_device_reduce", "all_reduce"),
        (r"\breduce_scatter_(?:cross_device_store|split)|\brs_gfx\d+_", "reduce_scatter"),
        (r"\ballgather_(?:naive|vec|lastdim)|\bag_gfx\d+_", "all_gather"),
        (r"\bar_(?:ll_)?gfx\d+", "all_reduce"),
    ),
    *_rules(
        "quickreduce", "ROCm/aiter csrc/include/quick_all_reduce.cuh", (r"\bquickreduce::|_prototype_twoshot", "all_reduce")
    ),
    *_rules(
        "TensorRT-LLM, FlashInfer",
        "flashinfer include/flashinfer/comm/*.cuh, csrc/nv_internal/tensorrt_llm/kernels/communicationKernels",
        (r"\bmoeA2A\w*(?:Dispatch|Combine)Kernel|\bmoeAllToAllKernel|\bulysses_a2a_kernel", "all_to_all"),
        (r"\bipc_(?:topo_)?rsag|\bpush_oneshot_param_kernel|\bipc_tp2_remote_push_kernel", "all_reduce"),
    ),
    *_rules(
        "Transformer Engine userbuffers",
        "NVIDIA/TransformerEngine transformer_engine/common/comm_gemm_overlap/userbuffers/userbuffers.cu",
        (r"userbuffers_\w*_ag\b", "all_gather"),
        (r"userbuffers_\w*_rs(?:_|\b)", "reduce_scatter"),
        (r"userbuffers_\w*sum_inplace", "all_reduce"),
        (r"\bkuserbuffers_(?:push|pull)", "send_recv"),
    ),
    *_rules(
        "torch symmetric memory",
        "pytorch/pytorch torch/csrc/distributed/c10d/symm_mem/*.cu",
        (r"\b(?:exchangeSplitAndOffset|allToAll(?:V|Get))", "all_to_all"),
        (r"\bmultimem_\w*kernel|\b(?:one|two)_shot_\w*kernel", ""),
        (r"(?:^|::)barrier_kernel$", "barrier"),
        (r"(?:^|::)(?:put|wait)_signal_kernel$", "send_recv"),
    ),
    *_rules("NVSHMEM, ROC_SHMEM", "NVIDIA/nvshmem src/host", (r"\b(?:nv|roc|i)shmem", "")),
    *_rules(
        "NVSHMEM on a stream",
        "NVIDIA/nvshmem src/include/device_host/nvshmem_common.cuh and src/device/launch",
        (r"\b(?:sync|barrier)_on_stream_kernel", "barrier"),
        (r"\b\w*_on_stream_kernel", ""),
    ),
    *_rules("MSCCL++", "microsoft/mscclpp src/core/include/execution_kernel.hpp, src/ext/collectives", (r"\bmscclpp::", "")),
    *_rules(
        "oneCCL",
        "uxlfoundation/oneCCL src/coll/algorithms/*/sycl; oneccl_reduce_base: intel/torch-xpu-ops issue 5384",
        (r"\boneccl_reduce_base", UNKNOWN_OP),  # an all-reduce ran it; the name alone does not say so
        (r"\b(?:one)?ccl_|\bccl::|(?:gather_from_remote|distribute_to_remote_ranks|Kernel_rankSync)", ""),
    ),
    *_rules("HCCL", "reported: hcom_allReduce__503_0_1 and the like in Ascend profiles", (r"\bhcom_|\bhccl", "")),
)

# Libraries that are named as NVIDIA's is: HCCL, MCCL, CNCL, BKCL and whoever comes next.
_CCL = re.compile(r"(?:^|::)(?:[a-zA-Z]{1,3}(?:ccl|CCL)|cncl|bkcl)(?=_?[A-Z]|$)")
_COLLECTIVE = re.compile(
    r"(?<!warp)(?<!block)(?<!warp_)(?<!block_)(?:all_?reduce|reduce_?scatter|all_?gather|all_?(?:to|2)_?all)", re.IGNORECASE
)
_RELATED = KernelRule(pattern=_CCL, operation="", library="unknown", source="the kernel's name is a library's of collectives")
_NAMED = KernelRule(pattern=_COLLECTIVE, operation="", library="unknown", source="the kernel's name is a collective's")
_GENERATED = re.compile(
    r"^triton_\w*fused_"
)  # torch.compile's, named after what was fused: the collective itself is none of it
_LIKELY = re.compile(
    r"dispatch|combine|send|recv|broadcast|bcast|barrier|lamport|multimem|nvls|rdma|ibgda|shmem|symm_?mem|\bep::|"
    r"p2p|peer|one_?shot|two_?shot|cross_?device|all_?red|a2a|comm(?!on)",
    re.IGNORECASE,
)
_UNLIKELY = re.compile(
    r"flash_?(?:fwd|attn|attention)|FlashAttn|split_?kv|dispatch_layout|^at::|^triton_\w*fused_|^(?:cub|thrust|cutlass|cublas|cudnn)\b|vectorized_elementwise"
)
_SYMBOL = re.compile(r"_Z(?:N[rVK]*|L)?(?=\d)")
_LENGTH = re.compile(r"[1-9]\d{0,3}")
_RETURN_TYPE = re.compile(r"^(?:typeinfo name for |__global__ |static |void )+")
_NAMELESS = re.compile(r"(?:\(anonymous namespace\)|<unnamed>|\(anonymous class\)|_GLOBAL__N__\w+)::")


@dataclass(frozen=True, slots=True)
class KernelTable:
    """The rules by which kernels are judged: a user's `own`, then ours."""

    own: tuple[KernelRule, ...] = ()

    def find(self, kernel: str) -> KernelRule | None:
        """Return the rule by which this kernel communicates, or None where none says so."""
        for rule in self.own:
            if rule.pattern.search(kernel):
                return None if rule.operation == NO_OP else rule
        return _found(kernel)

    def is_likely(self, kernel: str) -> bool:
        """Say whether a kernel that no rule knows looks as if it communicated."""
        if any(rule.pattern.search(kernel) for rule in self.own) or self.find(kernel) is not None:
            return False
        name = function_name(kernel)
        return _LIKELY.search(name) is not None and _UNLIKELY.search(name) is None

    def operation(self, kernel: str) -> str:
        """Return which collective a kernel is, or UNKNOWN_OP."""
        rule = self.find(kernel)
        return (rule.operation if rule is not None else "") or op_in_words(function_name(kernel))


DEFAULT_TABLE = KernelTable()


@lru_cache(maxsize=65536)
def _found(kernel: str) -> KernelRule | None:
    name = function_name(kernel)
    known = next((rule for rule in TABLE if rule.pattern.search(name)), None)
    if known is not None or _GENERATED.search(name):
        return known
    return next((rule for rule in (_NAMED, _RELATED) if rule.pattern.search(name)), None)


@lru_cache(maxsize=65536)
def function_name(kernel: str) -> str:
    """Return a kernel's own name with its namespaces: without return type, template arguments and parameters."""
    bare = _RETURN_TYPE.sub("", _NAMELESS.sub("", _unmangled(kernel)))
    return re.split(r"[<(]", bare, maxsplit=1)[0].strip()


def _unmangled(kernel: str) -> str:
    """Return the names in a symbol of C++ (`_ZN7deep_ep9intranode8dispatch...`), joined as in its source; others unchanged."""
    begin = _SYMBOL.match(kernel)
    if begin is None:
        return kernel
    at, names = begin.end(), list[str]()
    while (length := _LENGTH.match(kernel, at)) is not None:
        at = length.end() + int(length[0])
        names.append(kernel[length.end() : at])
    own = [name for name in names if not name.startswith("_GLOBAL__N_")]
    return "::".join(own) if kernel[at : at + 1].isalpha() else kernel


@lru_cache(maxsize=65536)
def op_in_words(words: str) -> str:
    """Return our name of the collective that a name, an annotation or its metadata hold, or UNKNOWN_OP."""
    plain = words.partition("(")[0].lower()
    return next((op for op, pattern in WORDS.items() if pattern.search(plain)), UNKNOWN_OP)


def kernel_table(texts: Iterable[str], files: Iterable[Path]) -> KernelTable:
    """Return the table with a user's rules, `PATTERN=OPERATION` each, before those of files. Raises BadInput."""
    own = [_rule_of_text(text) for text in texts]
    for path in files:
        own += _rules_of_file(path)
    if len(own) > _MAX_RULES:
        raise BadInput(f"{len(own)} rules for kernels; at most {_MAX_RULES} are read")
    return KernelTable(tuple(own))


def _rule_of_text(text: str) -> KernelRule:
    pattern, separator, operation = text.rpartition("=")
    if not separator:
        raise BadInput(f"--kernel {text}: give PATTERN=OPERATION, for example --kernel my_exchange=all_to_all")
    return _own_rule(pattern, operation, "own", "--kernel", where=f"--kernel {text}")


def _rules_of_file(path: Path) -> list[KernelRule]:
    raw = read_bounded(path, _MAX_FILE_BYTES, "a table of kernels, which is a few lines")
    rows = csv.reader(io.StringIO(raw.decode(errors="replace")))
    try:
        head = next(rows, [])
        if [cell.strip() for cell in head] != _COLUMNS:
            raise BadInput(f"--kernels {path} does not begin with the line {','.join(_COLUMNS)}")
        return [_rule_of_row(path, rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise BadInput(f"--kernels {path} is no CSV: {error}") from None


def _rule_of_row(path: Path, line: int, row: list[str]) -> KernelRule:
    where = f"--kernels {path}, line {line}"
    if len(row) != len(_COLUMNS):
        raise BadInput(f"{where} has {len(row)} fields instead of {len(_COLUMNS)}: {','.join(_COLUMNS)}")
    pattern, operation, library, source = (cell.strip() for cell in row)
    return _own_rule(pattern, operation, library or "own", source or str(path), where=where)


def _own_rule(pattern: str, operation: str, library: str, source: str, *, where: str) -> KernelRule:
    if operation not in (*OPERATIONS, UNKNOWN_OP, NO_OP, ""):
        raise BadInput(f"{where}: no operation {operation}; one of {', '.join((*OPERATIONS, UNKNOWN_OP, NO_OP))}")
    if not pattern or len(pattern) > _MAX_PATTERN:
        raise BadInput(f"{where}: a pattern has 1 to {_MAX_PATTERN} characters")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BadInput(f"{where}: the pattern is no regular expression: {error}") from None
    return KernelRule(pattern=compiled, operation=operation, library=library, source=source)
