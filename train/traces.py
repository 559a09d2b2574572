"""How to open the traces that a run has left: where they are, how to fetch them, and where to drop them. No torch here."""

import shlex
from pathlib import Path

from commprof.commbench.machine.hardware import hostname


def opening_traces(run: Path) -> str:
    """Return lines that say how to open a run's traces in Perfetto; one line where there are none."""
    files = sorted(run.glob("traces/*.trace.json.gz"))
    if not files:
        return "traces: none in this run (profiling.trace_steps, profiling.trace_ranks)"
    path = files[0].absolute() if len(files) == 1 else (run / "traces").absolute() / "*.trace.json.gz"
    ranks = len({file.name.partition(".")[0].partition("-")[0] for file in files})
    count = "1 file" if len(files) == 1 else f"{len(files)} files, one per rank" + (" and window" if len(files) > ranks else "")
    return (
        f"traces: {count}; open each at https://ui.perfetto.dev (Open trace file; it is read in the browser and sent nowhere)\n"
        f"  from another machine, first: scp {shlex.quote(f'{hostname()}:{path}')} ."
    )
