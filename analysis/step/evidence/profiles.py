"""Which runs is one rank's step taken from?"""

from collections.abc import Sequence

from commprof.analysis.runs.load import Run, select


def profile_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that stand for one rank: those with gradient times of the fewest ranks, or else made of traces.

    Of as many ranks, what was measured stands before what was traced, whose profiler slowed it.
    """
    training = [run for run in select(runs, kind="train") if run.gradients is not None]
    usable = [run for run in training if run.world_size == 1 or run.info.imported_from is not None]
    best = min(map(_preference, usable), default=None)
    return [run for run in usable if _preference(run) == best]


def _preference(run: Run) -> tuple[int, bool]:
    return run.world_size, run.info.imported_from is not None
