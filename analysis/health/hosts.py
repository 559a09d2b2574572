"""Is one of the hosts slow? What the pairs of a links run say of each host's line (slow_hosts.py), and what to do next.

Ranks of one place on their hosts are judged together, so that hosts with several cards have each card held against its like.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from commprof.analysis.health.evidence import Evidence, some
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.slow_hosts import SLOW, PairRate, SlowHalf, SlowHosts, Way, slow_hosts
from commprof.commbench.records.links import PairMeasurement
from commprof.commbench.records.types import RunInfo
from commprof.commbench.units import format_rate, printable

_NEXT: Mapping[tuple[Way, ...], str] = {
    ("sends",): "look at what else it sends, at limits on that, at its card's errors (ethtool -S)",
    ("receives",): "look at what else it receives, at its card's drops (ethtool -S), at its cable and port",
    ("receives", "sends"): "look at its card's speed (commprof env), cable and port",
}


def hosts(evidence: Evidence) -> Iterator[Verdict]:
    """Yield whether a host is slow, and note what is slow between two hosts alone; nothing without pairs of hosts."""
    run = evidence.run
    if not run.pairs:
        return
    found = judged_by_place(run.pairs, run.info)
    yield _slow_or_not(found, several=len(found) > 1)
    if pairs := [pair for told in found for pair in told.pairs]:
        ways = [f"{pair.sender} to {pair.receiver} at {pair.share:.2f}" for pair in sorted(pairs, key=lambda pair: pair.share)]
        message = f"{some(ways)} of the rate that either has with others: look at the cable or the route between them"
        yield Verdict(name="routes", ok=True, note=True, message=message)
    if faster := sorted({host for told in found for host in told.faster}):
        message = f"some pairs of {some(faster)} are faster than the rest: a nearer route, or most hosts are slow"
        yield Verdict(name="fast pairs", ok=True, note=True, message=message)


def judged_by_place(pairs: Sequence[PairMeasurement], info: RunInfo) -> list[SlowHosts]:
    """Return what the pairs tell of the ranks of each place on a host, from the medians of their rounds at the largest size."""
    largest = max(pair.message_bytes for pair in pairs)
    rounds: dict[tuple[int, int], list[float]] = {}
    for pair in pairs:
        if pair.message_bytes == largest:
            rounds.setdefault((pair.sender, pair.receiver), []).append(largest / median(pair.samples_s))
    names, places = _names(info), {rank: place for own in info.ranks_of_hosts.values() for place, rank in enumerate(own)}
    found: dict[int, list[PairRate]] = {}
    for (sender, receiver), rates in rounds.items():
        rate = PairRate(sender=names[sender], receiver=names[receiver], rounds_bytes_per_s=tuple(rates))
        found.setdefault(places[sender], []).append(rate)
    return [
        slow_hosts(found[place], expected=[names[rank] for rank, own in places.items() if own == place])
        for place in sorted(found)
    ]


def _names(info: RunInfo) -> Mapping[int, str]:
    """Name each rank's host, and the rank where the host has several."""
    return {
        rank: printable(host) + (f" (rank {rank})" if len(ranks) > 1 else "")
        for host, ranks in info.ranks_of_hosts.items()
        for rank in ranks
    }


def _slow_or_not(found: Sequence[SlowHosts], *, several: bool) -> Verdict:
    halves = [half for told in found for half in told.halves]
    unknown = [told.unknown for told in found if told.unknown is not None]
    if halves:
        worst = min(half.share for half in halves)
        message = "; ".join(_accusation([half for half in halves if half.host == host]) for host in _in_order(halves))
        message += f"; {_others(found)}"
        return Verdict(name="hosts", ok=False, measured=worst, limit=1 - SLOW, unit="1", message=message)
    if unknown:
        return Verdict(name="hosts", ok=None, message=f"cannot be told, because {unknown[0]}")
    seen_from, noise = max(told.seen_from for told in found), max(told.noise for told in found)
    message = (
        f"none of {max(told.num_hosts for told in found)} is slow: one that sends or receives {seen_from:.0%} below the others "
        f"would have been named in 95 % of runs; pairs vary by {noise:.1%}{', each card by itself' if several else ''}"
    )
    return Verdict(name="hosts", ok=True, limit=1 - SLOW, unit="1", message=message)


def _in_order(halves: Sequence[SlowHalf]) -> list[str]:
    """Return the hosts that are slow, the slowest first."""
    return list(dict.fromkeys(half.host for half in sorted(halves, key=lambda half: half.share)))


def _accusation(halves: Sequence[SlowHalf]) -> str:
    ways = sorted(halves, key=lambda half: half.way, reverse=True)
    said = [f"{half.way} at {half.share:.2f} ({half.low:.2f} to {half.high:.2f})" for half in ways]
    next_step = _NEXT[tuple(sorted(half.way for half in halves))]
    return f"{halves[0].host} {' and '.join(said)} of the others' rate: {next_step}"


def _others(found: Sequence[SlowHosts]) -> str:
    rates = [told.others_bytes_per_s for told in found if told.unknown is None]
    low, high = format_rate(min(rates)), format_rate(max(rates))
    return f"the others reach {low if low == high else f'{low} to {high}'}; start the job without it to see what that costs"
