"""How long do ranks wait for each other before the collectives of a sharded step, beyond being as slow as the slowest of them?

A collective that blocks lets no rank go on before the last has come, and a sharded step has one at every unit. Between two of
them the n ranks of a group compute a stretch x each, with means alike and what is random their own, and

    a stretch takes E[max of n],  a step the sum of these

of which a single rank's step has the sum of E[x], and the slowest whole step some more: late is what is left. It is the mean of
the maximum that adds up over dozens of stretches, not its median: a hiccup in one stretch of twenty is in no median, and with n
ranks every step has n times as many. What a step has in common, the pace of all of it, holds nobody up and is taken out.

Of ranks that share c < n places to compute, a waiting one leaves its own to others: they end as if all work were shared out
evenly, but for the time in which fewer than c have any left. With x_(n) the longest of n stretches, in seconds of a place,

    late of a stretch = sum over m < c of (1 - m/c) E[x_(n-m+1) - x_(n-m)]

which with c = n is E[max] - E[x]. Where collectives do not block, the next unit's gather was asked for ahead: who is late by
less than a unit's computation holds up nobody, and late is 0.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.strategies.program import Program

Floats = NDArray[np.float64]


def waiting_s(program: Program, samples_s: Floats, *, num_shards: int, world_size: int, at_once: int) -> float:
    """Return what the stretches of a step are longer than one rank's, for their ends, in seconds.

    `samples_s` [steps, spans] are one rank's, `at_once` is how many ranks compute at the same time. A gather waits for the
    ranks of its shards, a reduction for those of all copies.
    """
    steps_s = samples_s.sum(axis=1)
    even_s = samples_s * (np.median(steps_s) / np.maximum(steps_s, 1e-12))[:, None]
    late_s = 0.0
    for ends_with, stretch_s in _stretches(program, even_s):
        group = world_size if ends_with == "reduce" else num_shards
        places = max(1, round(group * at_once / world_size))
        late_s += places / group * stretch_late_s(stretch_s, group, places)
    return late_s


def stretch_late_s(samples_s: Floats, ranks: int, places: int) -> float:
    """Return how much longer than evenly shared out a stretch is until the last of `ranks` is done, `places` at a time."""
    if places >= ranks:
        return expected_order_s(samples_s, ranks, ranks) - float(samples_s.mean())
    longest_s = [expected_order_s(samples_s, ranks - m, ranks) for m in range(places)]
    gaps_s = [longer - shorter for longer, shorter in pairwise(longest_s)]
    return float(sum((1 - m / places) * gap_s for m, gap_s in enumerate(gaps_s, 1)))


def expected_order_s(samples_s: Floats, place: int, ranks: int) -> float:
    """Return the mean of the `place`-th shortest of `ranks` draws from samples, by the weights of order statistics.

    The j-th of n is at most x where j or more of them are: sum over i >= j of C(n, i) F(x)^i (1 - F(x))^(n-i) (David and
    Nagaraja, Order Statistics, 2003).
    """
    edge = np.linspace(0.0, 1.0, len(samples_s) + 1)
    below = sum(comb(ranks, i) * edge**i * (1 - edge) ** (ranks - i) for i in range(place, ranks + 1))
    return float(np.diff(below) @ np.sort(samples_s))


def _stretches(program: Program, samples_s: Floats) -> Sequence[tuple[str, Floats]]:
    """Return the seconds between collectives in every step [steps], with the kind of the collective that ends each."""
    found: list[tuple[str, Floats]] = []
    open_s = np.zeros(len(samples_s))
    for operation, span, share in zip(program.operations, program.span, program.share, strict=True):
        if operation.what in ("gather", "reduce", "wait"):
            found.append((operation.what, open_s))
            open_s = np.zeros(len(samples_s))
        elif span >= 0:
            open_s = open_s + share * samples_s[:, span]
    if not found:
        return []
    (first, begun_s), *others = found
    return [(first, open_s + begun_s), *others]  # what follows the last collective is held up by the next step's first
