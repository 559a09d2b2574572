"""What does the error of a collective say? A peer that is gone, memory that is used up, or a refusal of the library's own.

gloo raises plain RuntimeError with its reason in the first line. NCCL's error names a line of torch's source first and ends
with the cause:

    NCCL error in: /pytorch/.../ProcessGroupNCCL.cpp:3699, invalid usage (run with ...), NCCL version 2.28.9
    ncclInvalidUsage: This usually reflects invalid usage of NCCL library.
    Last error:
    Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 50000
"""

import re

import torch
import torch.distributed as dist

_LONGEST = 300
_NCCL = re.compile(
    r"NCCL error in: [^\n]*?\.cpp:\d+, (?P<kind>[^\n]*?)(?: \(run with [^)]*\))?, NCCL version (?P<version>[\d.]+)"
)
_LAST_WORDS = "Last error:"
_GONE = re.compile(r"remote|timed? ?out|connection (?:closed|reset|refused)|broken pipe|by peer|abort", re.IGNORECASE)
_NO_MEMORY = re.compile(
    r"out of memory|allocate memory|failed to cuda (?:host )?(?:m|c)alloc|cudaErrorMemoryAllocation", re.IGNORECASE
)


def reason(error: Exception) -> str:
    """Return the cause in one line: NCCL's last words with its version, else the first line."""
    text = str(error)
    nccl = _NCCL.search(text)
    if nccl is None:
        return _line((text.splitlines() or [""])[0]) or type(error).__name__
    said, known = _line(text.partition(_LAST_WORDS)[2]), f"NCCL {nccl['version']}: {_line(nccl['kind'])}"
    return f"{said} ({known})" if said else known


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def out_of_memory(error: BaseException) -> bool:
    """Say whether memory was used up: torch's own error on a GPU, only its text on the host and inside NCCL."""
    return isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)) is not None


def lost_a_peer(error: RuntimeError) -> bool:
    """Say whether a collective ended for want of another rank; gloo's errors are known by their text."""
    text = str(error)
    if _NCCL.search(text):
        return _GONE.search(text) is not None
    return isinstance(error, dist.DistError) or any(word in text.lower() for word in ("gloo", "connection", "timed out"))


def refused_by_nccl(error: RuntimeError) -> bool:
    """Say whether NCCL itself could not do what it was asked, whatever the other ranks do."""
    return _NCCL.search(str(error)) is not None and not lost_a_peer(error)
