"""`cp.load`: run folders as one value whose measurements are tables."""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from commprof.analysis.runs.load import Run, load_runs
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.api import frames
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RUN_FILE

if TYPE_CHECKING:
    from pandas import DataFrame

PathLike: TypeAlias = str | os.PathLike[str]

_SAMPLES = {
    "collectives": ["slowest_rank_s", "fastest_rank_s"],
    "links": ["samples_s"],
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

    def samples(self, of: Literal["collectives", "links", "contention"]) -> "DataFrame":
        """Return a table with its lists of samples exploded: one row a sample (s), counted in `sample`."""
        table: DataFrame = getattr(self, of)
        lists = _SAMPLES[of]
        numbered = table.assign(sample=table[lists[0]].map(lambda samples: list(range(len(samples)))))
        long = numbered.explode([*lists, "sample"], ignore_index=True)
        return long.astype(dict.fromkeys(lists, float) | {"sample": int})

    def __repr__(self) -> str:
        listed = ", ".join(f"{run.info.kind} on {run.world_size}" for run in self.runs[:8])
        return f"<{len(self.runs)} runs: {listed}{', ...' * (len(self.runs) > 8)}>"

    def _repr_html_(self) -> str:
        shown = self.info[["run_id", "kind", "status", "world_size", "backend", "wire", "experiment", "started_at"]]
        return str(shown.to_html(index=False, na_rep="", max_rows=40))


RunsLike: TypeAlias = Runs | PathLike | Iterable[PathLike | Run]


def load(paths: PathLike | Iterable[PathLike]) -> Runs:
    """Read run folders; a study's folder stands for the runs inside it, a glob for the runs that it matches.

    Raises BadInput where there is no run, or a file in one is malformed.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return Runs(tuple(load_runs([folder for name in named for folder in _folders(name)])))


def as_runs(runs: RunsLike) -> Runs:
    """Return runs as they are, or those that paths and globs stand for."""
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, str | os.PathLike):
        return load(runs)
    return Runs(tuple(run for one in runs for run in ([one] if isinstance(one, Run) else load(one))))


def as_world_sizes(n: int | Iterable[int]) -> list[int]:
    """Return the numbers of ranks asked for, whole numbers of any library; raise BadInput for what is none."""
    asked = [n] if isinstance(n, int) or not isinstance(n, Iterable) else list(n)
    try:
        world_sizes = [operator.index(one) for one in asked]
    except TypeError:
        raise BadInput(f"n={n!r}: numbers of ranks are whole numbers, such as n=[2, 4, 8]") from None
    check_world_sizes(world_sizes, "n")
    return world_sizes


def _folders(name: PathLike) -> Iterator[Path]:
    path = Path(name)
    if path.exists() or not has_magic(str(path)):
        yield path
        return
    found = [Path(match) for match in sorted(glob(str(path), recursive=True)) if (Path(match) / RUN_FILE).exists()]
    if not found:
        raise BadInput(f"{name} matches no run folder; run folders hold a {RUN_FILE}")
    yield from found
