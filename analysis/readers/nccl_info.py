"""What do NCCL's own lines (NCCL_DEBUG=INFO) say of a job: its ranks and nodes, and the way that its bytes took?

A line is `host:pid:tid [device] NCCL INFO words`. Of several communicators the one with the most ranks is the job's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from commprof.analysis.readers.foreign import library_version
from commprof.commbench.machine.hardware import ALLOWED_VARIABLES
from commprof.commbench.records.types import SoftwareInfo

_WORDS = re.compile(r"NCCL INFO (.{1,500})")
_RANKS = re.compile(r"\bn[rR]anks[ =:]+(\d{1,6})\b")
_NODES = re.compile(r"\bnNodes[ =:]+(\d{1,6})\b")
_LOCAL = re.compile(r"\blocalRanks[ =:]+(\d{1,6})\b")
_NETWORK = re.compile(r"Using network +(\w{1,32})|NET/(?!Plugin)(\w{1,32})(?: *: *Using| +Selected Provider)")
_VIA = re.compile(r"\[send\] via (NET/\w{1,32}|\w{2,16})|\bvia (NET/\w{1,32}|SHM|P2P|NVLS|direct pointer)")
_SET = re.compile(r"\b(NCCL_[A-Z0-9_]{1,40}) set by environment to +(\S{1,64})")
_OFF = {
    "NCCL_P2P_DISABLE": "1",
    "NCCL_SHM_DISABLE": "1",
    "NCCL_IB_DISABLE": "1",
    "NCCL_P2P_LEVEL": "LOC",
    "NCCL_NVLS_ENABLE": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclInfo:
    """What the lines say; None and empty where they do not. `transport` names only what costs speed."""

    num_ranks: int | None = None
    num_nodes: int | None = None
    transport: str | None = None
    environ: tuple[tuple[str, str], ...] = ()


def nccl_info(lines: Sequence[str], *, one_host: bool = False) -> NcclInfo:
    """Gather what NCCL says in these lines of a log; the ranks of `one_host` need no network."""
    words = [match[1] for line in lines if (match := _WORDS.search(line[:2_000]))]
    environ = {match[1]: match[2].rstrip(".") for said in words if (match := _SET.search(said))}
    num_nodes = _most(_NODES, words) or _by_local_ranks(words)
    said = _transport(words, environ, needs_network=not one_host and num_nodes != 1)
    return NcclInfo(
        num_ranks=_most(_RANKS, words),
        num_nodes=num_nodes,
        transport="; ".join(said) or None,
        environ=tuple((name, value) for name, value in environ.items() if name in ALLOWED_VARIABLES),
    )


def _most(pattern: re.Pattern[str], words: Sequence[str]) -> int | None:
    return max((int(match[1]) for said in words if (match := pattern.search(said))), default=None)


def _by_local_ranks(words: Sequence[str]) -> int | None:
    """Return ranks / ranks of a node, where one line states both and they divide."""
    for said in words:
        ranks, local = _RANKS.search(said), _LOCAL.search(said)
        if ranks and local and int(local[1]) > 0 and int(ranks[1]) % int(local[1]) == 0:
            return int(ranks[1]) // int(local[1])
    return None


def _transport(words: Sequence[str], environ: dict[str, str], *, needs_network: bool) -> Iterator[str]:
    """Yield what is slower than the machine may be able to: TCP, shared memory in place of peer access, what is turned off."""
    named = [match for said in words if (match := _NETWORK.search(said))]
    networks = {match[1] for match in named if match[1]} or {match[2] for match in named}  # old NCCL lists all that it has
    ways = {match[1] or match[2] for said in words if (match := _VIA.search(said))}
    if "NET/Socket" in ways or (needs_network and networks == {"Socket"}):
        no_device = any("NET/IB : No device found" in said for said in words)
        yield f"the network is Socket (TCP){', for NET/IB found no device' if no_device else ''}"
    if "SHM" in ways:
        some = " for some pairs" if ways & {"P2P", "direct pointer"} else ""
        yield f"inside a node bytes go through shared memory (SHM){some}, not from GPU to GPU (P2P)"
    idle = () if needs_network else ("NCCL_IB_DISABLE",)
    off = [f"{name}={environ[name]}" for name, value in _OFF.items() if environ.get(name) == value and name not in idle]
    if off:
        yield f"{', '.join(off)} is set"


def software_of(lines: Sequence[str]) -> SoftwareInfo | None:
    """Return the versions that a log states; the library's own line beats nccl-tests' header."""
    for line in lines:
        if match := re.search(r"[NR]CCL version *:? *(\d{1,3}\.[\d.]{1,12})(?:\+cuda([\d.]{1,8}))?", line):
            return SoftwareInfo(python="", nccl=match[1], cuda=match[2])
    for line in lines:
        if match := re.search(r"nccl-library=(\d{4,6})", line):
            return SoftwareInfo(python="", nccl=library_version(int(match[1])))
    return None
