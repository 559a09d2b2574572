"""Several runs of one thing: do they agree, and what do they say together?

A run computes at another pace than the run before it. Medians T_i of k runs that agree are pooled to their geometric mean, each
run's steps scaled to it; what the runs differ by is left to the interval:

    T = exp(mean of ln T_i f_i)        between^2 = (1 + 1/k) variance of ln T_i f_i

the second being what a further run differs from T by, f_i bringing the runs on one scale where their probes show that the
machine's pace was another (evidence/pace.py), 1 elsewhere. Runs agree where the largest median is at most `AGREE` above the
smallest, or what the drift seen within the runs (drift.py) makes of two of them in 95 % of cases. Others are not pooled:
nothing makes a step shorter than it is, so the longest was disturbed, or is of something else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log, sqrt
from statistics import variance
from typing import Final

import numpy as np

from commprof.analysis.runs.load import Run, in_order
from commprof.analysis.step.computation import ComputePool
from commprof.analysis.step.evidence.pace import pace_factors
from commprof.analysis.step.evidence.pools import pool_of
from commprof.commbench.errors import UnusableData
from commprof.commbench.units import format_seconds

AGREE: Final = 0.10  # two runs on a machine with other work: sqrt(2) of 3.2 % is their difference, 9 % in 95 % of cases
_Z95: Final = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Runs that measured one thing and agree, the earliest first, and the median step of each. There is at least one.

    `factors` bring the medians on one scale of the machine's pace.
    """

    runs: tuple[Run, ...]
    medians_s: tuple[float, ...]
    factors: tuple[float, ...]

    @property
    def paced_s(self) -> tuple[float, ...]:
        """The medians on one scale."""
        return tuple(seconds * factor for seconds, factor in zip(self.medians_s, self.factors, strict=True))

    @property
    def step_s(self) -> float:
        """The median step that they have together."""
        if len(self.medians_s) == 1:
            return self.medians_s[0]
        return exp(fsum(map(log, self.paced_s)) / len(self.paced_s))

    @property
    def between(self) -> float:
        """What a further run differs from these by, relative, as a standard deviation; 0 where one run cannot tell."""
        count = len(self.paced_s)
        return sqrt((1 + 1 / count) * variance(map(log, self.paced_s))) if count > 1 else 0.0

    @property
    def typical(self) -> Run:
        """The run whose median is nearest to that of all."""
        return min(zip(self.runs, self.paced_s, strict=True), key=lambda pair: abs(pair[1] - self.step_s))[0]

    @property
    def told(self) -> str:
        """Each run's median, and what it was multiplied by."""
        known = zip(self.runs, self.medians_s, self.factors, strict=True)
        return ", ".join(
            f"{run.path.name} {format_seconds(seconds)}{'' if factor == 1 else f' times {factor:.3f} for its pace'}"
            for run, seconds, factor in known
        )

    def scaled(self, run: Run) -> float:
        """Return the factor that brings a run's steps to the median of all."""
        own_s = self.medians_s[self.runs.index(run)]
        return self.step_s / own_s if len(self.runs) > 1 else 1.0

    def mean(self, value: Callable[[Run], float]) -> float:
        """Return the mean over the runs of a time in a step, each run's scaled to the median of all."""
        return fsum(self.scaled(run) * value(run) for run in self.runs) / len(self.runs)

    def pool(self, *, slowdown: float = 1.0) -> ComputePool:
        """Return the steps of all runs, scaled; see `pool_of`."""
        pools = [pool_of(run, slowdown=slowdown * self.scaled(run)) for run in self.runs]
        own = pools[self.runs.index(self.typical)]
        return ComputePool(
            before_s=np.hstack([pool.before_s for pool in pools]),
            backward_s=np.hstack([pool.backward_s for pool in pools]),
            update_s=np.hstack([pool.update_s for pool in pools]),
            kind="turns" if slowdown > 1 else own.kind,
            measured_at_n=own.measured_at_n,
            slowdown=slowdown,
        )


def repeats_of(runs: Sequence[Run], median_s: Callable[[Run], float], drift: float) -> Repeats:
    """Return what these runs say together, in whatever order they are given; raise UnusableData where they disagree.

    `median_s` is what they are compared by, `drift` the pace's relative standard deviation from stretch to stretch.
    """
    ordered = in_order(runs)
    found = Repeats(runs=tuple(ordered), medians_s=tuple(map(median_s, ordered)), factors=pace_factors(ordered))
    if len(ordered) > 1 and not _agree(found.paced_s, drift):
        longest = max(zip(found.paced_s, ordered, strict=True), key=lambda pair: pair[0])[1]
        raise UnusableData(
            f"these runs are not comparable, because one training takes different times in them ({found.told} a step); "
            f"measure {longest.path} again, or leave out what does not count"
        )
    return found


def _agree(medians_s: Sequence[float], drift: float) -> bool:
    return 0 < max(medians_s) <= min(medians_s) * exp(max(log(1 + AGREE), _Z95 * sqrt(2) * drift))
