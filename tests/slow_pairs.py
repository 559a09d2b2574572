"""Pairs of hosts whose rates are made up: a host's line each way, a cable's, and noise of which the seed decides."""

from collections.abc import Mapping
from math import exp
from random import Random

from commprof.analysis.health.slow_hosts import PairRate
from commprof.commbench.links.schedule import pairings

LINE = 1e8  # B/s


def made_pairs(
    num_hosts: int,
    *,
    sends: Mapping[int, float] | None = None,
    receives: Mapping[int, float] | None = None,
    routes: Mapping[tuple[int, int], float] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> list[PairRate]:
    """Return both directions of each scheduled pair; shares of the line for hosts and ordered pairs that are slow."""
    rng, out, into, way = Random(seed), sends or {}, receives or {}, routes or {}
    ordered = [pair for pairs in pairings(num_hosts) for one, other in pairs for pair in ((one, other), (other, one))]
    return [
        PairRate(
            sender=f"host{i}",
            receiver=f"host{j}",
            rounds_bytes_per_s=(
                LINE * min(out.get(i, 1.0), into.get(j, 1.0), way.get((i, j), 1.0)) * exp(rng.gauss(0.0, noise)),
            ),
        )
        for i, j in ordered
    ]
