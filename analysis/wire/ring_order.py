"""In which order should the ranks of a ring stand?

Every rank of a ring sends to the next, all at once, so the ring goes at the pace of the slowest hop; hops that leave, or
enter, one host share its line. An all-reduce of S bytes on n ranks takes 2(n-1) steps of S/n bytes:

    t = 2(n-1)/n (sum of the hops' delays + S max over hosts of max(sum of s_ij leaving, sum of s_ij entering))

with s_ij the seconds a byte takes from i to j, alone; a hop inside a host counts by itself. The best of all (n-1)! orders is
looked for by exchange: two ranks change places, a stretch is turned round, a stretch of up to three is put elsewhere,
whichever helps most, until nothing helps; then it begins again, in turn from the best with two stretches exchanged and from
any order. Seconds, bytes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.wire.line import fit_line
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.types import RankInfo

Floats = NDArray[np.float64]
Orders = NDArray[np.int64]

MOST_RANKS = 64  # the exchanges of one round grow with the square of them, and so do the pairs to measure
_LONGEST_MOVED = 3
_ROUNDS_TIMES_RANKS = 400  # shuffles: 50 on 8 ranks, 6 on 64
_FEWEST_ROUNDS = 6
_TIE = 1e-3  # of the hops that are not the slowest, so that between equals the search goes on to what has fewer slow hops


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What lies between each two ranks, [from, to]; the diagonals are not read. `hosts` names the host of each rank."""

    seconds_per_byte: Floats
    delay_s: Floats
    hosts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise BadInput for one rank or too many, shapes that do not fit, and what is no time."""
        n = len(self.hosts)
        if not 2 <= n <= MOST_RANKS:
            raise BadInput(f"a ring's order is looked for among 2 to {MOST_RANKS} ranks, and these are {n}")
        for name, matrix in (("bandwidths", self.seconds_per_byte), ("delays", self.delay_s)):
            if matrix.shape != (n, n):
                raise BadInput(f"{name} of {n} ranks are {n} x {n}, and these are {' x '.join(map(str, matrix.shape))}")
            off = matrix[~np.eye(n, dtype=bool)]
            if not (np.isfinite(off).all() and (off >= 0).all()):
                raise BadInput(f"{name} between ranks are finite and not below 0; measure the pairs again")


@dataclass(frozen=True, slots=True, kw_only=True)
class RingOrder:
    """The best order found, beginning with rank 0, and what a ring in that order takes beside one in rank order."""

    ranks: tuple[int, ...]
    ring_s: float
    rank_order_s: float

    @property
    def gain(self) -> float:
        """The share of the time that the order saves over rank order, 0 where none is better."""
        return 1 - self.ring_s / self.rank_order_s if self.rank_order_s else 0.0


def best_ring(pairs: Pairs, message_bytes: float, *, seed: int = 0) -> RingOrder:
    """Return the order of the fastest ring all-reduce of a message; rank order where no other is faster."""
    n = len(pairs.hosts)
    rng = np.random.default_rng(seed)
    as_ranked = np.arange(n)
    in_rank_order_s = float(ring_s(pairs, as_ranked[None], message_bytes)[0])

    def judged(order: Orders) -> float:
        return float(_judged(pairs, order[None], message_bytes)[0])

    found = min((_exchanged(pairs, start, message_bytes) for start in _starts(pairs, message_bytes)), key=judged)
    for turn in range(max(_FEWEST_ROUNDS, _ROUNDS_TIMES_RANKS // n)):
        start = _shuffled(found, rng) if turn % 2 else rng.permutation(n)
        found = min(found, _exchanged(pairs, start, message_bytes), key=judged)
    found_s = float(ring_s(pairs, found[None], message_bytes)[0])
    better = found_s < in_rank_order_s * (1 - 1e-9)
    best, best_s = (found, found_s) if better else (as_ranked, in_rank_order_s)
    zero = int(np.flatnonzero(best == 0)[0])
    return RingOrder(ranks=tuple(int(rank) for rank in np.roll(best, -zero)), ring_s=best_s, rank_order_s=in_rank_order_s)


def ring_s(pairs: Pairs, orders: Orders, message_bytes: float) -> Floats:
    """Return the seconds of a ring all-reduce in each of these orders [orders, ranks]."""
    n = orders.shape[1]
    following = np.roll(orders, -1, axis=1)
    delays = pairs.delay_s[orders, following].sum(axis=1)
    return np.asarray(2 * (n - 1) / n * (delays + message_bytes * _pace(pairs, orders, following)))


def _pace(pairs: Pairs, orders: Orders, following: Orders) -> Floats:
    """Return the seconds that the slowest hop, or the busiest host's line, needs for a byte."""
    hops = pairs.seconds_per_byte[orders, following]
    hosts = np.array(pairs.hosts)
    sender, receiver = hosts[orders], hosts[following]
    crossing = np.where(sender != receiver, hops, 0.0)
    slowest = hops.max(axis=1)
    for host in (host for host, count in Counter(pairs.hosts).items() if count > 1):
        for end in (sender, receiver):
            slowest = np.maximum(slowest, np.where(end == host, crossing, 0.0).sum(axis=1))
    return np.asarray(slowest)


def _judged(pairs: Pairs, orders: Orders, message_bytes: float) -> Floats:
    hops = pairs.seconds_per_byte[orders, np.roll(orders, -1, axis=1)]
    return np.asarray(ring_s(pairs, orders, message_bytes) + _TIE * message_bytes * hops.mean(axis=1))


def _starts(pairs: Pairs, message_bytes: float) -> Iterator[Orders]:
    """Yield rank order, host after host, and the order that the shortest hops give when each is taken that closes no ring."""
    n = len(pairs.hosts)
    yield np.arange(n)
    yield np.argsort(np.array(pairs.hosts), kind="stable")
    yield _by_shortest_hops(pairs.delay_s + message_bytes * pairs.seconds_per_byte)


def _by_shortest_hops(hop_s: Floats) -> Orders:
    n = len(hop_s)
    after: dict[int, int] = {}
    path = list(range(n))  # which path a rank belongs to
    for flat in np.argsort(hop_s, axis=None, kind="stable"):
        one, other = divmod(int(flat), n)
        if one not in after and other not in after.values() and path[one] != path[other]:
            after[one] = other
            joined = path[other]
            path = [path[one] if each == joined else each for each in path]
    (head,) = set(range(n)) - set(after.values())
    order = [head]
    while order[-1] in after:
        order.append(after[order[-1]])
    return np.array(order)


def _exchanged(pairs: Pairs, order: Orders, message_bytes: float) -> Orders:
    """Follow the exchange that helps most until none does."""
    moves = _moves(len(order))
    best_s = _judged(pairs, order[None], message_bytes)[0]
    while True:
        orders = order[moves]
        judged = _judged(pairs, orders, message_bytes)
        nearest = int(judged.argmin())
        if judged[nearest] >= best_s * (1 - 1e-12):
            return order
        order, best_s = orders[nearest], judged[nearest]


@lru_cache(maxsize=8)
def _moves(n: int) -> Orders:
    """Return every exchange as the places that ranks are taken from [exchanges, ranks]."""
    return np.array(list(dict.fromkeys(_each_move(n))))


def _each_move(n: int) -> Iterator[tuple[int, ...]]:
    places = list(range(n))
    yield tuple(places)
    for one, other in combinations(places, 2):
        swapped = places.copy()
        swapped[one], swapped[other] = other, one
        yield tuple(swapped)
        yield (*places[:one], *reversed(places[one : other + 1]), *places[other + 1 :])
    for length in range(1, min(_LONGEST_MOVED, n - 1) + 1):
        for first in range(n - length + 1):
            rest = places[:first] + places[first + length :]
            for to in range(len(rest) + 1):
                yield (*rest[:to], *places[first : first + length], *rest[to:])


def _shuffled(order: Orders, rng: np.random.Generator) -> Orders:
    """Cut the ring at three places and put the two stretches between them the other way about (a double bridge)."""
    n = len(order)
    if n < 4:
        return order
    first, second, third = sorted(rng.choice(np.arange(1, n), size=3, replace=False))
    return np.concatenate([order[:first], order[second:third], order[first:second], order[third:]])


def pairs_of(
    bandwidth_bytes_per_s: Sequence[Sequence[float]], delay_s: Sequence[Sequence[float]], hosts: Sequence[int]
) -> Pairs:
    """Return pairs from bandwidths [from, to]; raise BadInput where one off the diagonal is not above 0."""
    bandwidths = np.array(bandwidth_bytes_per_s, dtype=float)
    if bandwidths.ndim == 2:
        np.fill_diagonal(bandwidths, np.inf)
    if not (bandwidths > 0).all():
        raise BadInput("bandwidths between ranks are above 0 B/s; measure the pairs again")
    return Pairs(seconds_per_byte=1 / bandwidths, delay_s=np.array(delay_s, dtype=float), hosts=tuple(hosts))


def measured_pairs(links: Sequence[LinkMeasurement], ranks: Sequence[RankInfo]) -> Pairs:
    """Return what `commprof links` found between its ranks; each pair's delay and bandwidth are its line's over the sizes.

    A message there and back was timed, so one direction stands for both. Raises UnusableData where a pair was not measured.
    """
    samples: dict[tuple[int, int], dict[int, float]] = {}
    for link in links:
        if link.kind == "send_recv":
            ends = int(link.source.removeprefix("rank")), int(link.target.removeprefix("rank"))
            samples.setdefault(ends, {})[link.message_bytes] = link.median_s
    n = len(ranks)
    delay_s, per_byte = np.zeros((n, n)), np.zeros((n, n))
    for one, other in permutations(range(n), 2):
        times = samples.get((one, other)) or samples.get((other, one))
        if times is None:
            raise UnusableData(f"ranks {one} and {other} were not measured as a pair, so no order of the ring is told")
        delay_s[one, other], bandwidth = fit_line(np.array(list(times), dtype=float), np.array(list(times.values())))
        per_byte[one, other] = 1 / bandwidth
    names = list(dict.fromkeys(rank.hostname for rank in ranks))
    hosts = tuple(names.index(rank.hostname) for rank in sorted(ranks, key=lambda rank: rank.rank))
    return Pairs(seconds_per_byte=per_byte, delay_s=delay_s, hosts=hosts)
