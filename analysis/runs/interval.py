"""How well is a number known? The range in which it lies."""

from dataclasses import dataclass

from commprof.commbench.records.quantities import Ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap interval: 90 % for predictions and advice, 95 % for fits."""

    low: Ratio
    high: Ratio
