"""Which host is slow, as its pairs tell? The model: a pair is as fast as the slower of its sender and its receiver.

    log rate(i, j) = min(sends_i, receives_j) + noise

Half of a host is judged at a time: what it sends, what it receives. A slow half is slow with every partner, a slow partner
spoils one pair of it, a slow cable or route one pair alone.

1. A half whose upper quartile lies below the median half's, by over half of `SLOW` and by what noise makes likely, is a
   candidate.
2. A pair belongs to the slower of its halves among the candidates, to nobody without one. A candidate's level is the mean
   of the pairs that belong to it, the others' rate that of the pairs which belong to nobody; what lies four deviations off is
   no part of a mean, nor of the noise unless it is more than a quarter of its pairs. This is repeated until no pair changes
   hands.
3. A candidate is dropped unless its level is below the others' by `SLOW` and by Student's t at `ERROR` over all halves
   (Bonferroni), the deviation being that of all pairs about their levels. Of several the less certain half goes, then 2 again.
4. A pair that in each of its rounds lies below its level by as much, of one pair, and by `SLOW` is a slow pair: a machine that
   was busy for a moment slows a round.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, median, variance
from typing import Literal

from scipy.special import stdtrit

SLOW = 0.05  # hosts of one kind differ by less without anything being wrong
ERROR = 0.005  # over all halves of healthy hosts; the candidates come from the same data, so 1 % as tried
_POWER = 0.95  # with which a host of the least slowness that is stated would have been named
_APART = 4.0  # deviations
_LIKELY = 1.5  # deviations below which a half is no candidate yet
_QUARTILE = 1.36  # deviation of a quartile of n normal values, times sqrt(n)
_NORMAL = 1.4826  # deviation over the median distance from the median, of normal values
_LEAST_NOISE = 1e-3  # no clock and no line tells rates better apart
_FEW = 0.25  # of a group, which single cables and routes may spoil
_BLIND = 0.25  # a test that would miss so slow a host says nothing
_ROUNDS = 20

Way = Literal["sends", "receives"]
Half = tuple[str, Way]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRate:
    """What one host sent to another, one way, in each of the rounds in which they met."""

    sender: str
    receiver: str
    rounds_bytes_per_s: tuple[float, ...]

    @property
    def halves(self) -> tuple[Half, Half]:
        return (self.sender, "sends"), (self.receiver, "receives")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHalf:
    """A host that sends or receives at a `share` of the others' rate; `low` to `high` is its 95 % interval."""

    host: str
    way: Way
    share: float
    low: float
    high: float
    num_pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowPair:
    """Two hosts that are each as fast as others with others, and not with one another, this way."""

    sender: str
    receiver: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHosts:
    """What pairs tell. `unknown` says why they tell nothing, None where they do.

    `noise` is one pair's relative deviation; a half slower by `seen_from` (a share) would have been named with 95 %. `faster`
    are the hosts of pairs that are faster than the others' rate: of another kind, or they are the healthy ones.
    """

    halves: tuple[SlowHalf, ...] = ()
    pairs: tuple[SlowPair, ...] = ()
    faster: tuple[str, ...] = ()
    num_hosts: int = 0
    noise: float = 0.0
    seen_from: float = 0.0
    others_bytes_per_s: float = 0.0
    unknown: str | None = None


def slow_hosts(pairs: Sequence[PairRate], expected: Collection[str] = ()) -> SlowHosts:
    """Name the slow hosts and the slow pairs among hosts of one kind, from each ordered pair once.

    Three hosts, each with two partners both ways, are the least that can tell; `expected` are hosts that should have some.
    """
    hosts = sorted({*expected, *(end for pair in pairs for end in (pair.sender, pair.receiver))})
    if len(hosts) < 3:
        return SlowHosts(num_hosts=len(hosts), unknown=f"{len(hosts)} hosts: which of a pair is the slow one takes a third")
    partners = Counter(half for pair in pairs for half in pair.halves)
    lone = next((host for host in hosts if min(partners[host, "sends"], partners[host, "receives"]) < 2), None)
    if lone is not None:
        return SlowHosts(num_hosts=len(hosts), unknown=f"{lone} has fewer than two partners each way")
    logs = {pair.halves: log(median(pair.rounds_bytes_per_s)) for pair in pairs}
    best = {pair.halves: log(max(pair.rounds_bytes_per_s)) for pair in pairs}
    return _answer(_tested(logs, _candidates(logs)), best, len(hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Levels in logs: the others' and each candidate's; `owners` says to whom a pair belongs. `noise` is the deviation."""

    logs: Mapping[tuple[Half, Half], float]
    others: float
    levels: Mapping[Half, float]
    owners: Mapping[tuple[Half, Half], Half | None]
    counts: Mapping[Half | None, int]
    noise: float
    freedom: int
    num_halves: int

    def deviation(self, half: Half) -> float:
        """Return the standard deviation of a candidate's distance from the others."""
        return self.noise * sqrt(1 / self.counts[half] + 1 / max(1, self.counts[None]))

    def quantile(self, tests: int) -> float:
        """Return how many deviations one of so many tests may be off at `ERROR` over all of them."""
        return _student(1 - ERROR / tests, self.freedom)

    def certainty(self, half: Half) -> float:
        """Return by how much a candidate is slower than it would have to be; below 0 it may be as fast as others."""
        below = self.others - self.levels[half]
        enough = self.quantile(self.num_halves) * self.deviation(half)
        return min(below + log(1 - SLOW), below - enough)


def _candidates(logs: Mapping[tuple[Half, Half], float]) -> set[Half]:
    of_half: dict[Half, list[float]] = {}
    for halves, value in logs.items():
        for half in halves:
            of_half.setdefault(half, []).append(value)
    upper = {half: sorted(values)[-1 - len(values) // 4] for half, values in of_half.items()}
    usual = sorted(upper.values())[len(upper) // 2]
    off = [value - min(upper[half] for half in halves) for halves, value in logs.items()]
    usually_off = median(off)
    noise = _NORMAL * median(abs(value - usually_off) for value in off)
    return {
        half
        for half, values in of_half.items()
        if upper[half] < usual - max(-log(1 - SLOW) / 2, _LIKELY * _QUARTILE * noise / sqrt(len(values)))
    }


def _tested(logs: Mapping[tuple[Half, Half], float], candidates: set[Half]) -> _Fit:
    """Drop candidates, the less certain half of those that may be healthy, until each that is left is certainly slow."""
    while True:
        fit = _fitted(logs, candidates)
        candidates = set(fit.levels)
        certainty = {half: fit.certainty(half) for half in candidates}
        unsure = sorted((half for half in candidates if certainty[half] <= 0), key=lambda half: (certainty[half], half))
        if not unsure:
            return fit
        candidates -= set(unsure[: -(-len(unsure) // 2)])


def _fitted(logs: Mapping[tuple[Half, Half], float], candidates: set[Half]) -> _Fit:
    """Share the pairs out between the candidates and the others until none changes hands."""
    levels = {half: _high_median([logs[halves] for halves in logs if half in halves]) for half in candidates}
    owners: dict[tuple[Half, Half], Half | None] = {}
    noise, others, freedom = 0.0, 0.0, 1
    for _ in range(_ROUNDS):
        before = owners
        owners = {halves: min((h for h in halves if h in levels), key=lambda h: levels[h], default=None) for halves in logs}
        groups: dict[Half | None, list[float]] = {}
        for halves, owner in owners.items():
            groups.setdefault(owner, []).append(logs[halves])
        noise, freedom = _noise(groups)
        means: dict[Half | None, float] = {owner: _mean_within(values, _APART * noise) for owner, values in groups.items()}
        others = means.pop(None, max(means.values()))
        levels = {half: mean for half, mean in means.items() if half is not None}
        if owners == before:
            break
    return _Fit(
        logs=logs,
        others=others,
        levels=levels,
        owners=owners,
        counts=Counter(owners.values()),
        noise=noise,
        freedom=freedom,
        num_halves=len({half for halves in logs for half in halves}),
    )


def _noise(groups: Mapping[Half | None, Sequence[float]]) -> tuple[float, int]:
    """Return one pair's standard deviation about its group, without those far off, and its degrees of freedom."""
    several = [(median(values), values) for values in groups.values() if len(values) > 1]
    off = [abs(value - middle) for middle, values in several for value in values]
    if len(off) <= len(several):
        return _LEAST_NOISE, 1
    freedom = len(off) - len(several)
    limit = _APART * max(_NORMAL * median(off) * sqrt(len(off) / freedom), _LEAST_NOISE)
    kept = [_without_few(values, middle, limit) for middle, values in several]
    squares = sum((len(values) - 1) * variance(values) for values in kept)
    freedom = sum(len(values) - 1 for values in kept)
    return max(_LEAST_NOISE, sqrt(squares / freedom)), freedom


def _without_few(values: Sequence[float], middle: float, limit: float) -> list[float]:
    """Leave out what lies further off than the limit, unless it is too much of the group to be anything but its noise."""
    near = [value for value in values if abs(value - middle) <= limit]
    return near if len(values) - len(near) <= _FEW * len(values) else list(values)


def _mean_within(values: Sequence[float], limit: float) -> float:
    middle = _high_median(values)
    return fmean(value for value in values if abs(value - middle) <= limit)


def _high_median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _answer(fit: _Fit, best: Mapping[tuple[Half, Half], float], num_hosts: int) -> SlowHosts:
    seen_from = _seen_from(fit)
    limit = max(-log(1 - SLOW), fit.quantile(len(fit.logs)) * fit.noise)
    fast = [halves for halves, value in fit.logs.items() if value - fit.others > limit]
    blind = seen_from > _BLIND and not fit.levels
    return SlowHosts(
        halves=tuple(sorted((_slow_half(fit, half) for half in fit.levels), key=lambda half: half.share)),
        pairs=tuple(_slow_pairs(fit, best, limit)),
        faster=tuple(sorted({host for halves in fast for host, _ in halves})),
        num_hosts=num_hosts,
        others_bytes_per_s=exp(fit.others),
        noise=fit.noise,
        seen_from=seen_from,
        unknown=f"pairs of equal hosts differ by {fit.noise:.0%}, which hides a host {seen_from:.0%} slower" if blind else None,
    )


def _seen_from(fit: _Fit) -> float:
    """Return how much slower a half with the fewest partners must be to be named in `_POWER` of runs."""
    fewest = min(Counter(half for halves in fit.logs for half in halves).values())
    deviation = fit.noise * sqrt(1 / fewest + 1 / max(1, fit.counts[None]))
    asked = max(-log(1 - SLOW), fit.quantile(fit.num_halves) * deviation)
    return 1 - exp(-asked - _student(_POWER, fit.freedom) * deviation)


def _slow_half(fit: _Fit, half: Half) -> SlowHalf:
    below, off = fit.levels[half] - fit.others, _student(0.975, fit.freedom) * fit.deviation(half)
    return SlowHalf(
        host=half[0],
        way=half[1],
        share=exp(below),
        low=exp(below - off),
        high=exp(below + off),
        num_pairs=fit.counts[half],
    )


def _slow_pairs(fit: _Fit, best: Mapping[tuple[Half, Half], float], limit: float) -> Iterator[SlowPair]:
    for halves, owner in sorted(fit.owners.items(), key=lambda owned: owned[0]):
        level = fit.others if owner is None else fit.levels[owner]
        if best[halves] < level - limit:
            yield SlowPair(sender=halves[0][0], receiver=halves[1][0], share=exp(fit.logs[halves] - level))


def _student(quantile: float, freedom: int) -> float:
    """Return Student's t; scipy.stats would take a second to load."""
    return float(stdtrit(freedom, quantile))
