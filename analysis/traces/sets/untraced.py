"""How long is a step of the same run without the profiler? Our trainings record it beside their traces.

None for traces of other jobs, of several runs at once, and for runs with too few steps that count.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.load import load_run
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import RUN_FILE
from commprof.commbench.records.training import StepMeasurement

_MIN_COUNTED = 5


def untraced_step_s(files: Iterable[Path]) -> float | None:
    """Return the median recorded step that counts of the run in whose folder all these traces lie."""
    folders = {run_of(file) for file in files}
    run = folders.pop() if len(folders) == 1 else None
    if run is None:
        return None
    try:
        return counted_step_s(list(load_run(run).steps.values()))
    except BadInput:
        return None  # the traces are read for themselves; what lies beside them may be of an older release or damaged


def disturbance_of(files: Iterable[Path]) -> str | None:
    """Say which of the runs that traces lie in were disturbed by other processes; None where none was or none can tell."""
    runs = []
    for folder in sorted({run for file in files if (run := run_of(file)) is not None}):
        with suppress(BadInput):  # as above
            runs.append(load_run(folder))
    return disturbance_text(runs)


def run_of(file: Path) -> Path | None:
    """Return the run folder of a trace, which lies in a folder inside it, reduced or not; None where there is none."""
    run = file.absolute().parent.parent
    return run if (run / RUN_FILE).exists() else None


def counted_step_s(ranks: Sequence[Sequence[StepMeasurement]]) -> float | None:
    """Return the median step that is neither warm-up nor under the profiler; None where there are too few."""
    counted = [step.step_s for steps in ranks for step in steps if step.counts]
    return median(counted) if len(counted) >= _MIN_COUNTED else None
