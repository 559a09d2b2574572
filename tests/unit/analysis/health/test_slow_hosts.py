"""Who is slow, from pairs: known answers without noise, and the stated level with it."""

from dataclasses import replace
from random import Random
from statistics import median

import pytest

from commprof.analysis.health.slow_hosts import PairRate, SlowHosts, slow_hosts
from tests.slow_pairs import LINE, made_pairs


def named(found: SlowHosts) -> dict[tuple[str, str], float]:
    return {(half.host, half.way): round(half.share, 3) for half in found.halves}


@pytest.mark.parametrize("num_hosts", [3, 4, 5, 8, 16, 64])
def test_without_noise_a_slow_host_is_named_with_its_way_and_its_share(num_hosts: int) -> None:
    """One in three hosts that is slow both ways has a part in four of six pairs, and is still the slow one."""
    assert named(slow_hosts(made_pairs(num_hosts))) == {}
    assert named(slow_hosts(made_pairs(num_hosts, sends={1: 0.9}))) == {("host1", "sends"): 0.9}
    assert named(slow_hosts(made_pairs(num_hosts, receives={2: 0.5}))) == {("host2", "receives"): 0.5}
    both = slow_hosts(made_pairs(num_hosts, sends={0: 0.6}, receives={0: 0.7}))
    assert named(both) == {("host0", "sends"): 0.6, ("host0", "receives"): 0.7}
    assert both.others_bytes_per_s == pytest.approx(LINE)
    assert both.unknown is None


def test_two_slow_hosts_that_meet_are_both_named_with_their_own_shares() -> None:
    """host0 and host1 meet in the schedule of four and of eight; the slower one owns that pair."""
    for num_hosts in (4, 8):
        slow = {0: 0.5, 1: 0.8}
        pairs = made_pairs(num_hosts, sends=slow, receives=slow)
        assert {("host0", "host1"), ("host1", "host0")} <= {(pair.sender, pair.receiver) for pair in pairs}
        ways = [(f"host{host}", way, share) for host, share in slow.items() for way in ("sends", "receives")]
        assert named(slow_hosts(pairs)) == {(host, way): share for host, way, share in ways}


def test_a_slow_sender_and_a_slow_receiver_are_two_hosts() -> None:
    found = slow_hosts(made_pairs(8, sends={2: 0.7}, receives={5: 0.6}, noise=0.01, seed=3))
    assert set(named(found)) == {("host2", "sends"), ("host5", "receives")}


def test_a_slow_cable_accuses_neither_of_its_hosts() -> None:
    found = slow_hosts(made_pairs(8, routes={(0, 1): 0.5, (1, 0): 0.5}, noise=0.01))
    assert named(found) == {}
    assert {(pair.sender, pair.receiver, round(pair.share, 1)) for pair in found.pairs} == {
        ("host0", "host1", 0.5),
        ("host1", "host0", 0.5),
    }
    pairs = made_pairs(8, routes={(0, 1): 0.5}, noise=0.01)
    assert [(pair.sender, pair.receiver) for pair in slow_hosts(pairs).pairs] == [("host0", "host1")]
    now_and_then = [replace(pair, rounds_bytes_per_s=(*pair.rounds_bytes_per_s * 2, LINE)) for pair in pairs]
    assert slow_hosts(now_and_then).pairs == (), "in one round the route was as fast as others"


def test_most_hosts_being_slow_is_not_told_as_health() -> None:
    """Five of eight are slow both ways: the three fast ones show among themselves alone."""
    slow = dict.fromkeys(range(5), 0.5)
    found = slow_hosts(made_pairs(8, sends=slow, receives=slow, noise=0.01))
    assert set(found.faster) == {"host5", "host6", "host7"}


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([], "0 hosts"),
        (made_pairs(2), "2 hosts: which of a pair is the slow one takes a third"),
        ([pair for pair in made_pairs(4) if pair.sender != "host3"], "host3 has fewer than two partners each way"),
        (made_pairs(4, noise=0.3), "pairs of equal hosts differ by"),
    ],
)
def test_what_the_pairs_cannot_tell_is_not_said(pairs: list[PairRate], why: str) -> None:
    found = slow_hosts(pairs)
    assert why in (found.unknown or "")
    assert (found.halves, found.pairs) == ((), ())


def test_the_order_of_pairs_and_the_unit_do_not_matter() -> None:
    pairs = made_pairs(8, sends={1: 0.8, 6: 0.7}, noise=0.02, seed=5)
    shuffled = Random(1).sample(pairs, len(pairs))
    scaled = [replace(pair, rounds_bytes_per_s=tuple(8 * rate for rate in pair.rounds_bytes_per_s)) for pair in pairs]
    assert named(slow_hosts(shuffled)) == named(slow_hosts(pairs)) == named(slow_hosts(scaled))


def _senders(num_hosts: int, count: int, rng: Random) -> dict[int, float]:
    return {host: 1 - rng.uniform(0.1, 0.5) for host in rng.sample(range(num_hosts), count)}


@pytest.mark.parametrize("num_hosts", [8, 32])
@pytest.mark.parametrize("both_ways", [False, True])
def test_one_or_two_slow_hosts_are_named_through_three_per_cent_of_noise(num_hosts: int, both_ways: bool) -> None:
    """40 seeds: right in 38 at least, a healthy host accused in 2 at most."""
    right = accused = 0
    for seed in range(40):
        slow = _senders(num_hosts, 1 + seed % 2, Random(seed))
        pairs = made_pairs(num_hosts, sends=slow, receives=slow if both_ways else None, noise=0.03, seed=1000 + seed)
        hosts = {host for host, _ in named(slow_hosts(pairs))}
        true = {f"host{host}" for host in slow}
        right += hosts == true
        accused += bool(hosts - true)
    assert right >= 38
    assert accused <= 2


def test_of_three_hosts_one_on_half_a_line_is_never_called_healthy() -> None:
    """Its four pairs are quiet, for they take twice as long; the equal ones differ by 7 %: their noise, and no outlier."""
    seconds = {(0, 1): 44.2, (1, 0): 44.0, (1, 2): 44.2, (2, 1): 44.2, (0, 2): 22.1, (2, 0): 20.6}
    pairs = [
        PairRate(sender=f"host{sender}", receiver=f"host{receiver}", rounds_bytes_per_s=(LINE / each_s,))
        for (sender, receiver), each_s in seconds.items()
    ]
    assert {host for host, _ in named(slow_hosts(pairs))} == {"host1"}
    for seed in range(100):
        found = slow_hosts(made_pairs(3, sends={1: 0.5}, receives={1: 0.5}, noise=0.03, seed=seed))
        assert {host for host, _ in named(found)} == {"host1"} or found.unknown is not None


def test_healthy_hosts_are_left_alone_at_every_noise() -> None:
    """The level is about 1 % of runs: at most 5 of 240."""
    accused = sum(
        bool(slow_hosts(made_pairs(num_hosts, noise=noise, seed=seed)).halves)
        for num_hosts in (4, 8, 16)
        for noise in (0.02, 0.05)
        for seed in range(40)
    )
    assert accused <= 5


def test_what_would_have_been_seen_grows_with_the_noise_and_is_seen() -> None:
    quiet, loud = (
        median(slow_hosts(made_pairs(8, noise=noise, seed=seed)).seen_from for seed in range(20)) for noise in (0.01, 0.05)
    )
    assert 0.05 < quiet < 0.065
    assert 0.09 < loud < 0.15
    for noise, seen_from in ((0.01, quiet), (0.05, loud)):
        made = [made_pairs(8, sends={3: 1 - seen_from}, noise=noise, seed=100 + seed) for seed in range(100)]
        assert sum(("host3", "sends") in named(slow_hosts(pairs)) for pairs in made) >= 88
