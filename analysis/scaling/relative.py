"""What do N ranks do, told relative to the smallest row, whatever its N? `power_law`, with its limits, for one series.

Speedup is counted from the smallest row, b ranks: S = (N/b) u(b)/u(N). Series of one machine tell each other how many ranks a
node has, and how the cost grows beyond it.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from commprof.analysis.scaling.from_one_rank import MEASURE, SUPERLINEAR
from commprof.analysis.scaling.power_law import ALONE, GROWTH_BANDS, Growth, Pool, growth, told_beyond
from commprof.analysis.scaling.results import Extrapolated, withheld
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import ScalingKind

_USUAL_NODES = (8, 4, 6, 2)  # ranks, where nothing tells but that rows fill their nodes
_MOST_GROWTH = 1_000_000  # of a rank's cost, beyond which rows are noise or mistyped
_MOST_LOG = 600.0  # of an interval's end, which a float still holds
_HARDLY = math.log(1.1)  # more in all on twice the ranks or beyond, as where a throughput is one rank's
_TRIED = 5  # doublings from the largest row to the farthest of published series


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """One series' growth over N, counted from its smallest row, `base` ranks."""

    series: Series
    scaling: ScalingKind
    base: int
    growth: Growth

    def predicted(self, world_size: int) -> Extrapolated:
        """Say what N ranks do, or why the answer is withheld."""
        measured = self.series.values.get(world_size)
        if reason := self._boundary(world_size):
            return withheld(world_size, measured, (*self._doubts(), f"withheld ({reason}); {MEASURE}"))
        cost, single = self.growth.at(world_size), self.series.cost(self.base, self.scaling)
        band = GROWTH_BANDS[cost.reach]
        logs = [cost.log_cost + z * cost.unit for z in (0.0, band.low, band.high)]
        if logs[0] - math.log(single) > math.log(_MOST_GROWTH):
            steep = f"withheld (its rows grow so steeply that it would be over {_MOST_GROWTH:,} times the smallest row's cost)"
            return withheld(world_size, measured, (*self._doubts(), f"{steep}; {MEASURE}"))
        costs = [math.exp(min(each, _MOST_LOG)) for each in logs]
        value, *ends = (self.series.at_cost(each, world_size, self.scaling) for each in costs)
        growing = costs[0] / single
        return Extrapolated(
            world_size=world_size,
            value=value,
            low=min(ends),
            high=max(ends),
            speedup=world_size / self.base / growing,
            efficiency=1 / growing,
            overhead=(growing - 1) * (1 if self.scaling == "weak" else self.base / world_size),
            guess=False,
            notes=(*self._doubts(), *self._rests_on(world_size)),
            measured=measured,
            relative_error=None if measured is None else value / measured - 1,
        )

    def _boundary(self, world_size: int) -> str | None:
        if apart := self.growth.apart:
            few, many = apart
            mend = f"leave one out (--anchors){self._or_strong}"
            return f"the rows of {few} and {many} ranks do not compare: more than their number differs; {mend}"
        smallest = min(self.growth.rows)
        if world_size < smallest:
            return f"below the smallest row, {smallest} ranks: costs of fewer ranks do not follow from more"
        if self.growth.carries(world_size) and self.series.interconnect != "nvlink":
            link = "PCIe" if self.series.interconnect == "pcie" else "an unnamed link (--interconnect nvlink, if it is)"
            return f"no row of 1 rank and {link} inside the node: too few published series to say how far it misses"
        return None

    def _doubts(self) -> list[str]:
        rows = self.growth.rows
        faster = [
            f"{b} ranks do {math.expm1(rows[a] - rows[b]):.0%} more each than {a}: is one of the rows wrong{self._or_strong}?"
            for a, b in pairwise(rows)
            if rows[b] < rows[a] - SUPERLINEAR
        ]
        return faster + self._of_one_rank()

    @property
    def _or_strong(self) -> str:
        return (
            ", or the batch in all fixed (--scaling strong)"
            if (self.series.measure, self.scaling) == ("step_s", "weak")
            else ""
        )

    def _of_one_rank(self) -> list[str]:
        few, many = min(self.growth.rows), max(self.growth.rows)
        gained = self.growth.rows[few] - self.growth.rows[many] + math.log(many / few)
        if self.series.measure != "throughput" or many < 2 * few or gained > _HARDLY:
            return []
        return [f"{many} ranks do hardly more in all than {few}: if each row is one rank's, name it throughput_per_gpu"]

    def _rests_on(self, world_size: int) -> list[str]:
        node, notes = self.growth.ranks_per_node, []
        if self.series.ranks_per_node is None:
            notes.append(f"ranks on a node not given: taken as {node} (--gpus-per-node)")
        if world_size > node and world_size % node:
            notes.append(f"{world_size} ranks leave a node of {node} partly empty: told as between whole nodes")
        if (beyond := math.log2(world_size / max(self.growth.rows))) > _TRIED:
            notes.append(f"{beyond:.1f} doublings beyond the largest row; the intervals were tried up to {_TRIED}")
        if self.growth.at(world_size).reach == "beside":
            notes.append(
                f"a first hop costs {self.growth.first_hop:.1f} later doublings of nodes on this machine, as others tell"
            )
        if world_size > node and not self.growth.crossed:
            who = f"{self.growth.pooled} other series of this machine and " if self.growth.pooled else ""
            lost = f"{self.growth.hop:.1%} more a rank on two nodes, from {who}published ones"
            notes.append(f"no row beyond a node of {node}: {lost}; add one")
        return notes


def relative(
    series: Series, rows: Sequence[int], scaling: ScalingKind, machine: Pool = ALONE, base: int | None = None
) -> Relative:
    """Return the growth that these rows of a series have; `machine` is how its other series grow beyond a node."""
    return Relative(
        series=series,
        scaling=scaling,
        base=base or min(rows),
        growth=growth({n: series.cost(n, scaling) for n in rows}, node_of(series), machine=machine),
    )


def node_of(series: Series) -> int:
    """Return the ranks on a node, where nothing tells the usual number that all rows beyond it fill."""
    filled = (node for node in _USUAL_NODES if all(n <= node or n % node == 0 for n in series.values))
    return series.ranks_per_node or next(filled, _USUAL_NODES[0])


def with_nodes(table: Sequence[Series]) -> list[Series]:
    """Return the series, those that do not tell their ranks on a node with those that the machine's others tell."""
    told: dict[str, int] = {}
    for one in table:
        if one.machine and one.ranks_per_node is not None:
            told[one.machine] = min(one.ranks_per_node, told.get(one.machine, one.ranks_per_node))
    return [replace(one, ranks_per_node=one.ranks_per_node or told.get(one.machine)) for one in table]


def others_of(table: Sequence[Series], scaling: ScalingKind) -> list[Pool]:
    """Return for each series how the others of its machine, with as many ranks on a node, grow beyond a node.

    What crosses the boundary depends on how a model is split: with tensor parallelism 2 it is half of the gradients. So those
    help each other that are split alike.
    """
    pools: dict[tuple[str, int, str], Pool] = defaultdict(lambda: ALONE)
    own = [None if one.fault or not one.machine else told_beyond(_costs(one, scaling), node_of(one)) for one in table]
    keys = [(one.machine, node_of(one), one.split) for one in table]
    for key, told in zip(keys, own, strict=True):
        if told is not None:
            pools[key] = pools[key].plus(told)
    return [pools[key] if told is None else pools[key].plus(told, -1) for key, told in zip(keys, own, strict=True)]


def _costs(series: Series, scaling: ScalingKind) -> dict[int, float]:
    return {n: series.cost(n, scaling) for n in series.values if n > 1}
