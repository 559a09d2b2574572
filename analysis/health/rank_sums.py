"""How likely are times as far apart as these where nothing has changed? Mann and Whitney's U, of many tests at once.

U counts the pairs in which the first sample's value is the larger one, a tie as half. Without ties and with up to 8 values in
one sample its distribution is counted out; else it is taken as normal, of mean n1 n2 / 2 and variance
n1 n2 / 12 ((n + 1) - sum(t^3 - t) / (n (n - 1))) for ties of t values, and half a pair is taken off (Mann and Whitney 1947).
scipy.stats has both; to load it takes a third of what a verb takes to start.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import comb, erfc, sqrt

_COUNTED_OUT = 8


def chance_of_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided chance that samples of one distribution differ in rank at least as much as these."""
    n1, n2 = len(first), len(second)
    above = sum((a > b) + 0.5 * (a == b) for a in first for b in second)
    u = max(above, n1 * n2 - above)
    ties = [count for count in Counter((*first, *second)).values() if count > 1]
    if not ties and min(n1, n2) <= _COUNTED_OUT:
        counts = _ways(n1, n2)
        return min(1.0, 2 * sum(counts[int(u) :]) / comb(n1 + n2, n1))
    n = n1 + n2
    variance = n1 * n2 / 12 * (n + 1 - sum(t**3 - t for t in ties) / (n * (n - 1)))
    return min(1.0, erfc((u - n1 * n2 / 2 - 0.5) / sqrt(2 * variance))) if variance > 0 else 1.0


@cache
def _ways(n1: int, n2: int) -> tuple[int, ...]:
    """Return in how many of the orders of n1 and n2 different values U is 0, 1, ... n1 n2.

    The largest value is one of the first sample, above all n2 of the second, or one of the second, above none.
    """
    if n1 == 0 or n2 == 0:
        return (1,)
    from_first, from_second = _ways(n1 - 1, n2), _ways(n1, n2 - 1)
    ways = [0] * (n1 * n2 + 1)
    for u, count in enumerate(from_first):
        ways[u + n2] += count
    for u, count in enumerate(from_second):
        ways[u] += count
    return tuple(ways)


def false_discovery_levels(chances: Sequence[float]) -> list[float]:
    """Return for each test the share of false alarms among all that stand out as much (Benjamini and Hochberg 1995)."""
    order = sorted(range(len(chances)), key=lambda i: chances[i], reverse=True)
    raised = (chances[i] * len(chances) / (len(chances) - place) for place, i in enumerate(order))
    levels = [0.0] * len(chances)
    for i, level in zip(order, accumulate(raised, min), strict=True):
        levels[i] = min(1.0, level)
    return levels
