"""`cp.trace`: where each step's time went, on every rank."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commprof.analysis.traces.all_ranks.buckets import BucketStep
from commprof.analysis.traces.all_ranks.budget import PARTS
from commprof.analysis.traces.all_ranks.job import TraceAnalysis, all_collectives, analyse_traces
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.sets.belonging import read_one_run
from commprof.analysis.traces.sets.untraced import untraced_step_s
from commprof.analysis.traces.shown.text import COLLECTIVE_FIELDS, analysis_sheet, budget_record, collective_record
from commprof.api.answer import Answer
from commprof.api.frames import frame, row_of, types_of
from commprof.api.runs import PathLike, as_paths
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import BadInput, UnusableData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_BUDGET = {"rank": int, "step": int, **dict.fromkeys(("wall_s", *(f"{part}_s" for part in PARTS)), float)}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Traced(Answer):
    """What the traces of a job's ranks say together."""

    analysis: TraceAnalysis

    def to_frame(self) -> "DataFrame":
        """Return one row a rank and step: its wall time and the parts (s) that add up to it."""
        return frame(map(budget_record, self.analysis.budgets), _BUDGET)

    def collectives(self) -> "DataFrame":
        """Return one row a rank and collective, times (ns) on the rank's own clock."""
        types = {"rank": int, **{name: hint for name, hint in types_of(Collective).items() if name in COLLECTIVE_FIELDS}}
        rows = (collective_record(rank, one) for rank, one in all_collectives(self.analysis))
        return frame(rows, types, ("rank", *COLLECTIVE_FIELDS))

    def buckets(self) -> "DataFrame":
        """Return one row a rank, step and bucket of DDP's: seconds after backward began."""
        return frame(map(row_of, self.analysis.buckets), types_of(BucketStep))

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong with the traces, in words."""
        return tuple(finding.message for finding in self.analysis.findings)

    def plot(self) -> "Figure":
        """Draw the typical step of each rank, part by part."""
        from commprof.analysis.report.figures.traces import budget_figure
        from commprof.analysis.traces.all_ranks.budget import typical

        if not self.analysis.budgets:
            raise UnusableData("the traces mark no step, so there is none to draw; profile with schedule= and call step()")
        by_rank = {rank: [own for own in self.analysis.budgets if own.rank == rank] for rank in self.analysis.by_rank}
        return budget_figure([typical(own) for own in by_rank.values() if own])

    def headline(self) -> str:
        return self.analysis.stragglers.message

    def sheet(self) -> list[Block]:
        return analysis_sheet(self.analysis)


def trace(files: PathLike | Iterable[PathLike]) -> Traced:
    """Analyse torch.profiler's traces of one job: files (.json, .json.gz, reduced), folders of them, or run folders.

    Raises BadInput where there is no trace, and where there are traces of several runs.
    """
    named = as_paths(files, "files")
    if not named:
        raise BadInput("files: none is named; name traces (.json or .json.gz), or folders of them")
    run = read_one_run([Path(name) for name in named])
    return Traced(analyse_traces(run.traces, untraced_s=untraced_step_s(run.files), known=run.findings))
