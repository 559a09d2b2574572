"""The order found is held against all orders of up to 8 ranks, and against orders that are best on paper."""

from functools import lru_cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from commprof.analysis.wire.ring_order import Pairs, best_ring, measured_pairs, pairs_of, ring_s
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.types import RankInfo
from tests.factory import MIB

GB = 1e9


@lru_cache
def all_orders(n: int) -> NDArray[np.int64]:
    return np.array([(0, *rest) for rest in permutations(range(1, n))])


def best_of_all_s(pairs: Pairs, message_bytes: float) -> float:
    return float(ring_s(pairs, all_orders(len(pairs.hosts)), message_bytes).min())


@st.composite
def any_pairs(draw: st.DrawFn) -> Pairs:
    """Return pairs of any bandwidths and delays; or few kinds of them, ranks on hosts, a slow host."""
    n = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.integers(1, 4))
    rates = 10 ** rng.uniform(8, 10, kinds) if draw(st.booleans()) else 10 ** rng.uniform(8, 10, n * n)
    bandwidths = rng.choice(rates, (n, n))
    if draw(st.booleans()):
        slow = draw(st.integers(0, n - 1))
        bandwidths[slow] /= 4
        bandwidths[:, slow] /= 4
    hosts = list(range(n)) if draw(st.booleans()) else [int(host) for host in rng.integers(0, max(1, n // 2), n)]
    delays = rng.uniform(0, 1e-3, (n, n)) if draw(st.booleans()) else np.zeros((n, n))
    return pairs_of(bandwidths.tolist(), delays.tolist(), hosts)


@settings(deadline=None, max_examples=40)
@given(any_pairs(), st.sampled_from([1024, MIB, 64 * MIB]))
def test_no_order_of_all_is_more_than_2_percent_faster(pairs: Pairs, message_bytes: int) -> None:
    found = best_ring(pairs, message_bytes)
    assert sorted(found.ranks) == list(range(len(pairs.hosts)))
    assert found.ranks[0] == 0
    assert found.ring_s <= 1.02 * best_of_all_s(pairs, message_bytes)
    assert found.ring_s <= found.rank_order_s
    order = np.array([found.ranks])
    assert found.ring_s == pytest.approx(float(ring_s(pairs, order, message_bytes)[0]))


def test_ranks_dealt_out_to_two_hosts_are_put_host_after_host() -> None:
    """Ranks 0, 2, 4, 6 on one host; by rank each host sends four times into its line of 1 GB/s, in blocks once."""
    hosts = [rank % 2 for rank in range(8)]
    bandwidths = [[10 * GB if one == other else GB for other in hosts] for one in hosts]
    found = best_ring(pairs_of(bandwidths, np.zeros((8, 8)).tolist(), hosts), 8 * MIB)
    assert found.rank_order_s == pytest.approx(2 * 7 / 8 * 8 * MIB * 4 / GB)
    assert found.ring_s == pytest.approx(2 * 7 / 8 * 8 * MIB / GB)
    assert found.gain == pytest.approx(0.75)
    named = [hosts[rank] for rank in found.ranks]
    assert sum(here != there for here, there in zip(named, [*named[1:], named[0]], strict=True)) == 2


def test_a_slow_host_is_as_slow_wherever_it_stands_and_rank_order_stays() -> None:
    slow = [[0.1 * GB if 2 in (one, other) else GB for other in range(6)] for one in range(6)]
    found = best_ring(pairs_of(slow, np.zeros((6, 6)).tolist(), range(6)), MIB)
    assert found.ranks == (0, 1, 2, 3, 4, 5)
    assert found.gain == 0


def test_a_ring_hidden_among_slow_pairs_is_found_on_24_ranks() -> None:
    """One ring of 1 GB/s through all ranks; every other pair has 0.1."""
    rng = np.random.default_rng(5)
    ring = rng.permutation(24)
    bandwidths = np.full((24, 24), 0.1 * GB)
    bandwidths[ring, np.roll(ring, -1)] = GB
    found = best_ring(pairs_of(bandwidths.tolist(), np.zeros((24, 24)).tolist(), range(24)), MIB)
    assert found.ring_s == pytest.approx(2 * 23 / 24 * MIB / GB)


def test_pairs_measured_both_ways_as_one_give_the_delay_and_bandwidth_of_their_line() -> None:
    ranks = [RankInfo(rank=r, local_rank=0, hostname=f"node{r % 2}", device_name="cpu") for r in range(4)]
    links = [
        LinkMeasurement(
            kind="send_recv",
            source=f"rank{one}",
            target=f"rank{other}",
            message_bytes=size,
            samples_s=((one + other) * 1e-6 + size / GB,),
            timer="fake",
        )
        for one in range(4)
        for other in range(one)
        for size in (1024, MIB)
    ]
    pairs = measured_pairs(links, ranks)
    assert pairs.hosts == (0, 1, 0, 1)
    assert pairs.delay_s[3, 1] == pairs.delay_s[1, 3] == pytest.approx(4e-6)
    assert pairs.seconds_per_byte[0, 2] == pytest.approx(1 / GB)
    with pytest.raises(UnusableData, match="ranks 0 and 3 were not measured as a pair"):
        measured_pairs([link for link in links if (link.source, link.target) != ("rank3", "rank0")], ranks)


@pytest.mark.parametrize(
    ("bandwidths", "hosts", "said"),
    [
        ([[GB]], [0], "2 to 64 ranks, and these are 1"),
        ([[GB, GB]], [0, 1], "2 x 2, and these are 1 x 2"),
        ([[GB, 0.0], [GB, GB]], [0, 1], "above 0 B/s"),
        ([[GB, float("nan")], [GB, GB]], [0, 1], "above 0 B/s"),
    ],
)
def test_what_is_no_matrix_of_pairs_is_refused(bandwidths: list[list[float]], hosts: list[int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        pairs_of(bandwidths, [[0.0, 0.0], [0.0, 0.0]], hosts)
