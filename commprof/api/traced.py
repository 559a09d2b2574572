"""`cp.trace`: where each step's time went, on every rank."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commprof.analysis.traces.all_ranks.job import TraceAnalysis, all_collectives, analyse_traces
from commprof.analysis.traces.all_ranks.untraced import untraced_step_s
from commprof.analysis.traces.one_rank.files import find_traces, read_all
from commprof.analysis.traces.shown.text import analysis_text, budget_record, collective_record
from commprof.api.answer import Answer
from commprof.api.frames import frame
from commprof.api.runs import PathLike
from commprof.commbench.errors import UnusableData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Traced(Answer):
    """What the traces of a job's ranks say together."""

    analysis: TraceAnalysis

    def to_frame(self) -> "DataFrame":
        """Return one row a rank and step: its wall time and the parts (s) that add up to it."""
        return frame(map(budget_record, self.analysis.budgets))

    def collectives(self) -> "DataFrame":
        """Return one row a rank and collective, times (ns) on the rank's own clock."""
        return frame(collective_record(rank, one) for rank, one in all_collectives(self.analysis))

    def buckets(self) -> "DataFrame":
        """Return one row a rank, step and bucket of DDP's: seconds after backward began."""
        return frame(map(asdict, self.analysis.buckets))

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

    def __str__(self) -> str:
        return analysis_text(self.analysis)


def trace(files: PathLike | Iterable[PathLike]) -> Traced:
    """Analyse torch.profiler's traces of one job: files (.json, .json.gz, reduced), folders of them, or run folders.

    Raises BadInput where there is no trace.
    """
    named = [files] if isinstance(files, str | os.PathLike) else list(files)
    paths = find_traces([Path(name) for name in named])
    return Traced(analyse_traces(read_all(paths), untraced_s=untraced_step_s(paths)))
