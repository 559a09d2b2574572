"""How much slower is a rank's share on more ranks, where no row of one rank tells? A power law of N, with a bend at the node.

The cost of a unit of work in rank seconds is u(N) = N / throughput: the step T_N for a fixed batch per rank, N T_N for a fixed
batch in all, one over the throughput per rank or over MFU. With L the largest row up to N, and P ranks on a node,

    log u(N) = log u(L) + s_in (log2 min(N, P) - log2 min(L, P)) + s_out (x(N) - x(L))
    x(N) = 0 up to P, 2 at two nodes, and 1 more for each further doubling of nodes

s_in is the growth a doubling inside a node, s_out that a doubling of nodes; the first hop counts as two, as it does for a ring
over k nodes, whose bytes are 2(k-1)/k. Each is the least-squares slope s of the rows on its side (a whole node counts for
both), not below zero, drawn towards what series have in common, s_0, the more the fewer the rows:

    s <- w s + (1 - w) s_0,   w = v/(v + noise^2/S_xx),   v = s_0^2 + s^2,   with variance v (1 - w)

so that a steep slope stays and a flat one is not trusted to stay flat. Where no row lies beyond the node s_out is s_in times
the usual ratio, 2, or that of the machine's other series: what a training loses on a node it loses more of between nodes.
Where a row does, the machine's other series tell what a first hop costs in later doublings, h in place of 2,

    h = (2 s_0 + sum of their first hops) / (s_0 + sum of their growth a later doubling)

Between two rows it is the line through them. The prior and the intervals come from published series; how far they miss a
source that they have not seen is in docs/results/extrapolation-relative.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from commprof.analysis.scaling.overhead_mix import Band

Reach = Literal["inside", "across", "beside", "hop", "pooled", "between"]
_FIRST_HOP = 2.0  # in later doublings of nodes: a ring over k of them moves 2(k-1)/k, 0 to 1 and then to 1.5
_OTHER_RUN = math.log(1.5)  # more a rank on more ranks: memory that sharding frees gave a fifth, caches and luck less
_OTHER_UNIT = math.log(100)  # less a rank: thousands taken for decimals, another unit
_ROW = 0.01  # of log u: what two measurements of the same thing differ by


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Growth of log u a doubling, and its variance."""

    value: float
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthPrior:
    """What series have in common: growth a doubling inside a node and of nodes, their ratio without a row, a row's noise."""

    inside: float
    across: float
    hop: float
    noise: float


GROWTH = GrowthPrior(inside=0.01, across=0.015, hop=2.0, noise=0.08)
GROWTH_BANDS: Mapping[Reach, Band] = {
    "inside": Band(low=-1.29, high=5.23),
    "across": Band(low=-1.21, high=3.95),
    "beside": Band(low=-1.36, high=2.96),
    "hop": Band(low=-1.0, high=5.9),
    "pooled": Band(low=-1.22, high=2.17),
    "between": Band(low=-1.5, high=1.28),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """How one series grows beyond a node: by what `factor` more than inside a doubling, and log u's growth at the first `hop`
    and a `later` doubling, both 0 where its rows do not tell them apart."""

    factor: float
    hop: float
    later: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """By what factor others of a machine grow more a doubling of nodes than inside: their number, sum and sum of squares.

    Of those with rows on one, two and more nodes also the sums of log u's growth at the first hop and a `later` doubling.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    hops: float = 0.0
    later: float = 0.0

    def plus(self, told: "Beyond", times: int = 1) -> "Pool":
        """Return the pool with what one series tells, or with `times` -1 without it."""
        return Pool(
            count=self.count + times,
            total=self.total + times * told.factor,
            squares=self.squares + times * told.factor**2,
            hops=self.hops + times * told.hop,
            later=self.later + times * told.later,
        )

    def first_hop(self, prior: GrowthPrior) -> float:
        """Return what the first hop costs in later doublings, one more series being as is usual."""
        return (_FIRST_HOP * prior.across + self.hops) / (prior.across + self.later)

    def across(self, inside: Slope, prior: GrowthPrior) -> Slope:
        """Return the growth beyond a node by their mean factor, the prior's counting as one more, and how they scatter."""
        mean = (prior.hop + self.total) / (1 + self.count)
        scatter = max(self.squares - 2 * mean * self.total + self.count * mean**2, 0.0)
        variance = (prior.hop**2 + scatter) / (1 + self.count)
        return Slope(value=mean * inside.value, variance=max(variance * inside.value**2, _ROW**2))


ALONE = Pool()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """log u at one N, the unit of its interval, and where N lies among the rows."""

    log_cost: float
    unit: float
    reach: Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """log u of the rows by N, and how it grows beyond them; `crossed` where a row lies beyond a node, else `pooled` series
    of the machine, if any, tell what that costs."""

    rows: Mapping[int, float]
    ranks_per_node: int
    inside: Slope
    across: Slope
    crossed: bool
    pooled: int
    first_hop: float = _FIRST_HOP

    def at(self, world_size: int) -> Cost:
        """Return the cost on as many ranks as the smallest row has, or more."""
        below = max(n for n in self.rows if n <= world_size)
        if above := [n for n in self.rows if n >= world_size]:
            return self._between(below, world_size, min(above))
        inner, outer = self._doublings(below, world_size)
        log_cost = self.rows[below] + self.inside.value * inner + self.across.value * outer
        unit = math.sqrt(_ROW**2 + inner**2 * self.inside.variance + outer**2 * self.across.variance)
        return Cost(log_cost=log_cost, unit=unit, reach=self._reach(world_size))

    @property
    def hop(self) -> float:
        """Return what two nodes cost over one, as a share of the cost."""
        return math.expm1(self.first_hop * self.across.value)

    @property
    def apart(self) -> tuple[int, int] | None:
        """Return two neighbouring rows between which a rank gains or loses more than more ranks explain, None without such."""
        grown = {(a, b): self.rows[b] - self.rows[a] for a, b in pairwise(self.rows)}
        return next((pair for pair, by in grown.items() if not -_OTHER_RUN <= by <= _OTHER_UNIT), None)

    def carries(self, world_size: int) -> bool:
        """Tell whether the growth inside a node is carried beyond its largest row there."""
        below = max(n for n in self.rows if n <= world_size)
        return max(self.rows) < world_size and self._doublings(below, world_size)[0] > 0

    def _doublings(self, before: int, after: int) -> tuple[float, float]:
        node = self.ranks_per_node
        outer = [_beyond(n, node, self.first_hop) for n in (before, after)]
        return math.log2(min(after, node) / min(before, node)), outer[1] - outer[0]

    def _reach(self, world_size: int) -> Reach:
        if world_size <= self.ranks_per_node:
            return "inside"
        if self.crossed:
            return "across" if math.isclose(self.first_hop, _FIRST_HOP) else "beside"
        return "pooled" if self.pooled else "hop"

    def _between(self, below: int, world_size: int, above: int) -> Cost:
        if below == above:
            return Cost(log_cost=self.rows[below], unit=_ROW, reach="between")
        slope = (self.rows[above] - self.rows[below]) / math.log2(above / below)
        before, after = math.log2(world_size / below), math.log2(above / world_size)
        unit = math.hypot(_ROW, min(before, after) * math.hypot(slope, GROWTH.inside))
        return Cost(log_cost=self.rows[below] + slope * before, unit=unit, reach="between")


def growth(costs: Mapping[int, float], ranks_per_node: int, prior: GrowthPrior = GROWTH, machine: Pool = ALONE) -> Growth:
    """Return how log u grows from costs (any unit) by N; `machine` is what its other series have beyond a node."""
    rows = {n: math.log(costs[n]) for n in sorted(costs)}
    inner = [n for n in rows if n <= ranks_per_node]
    inside = _inside(rows, ranks_per_node, prior)
    crossed = max(rows) > ranks_per_node
    across = machine.across(inside, prior)
    first_hop = machine.first_hop(prior) if crossed and min(rows) <= ranks_per_node else _FIRST_HOP
    if crossed:
        outer = _outer(rows, ranks_per_node, first_hop)
        if inner and inner[-1] < ranks_per_node:  # the whole node, as the rows inside have it
            outer.append((0.0, rows[inner[-1]] + inside.value * math.log2(ranks_per_node / inner[-1])))
        across = _drawn(outer, prior.across, prior.noise)
    return Growth(
        rows=rows, ranks_per_node=ranks_per_node, inside=inside, across=across, crossed=crossed, pooled=machine.count,
        first_hop=first_hop,
    )  # fmt: skip


def told_beyond(costs: Mapping[int, float], ranks_per_node: int, prior: GrowthPrior = GROWTH) -> Beyond | None:
    """Return how a series grows beyond a node; None where its rows do not tell."""
    rows = {n: math.log(cost) for n, cost in costs.items()}
    outer = _outer(rows, ranks_per_node)
    if len(outer) < 2:
        return None
    hop, later = _bend(rows, ranks_per_node)
    return Beyond(factor=_least_squares(outer)[0] / _inside(rows, ranks_per_node, prior).value, hop=hop, later=later)


def _bend(rows: Mapping[int, float], ranks_per_node: int) -> tuple[float, float]:
    """Return log u's growth from one node to two and a doubling from there on, 0 where rows of both are not there."""
    one, two, most = ranks_per_node, 2 * ranks_per_node, max(rows)
    if one not in rows or two not in rows or most == two:
        return 0.0, 0.0
    return max(rows[two] - rows[one], 0.0), max((rows[most] - rows[two]) / math.log2(most / two), 0.0)


def _inside(rows: Mapping[int, float], ranks_per_node: int, prior: GrowthPrior) -> Slope:
    return _drawn([(math.log2(n), row) for n, row in rows.items() if n <= ranks_per_node], prior.inside, prior.noise)


def _outer(rows: Mapping[int, float], ranks_per_node: int, first_hop: float = _FIRST_HOP) -> list[tuple[float, float]]:
    return [(_beyond(n, ranks_per_node, first_hop), row) for n, row in rows.items() if n >= ranks_per_node]


def _beyond(world_size: int, ranks_per_node: int, first_hop: float) -> float:
    """Return the doublings of nodes, the first counted as what it costs."""
    doublings = max(math.log2(world_size / ranks_per_node), 0.0)
    return first_hop * min(doublings, 1.0) + max(doublings - 1, 0.0)


def _drawn(points: Sequence[tuple[float, float]], expected: float, noise: float) -> Slope:
    """Return the slope of the points, drawn towards the expected one."""
    if len(points) < 2:
        return Slope(value=expected, variance=expected**2)
    found, s_xx = _least_squares(points)
    variance = expected**2 + found**2
    weight = variance / (variance + noise**2 / s_xx)
    return Slope(value=weight * found + (1 - weight) * expected, variance=variance * (1 - weight))


def _least_squares(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of y over x, not below zero, and the sum of squares of x about its mean."""
    xs, ys = np.array(points).T
    off = xs - xs.mean()
    s_xx = float(off @ off)
    return max(float(off @ ys) / s_xx, 0.0), s_xx
