"""What do series of one machine tell each other? How many ranks a node has, and what the hop to a second node costs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from commprof.analysis.scaling.power_law import ALONE, Pool, factor_beyond
from commprof.analysis.scaling.relative import node_of
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import ScalingKind


def with_nodes(table: Sequence[Series]) -> list[Series]:
    """Return the series, those that do not tell their ranks on a node with those that the machine's others tell."""
    told: dict[str, int] = {}
    for one in table:
        if one.machine and one.ranks_per_node is not None:
            told[one.machine] = min(one.ranks_per_node, told.get(one.machine, one.ranks_per_node))
    return [replace(one, ranks_per_node=one.ranks_per_node or told.get(one.machine)) for one in table]


def others_of(table: Sequence[Series], scaling: ScalingKind) -> list[Pool]:
    """Return for each series how the others of its machine, with as many ranks on a node, grow beyond a node."""
    pools: dict[tuple[str, int], Pool] = defaultdict(lambda: ALONE)
    factors = [None if one.fault or not one.machine else _factor(one, scaling) for one in table]
    keys = [(one.machine, node_of(one)) for one in table]
    for key, factor in zip(keys, factors, strict=True):
        if factor is not None:
            pools[key] = pools[key].plus(factor)
    return [pools[key] if factor is None else pools[key].plus(factor, -1) for key, factor in zip(keys, factors, strict=True)]


def _factor(series: Series, scaling: ScalingKind) -> float | None:
    costs = {n: series.cost(n, scaling) for n in series.values if n > 1}
    return factor_beyond(costs, node_of(series))
