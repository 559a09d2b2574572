"""Which hosts are paired when? Rounds in which every host has one partner, as many as the logarithm of the hosts asks for.

The circle method: all hosts but one turn by a place each round, so that n hosts meet each other once in n - 1 rounds (n if n is
odd, each then resting once). Any first k of them give each host k partners, and a slow partner spoils one measurement of k.
"""

from collections.abc import Sequence
from math import ceil, log2

_MORE_ROUNDS = 3  # partners beyond log2(n): six of eight hosts, so that two slow ones leave four others to tell

Matching = tuple[tuple[int, int], ...]
"""Pairs at one time, each (sender, receiver); nobody is in two of them."""


def num_rounds(num_hosts: int) -> int:
    """Return ceil(log2 n) + 3, at most as many as there are: n hosts take O(n log n) measurements."""
    every = num_hosts - 1 + num_hosts % 2
    return min(every, ceil(log2(num_hosts)) + _MORE_ROUNDS) if num_hosts > 1 else 0


def pairings(num_hosts: int) -> list[Matching]:
    """Return the rounds, each host by its number, in one direction; the other direction is each pair turned round."""
    seats = num_hosts + num_hosts % 2  # the last seat of an odd number is empty: who meets it rests
    turning = seats - 1
    found = []
    for turn in range(num_rounds(num_hosts)):
        circle = [seats - 1, *((turn + place) % turning for place in range(turning))]
        pairs = [(circle[0], circle[1]), *((circle[1 + place], circle[-place]) for place in range(1, seats // 2))]
        found.append(tuple(pair for pair in pairs if max(pair) < num_hosts))
    return found


def matchings(hosts: Sequence[Sequence[int]]) -> list[Matching]:
    """Return what ranks do at one time, one step after the other, from the ranks of each host.

    The first rank of each host goes through all rounds in both directions, then the second: cards that they do not share are
    told apart, and a card that they do share has one of them at a time.
    """
    found: list[Matching] = []
    for place in range(max(map(len, hosts), default=0)):
        ranks = [own[place] for own in hosts if len(own) > place]
        for pairs in pairings(len(ranks)):
            found.append(tuple((ranks[one], ranks[other]) for one, other in pairs))
            found.append(tuple((ranks[other], ranks[one]) for one, other in pairs))
    return found
