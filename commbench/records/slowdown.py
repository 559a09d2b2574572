"""How much longer is a step under the profiler than one that counts? Read off the marks of the recorded steps.

    slowdown = median step traced / median step that counts - 1

The first step of each stretch under the profiler starts it and is left out, and so are steps that still warm up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Self

from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.units import format_seconds

_MIN_TRACED, _MIN_COUNTED = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """Medians in seconds of the traced steps and of those that count, and how many there were of each."""

    traced_s: float
    counted_s: float
    num_traced: int
    num_counted: int

    @classmethod
    def of(cls, ranks: Sequence[Sequence[StepMeasurement]]) -> Self | None:
        """Compare the steps of some ranks, each rank's in order; None where there are too few to compare."""
        traced = [step.step_s for steps in ranks for before, step in pairwise(steps) if before.profiled and _is_traced(step)]
        counted = [step.step_s for steps in ranks for step in steps if step.counts]
        if len(traced) < _MIN_TRACED or len(counted) < _MIN_COUNTED:
            return None
        return cls(traced_s=median(traced), counted_s=median(counted), num_traced=len(traced), num_counted=len(counted))

    @property
    def ratio(self) -> float:
        """A traced step over one that counts."""
        return self.traced_s / self.counted_s

    def __str__(self) -> str:
        change = self.ratio - 1
        longer = f"{abs(change):.1%} {'longer' if change > 0 else 'shorter'}"
        return (
            f"under the profiler a step took {format_seconds(self.traced_s)} (median of {self.num_traced}), {longer} than "
            f"{format_seconds(self.counted_s)} (median of the {self.num_counted} that count)"
        )


def _is_traced(step: StepMeasurement) -> bool:
    return step.profiled and not step.warmup
