"""Which runs of a report have traces, and what do these say?

One file a rank is read, of at most six runs, those that communicate first. A run of more than 8 ranks or 200 MB of traces is
not: a page should not take as long to write as an analysis. What is not read, or cannot be, becomes a sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from commprof.analysis.runs.load import Run
from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.one_rank.files import each_trace, find_traces, rank_in_name, read_rank
from commprof.analysis.traces.sets.untraced import counted_step_s
from commprof.commbench.errors import CommprofError

_MAX_RUNS = 6
_MAX_RANKS = 8
_MAX_BYTES = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """A run whose traces were read: one file a rank, `num_left_out` further ones (windows) not.

    `by_rank` are the files that ranks were taken from; a reduced trace names the raw one, which may be gone.
    """

    run: Run
    files: tuple[Path, ...]
    by_rank: dict[int, Path]
    num_left_out: int
    analysis: TraceAnalysis

    @property
    def name(self) -> str:
        return self.run.path.name

    @property
    def sources(self) -> tuple[str, ...]:
        """The files by the name that the page lists them under."""
        return tuple(f"{self.name}/{path.relative_to(self.run.path)}" for path in self.files)


def read_traced(runs: Sequence[Run]) -> tuple[list[TracedRun], list[str]]:
    """Return the runs whose traces could be read, in the order given, and why others could not."""
    having = [run for run in runs if run.traced]
    telling = {run.path for run in sorted(having, key=lambda run: (not run.sends, -run.world_size))[:_MAX_RUNS]}
    traced, refusals = [], []
    for run in (run for run in having if run.path in telling):
        try:
            found = _traced(run)
        except (CommprofError, OSError) as error:
            refusals.append(f"{run.path.name}: its traces say nothing: {error}.")
            continue
        if isinstance(found, str):
            refusals.append(f"{run.path.name}: {found}.")
        else:
            traced.append(found)
    if len(having) > len(telling):
        refusals.append(f"The traces of {len(having) - len(telling)} more runs were not read; commprof trace RUN shows them.")
    return traced, refusals


def _traced(run: Run) -> TracedRun | str:
    """Read a run's traces, or say why that would take too long."""
    found = find_traces([run.path])
    files = list(_one_a_rank(found))
    size_bytes = sum(path.stat().st_size for path in files)
    if len(files) > _MAX_RANKS or size_bytes > _MAX_BYTES:
        return (
            f"its traces of {len(files)} ranks and {size_bytes / 1e6:.0f} MB are more than a report reads ({_MAX_RANKS} ranks, "
            f"{_MAX_BYTES / 1e6:.0f} MB); commprof trace {run.path.name} shows them"
        )
    traces = each_trace(read_rank, files, files)
    analysis = analyse_traces(traces, untraced_s=counted_step_s(list(run.steps.values())))
    read_from = {id(trace): path for trace, path in zip(traces, files, strict=True)}
    return TracedRun(
        run=run,
        files=tuple(files),
        by_rank={rank: read_from[id(trace)] for rank, trace in analysis.by_rank.items()},
        num_left_out=len(found) - len(files),
        analysis=analysis,
    )


def _one_a_rank(files: Sequence[Path]) -> Iterator[Path]:
    """Yield each rank's first file, as commprof trace takes it, and every file that names no rank."""
    seen: set[int] = set()
    for path in files:
        rank = rank_in_name(str(path))
        if rank is None or rank not in seen:
            yield path
        if rank is not None:
            seen.add(rank)
