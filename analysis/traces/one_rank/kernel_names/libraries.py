"""Does a kernel communicate, and which collective is it? Users' rules, then the table, then the name itself.

Users add rules from the command line or a file of the table's four columns; these come first and are searched in the whole
name. A kernel whose own name (its namespaces aside: a norm in a library's `..._allreduce` is a norm) is a collective's
communicates even where no library is known; what torch.compile generates does not, for its kernels are named after all that was
fused around them. Whatever only might communicate is named to people and counted as computation.
"""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from commprof.analysis.traces.one_rank.kernel_names.table import TABLE, UNKNOWN_OP, KernelRule
from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.reading import read_bounded

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
    "send_recv": re.compile(r"send|recv|receive"),
}
assert set(WORDS) == set(OPERATIONS)

# Libraries that are named as NVIDIA's is: HCCL, MCCL, CNCL, BKCL and whoever comes next.
_CCL = re.compile(r"(?:^|::)(?:[a-zA-Z]{1,3}(?:ccl|CCL)|cncl|bkcl)(?=_?[A-Z]|$)")
_COLLECTIVE = re.compile(r"all_?reduce|reduce_?scatter|all_?gather|all_?(?:to|2)_?all", re.IGNORECASE)
# What threads of one GPU do together (BlockAllReduce), and a small gather.
_WITHIN = re.compile(r"(?:warp|block|thread|cta|cluster|quad|lane|sub_?group|sm)_?all_?(?:reduce|gather)", re.IGNORECASE)
_RELATED = KernelRule(pattern=_CCL, operation="", library="unknown", source="the kernel's name is a library's of collectives")
_NAMED = KernelRule(pattern=_COLLECTIVE, operation="", library="unknown", source="the kernel's name is a collective's")
# torch.compile's are named after what was fused into them; Tensile's and cuDNN's after their tiles, in hundreds of characters.
_COMPUTES = re.compile(r"triton_\w*fused_|Cijk_|nvjet_|sm\d+_xmma_|(?:at|cub|cudnn|thrust)::")
_LIKELY = re.compile(
    r"dispatch|combine(?!d)|send|recv|broadcast|bcast|barrier|lamport|multimem|nvls|rdma|ibgda|shmem|symm_?mem|"
    r"p2p|peer|one_?shot|two_?shot|cross_?device|all_?red|a2a|comm(?!on)",
    re.IGNORECASE,
)
_LIKELY_HOME = re.compile(r"\b(?:ep|comms?)::")
_UNLIKELY = re.compile(
    r"flash_?(?:fwd|bwd|mla|kda)|fmha|attn|attention|(?:\b|_)mla_|split_?kv|dispatch_layout|transformer_engine::dispatch::|operator_bcast|groupnorm|"
    r"^at::|^triton_\w*fused_|^(?:cub|thrust|cutlass|cublas|cudnn)\b|vectorized_elementwise|fbgemm_gpu::",
    re.IGNORECASE,
)
_SYMBOL = re.compile(r"_Z(?:N[rVK]*|L)?(?=\d)")
_LENGTH = re.compile(r"[1-9]\d{0,3}")
_NAMELESS = re.compile(r"(?:\(anonymous namespace\)|<unnamed>|\(anonymous class\)|_GLOBAL__N__\w+)::")
_BRACKET = re.compile(r"[<>(]")
_LOADER = re.compile(r"\.kd$")  # AMD's loader: the descriptor of the kernel of that name


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
        looks = _LIKELY.search(_own_part(name)) or _LIKELY_HOME.search(name)
        return looks is not None and _UNLIKELY.search(name) is None

    def operation(self, kernel: str) -> str:
        """Return which collective a kernel is, or UNKNOWN_OP."""
        rule = self.find(kernel)
        if rule is not None and rule.operation:
            return rule.operation
        name = function_name(kernel)
        own = op_in_words(_own_part(name))
        return own if own != UNKNOWN_OP else op_in_words(name)


DEFAULT_TABLE = KernelTable()


@lru_cache(maxsize=65536)
def _found(kernel: str) -> KernelRule | None:
    name = function_name(kernel)
    if _COMPUTES.match(name):
        return None
    known = next((rule for rule in TABLE if rule.pattern.search(name)), None)
    if known is not None:
        return known
    if _COLLECTIVE.search(_WITHIN.sub("", _own_part(name))):
        return _NAMED
    return _RELATED if _CCL.search(name) else None


def _own_part(name: str) -> str:
    return name.rpartition("::")[2]


@lru_cache(maxsize=65536)
def function_name(kernel: str) -> str:
    """Return a kernel's own name with its namespaces: without return type, template arguments and parameters."""
    words = _before_parameters(_NAMELESS.sub("", _unmangled(kernel))).split()
    return _LOADER.sub("", words[-1]) if words else ""


def _before_parameters(name: str) -> str:
    """Return what stands before a name's parameters, without template arguments, which return types may have too."""
    kept, depth, begin = list[str](), 0, 0
    for bracket in _BRACKET.finditer(name):
        at = bracket.start()
        if depth == 0:
            kept.append(name[begin:at])
            if bracket[0] == "(":
                return "".join(kept)
        depth = max(0, depth + {"<": 1, ">": -1, "(": 0}[bracket[0]])
        begin = at + 1
    return "".join(kept) + ("" if depth else name[begin:])


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
