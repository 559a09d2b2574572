"""Which runs is one rank's step taken from, and which check what is predicted of several?"""

from collections.abc import Sequence

from commprof.analysis.runs.load import Run, select
from commprof.commbench.records.training_kind import follows_ddp


def profile_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that stand for one rank: those with gradient times of the fewest ranks, or else made of traces.

    Of as many ranks, what was measured stands before what was traced, whose profiler slowed it.
    """
    training = [run for run in select(runs, kind="train") if run.gradients is not None]
    usable = [run for run in training if run.world_size == 1 or run.info.imported_from is not None]
    best = min(map(_preference, usable), default=None)
    return [run for run in usable if _preference(run) == best]


def checking_runs(runs: Sequence[Run], world_size: int | None = None) -> list[Run]:
    """Return the synchronised runs that DDP's prediction may be held against: none that share the work out otherwise."""
    found = ((run, run.info.workload) for run in select(runs, kind="train", world_size=world_size, synchronised=True))
    return [run for run, work in found if work is None or follows_ddp(work.kind, run.world_size)]


def _preference(run: Run) -> tuple[int, bool]:
    return run.world_size, run.info.imported_from is not None
