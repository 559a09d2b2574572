"""`cp.load`: run folders as one value whose measurements are tables."""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, overload

from commprof.analysis.runs.load import Run, load_runs
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.api import frames
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RUN_FILE

if TYPE_CHECKING:
    from pandas import DataFrame

PathLike: TypeAlias = str | os.PathLike[str]
One = TypeVar("One")

_SAMPLES = {
    "collectives": ["slowest_rank_s", "fastest_rank_s"],
    "links": ["samples_s"],
    "pairs": ["samples_s"],
    "contention": ["compute_alone_s", "compute_with_comm_s", "comm_alone_s", "comm_with_compute_s"],
}


@dataclass(frozen=True, slots=True)
class Runs(Sequence[Run]):
    """Some runs, in the order given; a sequence of `Run`. Tables are made when they are asked for; SI units, in the names."""

    runs: tuple[Run, ...]

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "Run | Runs":
        return Runs(self.runs[index]) if isinstance(index, slice) else self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def info(self) -> "DataFrame":
        """One row a run: its kind, status, world size, backend, machine, what it trained and where it lies."""
        return frames.info_frame(self.runs)

    @property
    def steps(self) -> "DataFrame":
        """One row a run, rank and step: phases in seconds, loss; `counts` is False in warm-up and under the profiler."""
        return frames.steps_frame(self.runs)

    @property
    def collectives(self) -> "DataFrame":
        """One row a run, collective, mode and size (bytes): medians, bandwidths (bytes/s), and every sample in a list."""
        return frames.collectives_frame(self.runs)

    @property
    def links(self) -> "DataFrame":
        """One row a run, link and size (bytes): the median, its bandwidth (bytes/s), and every sample in a list."""
        return frames.links_frame(self.runs)

    @property
    def pairs(self) -> "DataFrame":
        """One row a run, two ranks on different hosts, size (bytes) and round: one way, while the round's other pairs sent."""
        return frames.pairs_frame(self.runs)

    @property
    def contention(self) -> "DataFrame":
        """One row a run and size (bytes): computation and communication alone and together, as lists of seconds."""
        return frames.contention_frame(self.runs)

    @property
    def buckets(self) -> "DataFrame":
        """One row a run and DDP bucket: bytes, and when it was ready, launched and done, seconds after backward began."""
        return frames.buckets_frame(self.runs)

    @property
    def parameters(self) -> "DataFrame":
        """One row a run and parameter: bytes, and when its gradient was ready, seconds after backward began."""
        return frames.parameters_frame(self.runs)

    def samples(self, of: Literal["collectives", "links", "pairs", "contention"]) -> "DataFrame":
        """Return a table with its lists of samples exploded: one row a sample (s), counted in `sample`."""
        if of not in _SAMPLES:
            raise BadInput(f"of={of!r}: lists of samples are in {', '.join(_SAMPLES)}")
        table: DataFrame = getattr(self, of)
        lists = _SAMPLES[of]
        numbered = table.assign(sample=table[lists[0]].map(lambda samples: list(range(len(samples)))))
        long = numbered.explode([*lists, "sample"], ignore_index=True)
        return long.astype(dict.fromkeys(lists, float) | {"sample": int})

    def __repr__(self) -> str:
        listed = ", ".join(f"{run.info.kind} on {run.world_size}" for run in self.runs[:8])
        return f"<{len(self.runs)} runs{': ' * bool(listed)}{listed}{', ...' * (len(self.runs) > 8)}>"

    def _repr_html_(self) -> str:
        shown = self.info[["run_id", "kind", "status", "world_size", "backend", "wire", "experiment", "started_at"]]
        return frames.html_table(shown)


RunsLike: TypeAlias = Run | PathLike | Iterable[Run | PathLike | Iterable[Run | PathLike]]


def load(paths: PathLike | Iterable[PathLike]) -> Runs:
    """Read run folders; a study's folder stands for the runs inside it, a glob for the runs that it matches.

    Raises BadInput where there is no run, or a file in one is malformed.
    """
    named = as_paths(paths, "paths")
    if not named:
        raise BadInput("paths: none is named; name run folders, such as cp.load('runs/*')")
    return Runs(tuple(load_runs([folder for name in named for folder in _folders(name)])))


def as_paths(paths: PathLike | Iterable[PathLike], asked: str) -> list[PathLike]:
    """Return one path or several as a list; raise BadInput for what is none, `asked` naming the argument."""
    named = [paths] if isinstance(paths, str | os.PathLike) else _each(paths, asked, "paths")
    if wrong := [one for one in named if not isinstance(one, str | os.PathLike) or isinstance(os.fspath(one), bytes)]:
        raise BadInput(f"{asked}: {wrong[0]!r} is no path")
    return named


def as_runs(runs: RunsLike) -> Runs:
    """Return runs as they are, or those that paths and globs stand for; raise BadInput for what is neither."""
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, Run):
        return Runs((runs,))
    if isinstance(runs, str | os.PathLike):
        return load(runs)
    return Runs(tuple(run for one in _each(runs, "runs", "paths or runs of cp.load") for run in as_runs(one)))


def as_world_sizes(n: int | Iterable[int]) -> list[int]:
    """Return the numbers of ranks asked for; raise BadInput for what is none."""
    world_sizes = whole_numbers(n, "n")
    check_world_sizes(world_sizes, "n")
    return world_sizes


def whole_numbers(n: int | Iterable[int], asked: str) -> list[int]:
    """Return one whole number or several as a list, of whatever library they are; raise BadInput for what is none."""
    one = isinstance(n, bytes | bytearray) or not isinstance(n, Iterable) or getattr(n, "ndim", 1) == 0
    numbers: Iterable[Any] = [n] if one else cast("Iterable[int]", n)
    try:
        return [operator.index(number) for number in numbers]
    except TypeError:
        raise BadInput(f"{asked}={n!r}: numbers of ranks are whole numbers, such as {asked}=[2, 4, 8]") from None


def _each(several: Iterable[One], asked: str, wanted: str) -> list[One]:
    if isinstance(several, bytes | bytearray) or not isinstance(several, Iterable):
        raise BadInput(f"{asked}: {several!r} is no list of {wanted}")
    return list(several)


def _folders(name: PathLike) -> Iterator[Path]:
    path = Path(name)
    if not has_magic(str(path)) or os.path.exists(path):  # which takes a name that is too long for one of nothing
        yield path
        return
    found = [Path(match) for match in sorted(glob(str(path), recursive=True)) if (Path(match) / RUN_FILE).exists()]
    if not found:
        raise BadInput(f"{name} matches no run folder; run folders hold a {RUN_FILE}")
    yield from found
