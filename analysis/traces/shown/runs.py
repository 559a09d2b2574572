"""How are the traces of several runs shown? Each run's own answer under its name; of one run its answer alone."""

from collections.abc import Sequence
from typing import Any

from commprof.analysis.traces.all_ranks.job import TraceAnalysis
from commprof.analysis.traces.sets.belonging import RunTraces
from commprof.analysis.traces.shown.text import analysis_document, analysis_sheet
from commprof.commbench.display.sheet import Block, Words, joined, line

Analysed = Sequence[tuple[RunTraces, TraceAnalysis]]


def runs_sheet(analysed: Analysed) -> list[Block]:
    """Lay out each run's answer, under a heading where there are several."""
    if len(analysed) == 1:
        return analysis_sheet(analysed[0][1])
    head: list[Block] = [line(f"traces of {len(analysed)} runs, each answered for itself", "strong")]
    return joined([head, *(_run(own, analysis) for own, analysis in analysed)])


def _run(own: RunTraces, analysis: TraceAnalysis) -> list[Block]:
    files = f"{len(own.files)} trace{'s' * (len(own.files) != 1)}, from {own.files[0]}"
    return joined([[line(f"run {own.name}", "strong"), Words(files)], analysis_sheet(analysis)])


def runs_document(analysed: Analysed) -> dict[str, Any]:
    """Return the run's JSON document; of several runs one document with `runs`, each with its name and files."""
    if len(analysed) == 1:
        return analysis_document(analysed[0][1])
    return {
        "runs": [
            {"name": own.name, "files": [str(path) for path in own.files], **analysis_document(analysis)}
            for own, analysis in analysed
        ]
    }
