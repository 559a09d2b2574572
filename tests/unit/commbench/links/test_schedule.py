"""Rounds of pairs: nobody twice at a time, nobody met twice, as many as O(n log n) allows, both directions."""

from collections import Counter
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.links.schedule import matchings, num_rounds, pairings


@given(st.integers(2, 200))
def test_every_host_has_one_partner_at_a_time_and_each_partner_once(num_hosts: int) -> None:
    rounds = pairings(num_hosts)
    assert len(rounds) == num_rounds(num_hosts) <= ceil(log2(num_hosts)) + 3
    for pairs in rounds:
        ends = [end for pair in pairs for end in pair]
        assert len(pairs) == num_hosts // 2
        assert len(set(ends)) == len(ends)
        assert set(ends) <= set(range(num_hosts))
    met = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(set(met)) == len(met)


def test_eight_hosts_have_six_partners_and_four_meet_all_others() -> None:
    assert {num: num_rounds(num) for num in (1, 2, 3, 4, 5, 8, 16, 64)} == {1: 0, 2: 1, 3: 3, 4: 3, 5: 5, 8: 6, 16: 7, 64: 9}
    partners = Counter(end for pairs in pairings(8) for pair in pairs for end in pair)
    assert set(partners.values()) == {6}


def test_an_odd_host_rests_in_turn_and_has_two_partners_at_least() -> None:
    partners = Counter(end for pairs in pairings(3) for pair in pairs for end in pair)
    assert partners == {0: 2, 1: 2, 2: 2}


def test_ranks_go_by_their_place_on_their_hosts_in_both_directions() -> None:
    assert matchings([[0, 1], [2, 3]]) == [((2, 0),), ((0, 2),), ((3, 1),), ((1, 3),)]
    assert matchings([[0, 1, 2]]) == []
    assert [set(pairs) for pairs in matchings([[0, 1], [2]])] == [{(2, 0)}, {(0, 2)}], "rank 1 has no like on the other host"
