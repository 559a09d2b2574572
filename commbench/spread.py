"""How far do repeated measurements spread, and how well is their median known?

Order statistics only: times of collectives have long tails, so means and standard deviations describe nobody.
"""

from collections.abc import Sequence
from math import floor, sqrt

_Z95 = 1.96  # two-sided 95 % of the normal distribution


def quantile(samples: Sequence[float], q: float) -> float:
    """Return the q-quantile (0 to 1) with linear interpolation between order statistics, as numpy's default does."""
    assert samples and 0 <= q <= 1
    ordered = sorted(samples)
    position = q * (len(ordered) - 1)
    below = floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Return the distribution-free 95 % interval of the median: two order statistics (sign test, normal approximation).

    The number of samples below the true median is binomial(n, 1/2), so the ranks n/2 -+ 1.96 sqrt(n)/2 enclose it. With
    fewer than six samples no pair of them does so with 95 %, and the interval is the whole range.
    """
    assert samples
    ordered = sorted(samples)
    count = len(ordered)
    low = max(0, floor(count / 2 - _Z95 * sqrt(count) / 2))
    return ordered[low], ordered[count - 1 - low]


def relative_half_width(samples: Sequence[float]) -> float:
    """Return how far the median may be off: half its 95 % interval over the median; infinite with under six samples."""
    if len(samples) < 6:
        return float("inf")
    low, high = median_interval(samples)
    middle = quantile(samples, 0.5)
    return (high - low) / 2 / middle if middle > 0 else 0.0
