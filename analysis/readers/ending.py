"""Did the program that wrote a log come to its end?

nccl-tests says in its header how far it will go and prints a footer last: without one it died, hangs, or its output was cut.
Other programs say nothing of the kind; there a line in which a launcher, MPI, NCCL or Python tells of a crash is all there is.
"""

import re
from collections.abc import Sequence

from commprof.commbench.units import format_bytes

_QUOTED = 160
_FATAL = re.compile(
    r"(?:Test \w{1,16} failure|(?:NCCL|CUDA|HIP|RCCL) (?:failure|error)\b|out of memory|Segmentation fault|Bus error|"
    r"\bAborted\b|\bKilled\b|MPI_ABORT|BAD TERMINATION|core dumped|Traceback \(most recent call last\)|[Ww]atchdog caught|"
    r"mpirun noticed|mpiexec noticed|exited on signal|srun: error|slurmstepd: error|DUE TO TIME LIMIT|CANCELLED AT|"
    r"Caught signal \d|ncclUnhandledCudaError|ncclSystemError|ncclRemoteError|ncclInternalError|Fatal error|"
    r"terminate called after).{0,160}",
    re.IGNORECASE,
)
_WARNING = re.compile(r"NCCL WARN .{1,160}")
_FOOTER = re.compile(r"Out of bounds values|Avg bus bandwidth")
_MOST = re.compile(r"(?:maxBytes|Reducing maxBytes to) +(\d{1,18})")
_STEP = re.compile(r"step: *(\d{1,18}) *\((factor|bytes)\)")


def fatal_line(lines: Sequence[str]) -> str | None:
    """Return what the first line says that tells of a crash."""
    return next((found[0].strip()[:_QUOTED] for line in lines if (found := _FATAL.search(line[:2_000]))), None)


def trouble(lines: Sequence[str]) -> str | None:
    """Quote NCCL's first warning and the first line that tells of a crash, whichever are there."""
    warning = next((found[0].strip()[:_QUOTED] for line in lines if (found := _WARNING.search(line[:2_000]))), None)
    said = [said for said in (warning, fatal_line(lines)) if said]
    return " and ".join(repr(words) for words in said) or None


def why_incomplete(lines: Sequence[str], last_row: int | None, size: int, *, broken: bool) -> str | None:
    """Return why a table of nccl-tests is not whole; None for one that is, or of which nothing tells.

    `last_row` is the line of its last row, `size` that row's bytes; `broken` says that a row after it lacks its end.
    """
    if any(map(_FOOTER.search, lines)):
        return None
    after = lines[(last_row or 0) + 1 :]
    said, announced, has_header = trouble(after), _further_size(lines, size), any("minBytes" in line for line in lines)
    if announced:
        reason = f"the header announces sizes to {format_bytes(announced)}, the last is {format_bytes(size)}"
    elif broken:
        reason = f"a row breaks off after {format_bytes(size)}"
    elif has_header:
        reason = f"the last size is {format_bytes(size)}"
    elif said is None:
        return None
    else:
        return f"the log ends after {format_bytes(size)}; it says {said}"
    return f"{reason} and there is no footer: it died, hung or was cut" + (f"; it says {said}" if said else "")


def promised_bytes(most: int, size: int, *, factor: int = 0, step: int = 0) -> int | None:
    """Return the largest size announced where at least one size after this one is missing."""
    following = size * factor if factor > 1 else size + step
    return most if size < following <= most else None


def _further_size(lines: Sequence[str], size: int) -> int | None:
    most = [int(found[1]) for line in lines if (found := _MOST.search(line))]
    step = next((found for line in lines if (found := _STEP.search(line))), None)
    if not most or step is None:
        return None
    by = int(step[1])
    return promised_bytes(most[-1], size, **({"factor": by} if step[2] == "factor" else {"step": by}))
