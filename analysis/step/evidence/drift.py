"""How much does a machine change its pace from one stretch of a run to the next? Told from the runs' own steps.

A run is cut into four stretches of m steps; y is the logarithm of the slowest rank's step.

    drift^2 = variance between the stretches' means of y - s^2/m

where s^2 is the variance within stretches, so that steps which vary by themselves are no drift: the estimator of a one-way
random effect (Searle, Casella, McCulloch 1992, Variance Components, 3.6), pooled over runs, none where it is below zero. Where
runs are repeated and have probes, what these differ by from run to run is the drift if it is more (evidence/pace.py). A run and
the one that checks it have each a pace of their own: they differ by sqrt(2) drift.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Final

import numpy as np

from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, select
from commprof.analysis.step.evidence.pace import pace_drift

TOLD_DRIFT: Final = 0.02  # as much as a quiet machine's runs differ by anyhow
WIDEST: Final = 0.25  # of a step: a wider interval for the machine's sake tells nothing
OWN_SHARE: Final = 0.8  # of an interval's width: what more than this is left of without the drift is not wide for its sake
_STRETCHES: Final = 4
_MIN_STEPS: Final = 2 * _STRETCHES


def too_wide(
    step_s: float, span_s: Interval, undisturbed_s: Callable[[], Interval], *, drift: float, between: float = 0.0
) -> str | None:
    """Say why a step gets no interval: its own would be too wide, and is so for the machine's changing pace. None elsewhere.

    `undisturbed_s` is the interval without `drift` and without what runs of one thing differ by (`between`).
    """
    width_s = span_s.high - span_s.low
    if width_s <= WIDEST * step_s:
        return None
    calm_s = undisturbed_s()
    if calm_s.high - calm_s.low > OWN_SHARE * width_s:
        return None  # it is wide for other reasons, which the assumptions tell
    reasons = [f"the machine's pace drifts by {drift:.0%}"] if drift >= TOLD_DRIFT else []
    reasons += [f"runs of one thing differ by {between:.0%}"] if between >= TOLD_DRIFT else []
    if not reasons:
        return None
    return (
        f"too disturbed to predict: the 90 % interval would be {width_s / step_s:.0%} of the step wide, because "
        f"{' and '.join(reasons)}; end what else runs there and measure again"
    )


def drift_of(runs: Sequence[Run]) -> float:
    """Return the pace's standard deviation between stretches, relative, over the training runs that send nothing.

    0 where no run has eight steps that count and none is repeated.
    """
    silent = [run for run in select(runs, kind="train") if not run.sends]
    known = [variance for run in silent if (variance := _variance(run)) is not None]
    within = sqrt(max(0.0, float(np.mean(known)))) if known else 0.0
    return max(within, pace_drift(silent))


def _variance(run: Run) -> float | None:
    """Return one run's drift^2, which may be below zero; None for too few steps."""
    steps_s = [[step.step_s for step in steps if step.counts] for steps in run.steps.values()]
    shortest = min(map(len, steps_s), default=0)
    if shortest < _MIN_STEPS or min(map(min, steps_s)) <= 0:
        return None
    slowest = np.log(np.array([rank[-shortest:] for rank in steps_s]).max(axis=0))
    stretches = np.array_split(slowest, _STRETCHES)
    within = sum(float(((part - part.mean()) ** 2).sum()) for part in stretches) / (shortest - _STRETCHES)
    return float(np.var([part.mean() for part in stretches], ddof=1)) - within * _STRETCHES / shortest
