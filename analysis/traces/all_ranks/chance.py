"""Could it be chance that one rank is named so often?

Were each of N ranks as likely to be the late one in each of m steps, then some rank would be it in k or more of them with a
probability of at most

    N * P(Binomial(m, 1/N) >= k)

A rank is called late where that is at most LEVEL. On two ranks it takes eight steps, all by one rank, or 11 of 12.
"""

from functools import cache
from itertools import count
from math import comb

LEVEL = 0.01
MIN_STEPS = 6  # also what a median needs for a 95 % interval; on many ranks two steps would be improbable enough
ENOUGH_STEPS = 12  # finds a constant straggler of 2 % of a step in 95 of 100 traces, and is enough to compare two sets


@cache
def chance(times: int, num_steps: int, num_ranks: int) -> float:
    """Return at most how likely it is that some rank is drawn in `times` or more of the steps."""
    others = num_ranks - 1
    ways = sum(comb(num_steps, own) * others ** (num_steps - own) for own in range(times, num_steps + 1))
    return min(1.0, float(num_ranks * ways / num_ranks**num_steps))


@cache
def fewest_steps(num_ranks: int) -> int:
    """Return how many steps it takes at least to call one of the ranks late."""
    return next(steps for steps in count(MIN_STEPS) if chance(steps, steps, num_ranks) <= LEVEL)
