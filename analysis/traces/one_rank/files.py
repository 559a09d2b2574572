"""Which files hold the ranks' traces? Found in run folders and folders, read side by side, one process a core, or here.

Small ones are read here. Each process reduces its trace before it hands it over, so that what is kept of a rank is small. A
trace that was reduced before is told by its first bytes, and read in no time.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TypeVar

from commprof.analysis.runs.workers import num_workers, side_by_side
from commprof.analysis.traces.one_rank import reduced
from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE, KernelTable
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.native.pftrace import is_native
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.stream import Limits, TraceText
from commprof.commbench.errors import BadInput
from commprof.commbench.progress import progress
from commprof.commbench.units import format_bytes

_PATTERNS = ("*.json", "*.json.gz", "*.pftrace", "*.pftrace.gz", f"*{reduced.SUFFIX}")
_FOLDERS = ("traces", "reduced")
_ENDINGS = re.compile(r"(\.pt)?(\.trace)?(\.json|\.pftrace)?(\.gz)?$")
_TRACE = re.compile(rb'\{.*?"traceEvents"\s*:\s*\[|\[\s*\{[^{}]*"ph"\s*:', re.DOTALL)
_RANK = re.compile(r"rank[-_ ]?(\d{1,7})", re.IGNORECASE)
_PATIENCE_S = 120.0
_WORTH_PROCESSES_BYTES = 16_000_000  # below, processes of their own take longer to start than the files to read
_SLOWEST_PACKED_BYTES_PER_S = 100_000  # 1.5 MB/s of text: a hundredth of what a free core reads

S = TypeVar("S")
T = TypeVar("T")


def find_traces(paths: Iterable[Path]) -> list[Path]:
    """Return the trace files that files, folders and run folders stand for. Raises BadInput where there is none."""
    found = [trace for path in paths for trace in _traces_of(path)]
    return list(dict.fromkeys(found))


def _traces_of(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise BadInput(f"{path} does not exist; name a trace (.json or .json.gz), or a folder of them")
        return [path]
    folder = folder_of_traces(path)
    if (path / "run.json").exists() and folder == path:
        if inside := sorted(run.parent for run in path.glob("*/traces")):
            raise BadInput(f"{path} holds several runs, each with its own traces; name one: commprof trace {inside[-1]}")
        raise BadInput(f"{path} is a run without traces: record it with --trace, or train with profiling.trace_steps")
    if not (found := _inside(folder)):
        raise BadInput(f"no trace (.json or .json.gz) in {folder}")
    return found


def folder_of_traces(path: Path) -> Path:
    """Return where a folder's traces are: a run has them, or what was made of them, in a folder of their own.

    Of the two the raw ones are taken, unless they were deleted after they had been reduced.
    """
    known = [path / name for name in _FOLDERS if (path / name).is_dir()]
    return next((folder for folder in known if _inside(folder)), known[0] if known else path)


def _inside(folder: Path) -> list[Path]:
    return sorted(own for pattern in _PATTERNS for own in folder.glob(pattern) if not own.name.startswith("."))


def reduced_paths(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return where each trace's reduced one goes. Raises BadInput where two would take each other's place."""
    places: dict[Path, Path] = {}
    for path in paths:
        name = path.name if path.name.endswith(reduced.SUFFIX) else _ENDINGS.sub("", path.name) + reduced.SUFFIX
        if folder / name in places:
            raise BadInput(f"{places[folder / name]} and {path} would both become {folder / name}; reduce into two folders")
        places[folder / name] = path
    return {path: place for place, path in places.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A file that holds no trace, and why not, in one line."""

    path: Path
    message: str


def read_all(paths: Sequence[Path], table: KernelTable = DEFAULT_TABLE) -> list[RankTrace]:
    """Read all files, several at a time, in their order; the table says which kernels communicate.

    Raises BadInput for what is no trace, RunFailed for a lost process.
    """
    found = read_each(paths, table)
    for own in found:
        if isinstance(own, Refused):
            raise BadInput(own.message)
    return [own for own in found if not isinstance(own, Refused)]


def read_each(paths: Sequence[Path], table: KernelTable = DEFAULT_TABLE) -> list[RankTrace | Refused]:
    """Read all files as `read_all` does, and return in the place of what is no trace why it is none."""
    done: dict[Path, RankTrace | Refused] = {path: _tried(path, table) for path in paths if _is_reduced(path)}
    raw = [path for path in paths if path not in done]
    done |= zip(raw, each_trace(partial(_tried, table=table), raw, raw), strict=True)
    return [done[path] for path in paths]


def _is_reduced(path: Path) -> bool:
    try:
        return reduced.is_reduced(path)
    except BadInput:
        return False  # whoever reads it says why it cannot be read


def _tried(path: Path, table: KernelTable) -> RankTrace | Refused:
    try:
        return read_rank(path, table)
    except BadInput as error:
        return Refused(path=path, message=str(error))


def reduce_all(places: Mapping[Path, Path], table: KernelTable = DEFAULT_TABLE) -> list[int]:
    """Reduce each trace into its place, several at a time, and return the bytes written. Raises as `read_all` does."""
    return each_trace(partial(_reduce_into, table=table), list(places.items()), list(places))


def read_rank(path: Path, table: KernelTable = DEFAULT_TABLE) -> RankTrace:
    """Read one file and reduce it if it is not. Raises BadInput for what is no trace."""
    return reduced.read_reduced(path) if reduced.is_reduced(path) else reduce_trace(read_trace(path), table)


def _reduce_into(pair: tuple[Path, Path], table: KernelTable) -> int:
    path, place = pair
    return reduced.write_reduced(place, read_rank(path, table))


def each_trace(work: Callable[[S], T], items: Sequence[S], paths: Sequence[Path]) -> list[T]:
    """Do the work on every item, whose files are `paths`, one process a core if that is sooner. Raises as `side_by_side`."""
    size_bytes = sum(path.stat().st_size for path in paths)
    deadline_s = _PATIENCE_S + size_bytes / _SLOWEST_PACKED_BYTES_PER_S / max(1, num_workers(len(paths)))
    doing = f"reading {len(paths)} trace{'s' * (len(paths) != 1)}"
    # A worker process is silent: the process that waits for it tells how far all are.
    with progress(doing, size_bytes, shown=format_bytes, enabled=parent_process() is None) as report:

        def watch(num_done: int, read_bytes: int) -> None:
            report(size_bytes if num_done == len(items) else min(read_bytes, size_bytes - 1), "")

        small = size_bytes < _WORTH_PROCESSES_BYTES
        return side_by_side(work, items, deadline_s=deadline_s, doing=doing, watch=watch, small=small)


def is_trace(path: Path) -> bool:
    """Say whether a file's beginning is that of a trace, reduced or not; not of what is no file or cannot be read."""
    if not path.is_file():
        return False
    try:
        if reduced.is_reduced(path):
            return True
        block = TraceText(path, Limits()).next_block()
    except BadInput:
        return False
    return is_native(block) or _TRACE.match(block.removeprefix(b"\xef\xbb\xbf").lstrip()) is not None


def rank_in_name(path: str) -> int | None:
    """Return the rank that a file's name gives, as in `rank00003.trace.json.gz`."""
    found = _RANK.search(Path(path).name)
    return int(found[1]) if found else None


def name_without_rank(path: Path) -> str:
    """Return what a trace's name, or else its folder's, says beside its rank and its format."""
    rest = _RANK.sub("", _ENDINGS.sub("", path.name)).strip("-_. ")
    folder = path.resolve().parent
    return rest or (folder.parent if folder.name in _FOLDERS else folder).name or "trace"
