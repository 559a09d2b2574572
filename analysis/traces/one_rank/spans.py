"""How much time is covered by these events, by both, by one and not the other? Exact arithmetic on int64 nanoseconds.

A set of intervals is an (n, 2) array of half-open [start, end), sorted, disjoint and not touching; `union` makes one of any
pairs. All other functions take and give such sets, so that lengths add up to the nanosecond:
|a| = |a and b| + |a without b|.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Intervals = NDArray[np.int64]
NONE: Intervals = np.empty((0, 2), dtype=np.int64)


def union(start_ns: Sequence[int] | NDArray[np.int64], end_ns: Sequence[int] | NDArray[np.int64]) -> Intervals:
    """Return what any of [start, end) covers, in any order; empty and reversed pairs cover nothing."""
    start, end = np.asarray(start_ns, dtype=np.int64), np.asarray(end_ns, dtype=np.int64)
    real = end > start
    start, end = start[real], end[real]
    if not len(start):
        return NONE
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    begins = np.concatenate([[True], start[1:] > reach[:-1]])
    ends = np.concatenate([begins[1:], [True]])
    return np.stack([start[begins], reach[ends]], axis=1)


def merged(*sets: Intervals) -> Intervals:
    """Return what any of these sets covers."""
    together = np.concatenate([NONE, *sets])
    return union(together[:, 0], together[:, 1])


def common(a: Intervals, b: Intervals) -> Intervals:
    """Return what both sets cover."""
    if not len(a) or not len(b):
        return NONE
    first = np.searchsorted(b[:, 1], a[:, 0], side="right")  # the first of b that ends behind the start
    last = np.searchsorted(b[:, 0], a[:, 1], side="left")  # the first of b that starts at the end or behind
    counts = np.maximum(last - first, 0)
    own = np.repeat(np.arange(len(a)), counts)
    other = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return np.stack([np.maximum(a[own, 0], b[other, 0]), np.minimum(a[own, 1], b[other, 1])], axis=1)


def without(a: Intervals, b: Intervals) -> Intervals:
    """Return what the first set covers and the second does not."""
    if not len(a):
        return NONE
    low, high = a[0, 0], a[-1, 1]
    return common(a, complement(b, int(low), int(high)))


def complement(a: Intervals, start_ns: int, end_ns: int) -> Intervals:
    """Return what of [start, end) the set does not cover."""
    inside = common(a, window(start_ns, end_ns))
    edges = np.concatenate([[start_ns], inside.ravel(), [end_ns]]).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def window(start_ns: int, end_ns: int) -> Intervals:
    """Return the set of one interval, or of none where it is empty."""
    return union([start_ns], [end_ns])


def length_ns(a: Intervals) -> int:
    """Return how much time the set covers."""
    return int((a[:, 1] - a[:, 0]).sum())


def covered_before_ns(times_ns: NDArray[np.int64], a: Intervals) -> NDArray[np.int64]:
    """Return how much of the time before each instant the set covers."""
    if not len(a):
        return np.zeros_like(times_ns)
    covered_ns = np.concatenate([[0], np.cumsum(a[:, 1] - a[:, 0])])
    index = np.searchsorted(a[:, 0], times_ns, side="right")
    beyond_ns = np.where(index > 0, np.maximum(a[index - 1, 1] - times_ns, 0), 0)
    return covered_ns[index] - beyond_ns


def lengths_within_ns(a: Intervals, start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how much of each [start, end) the set covers."""
    return covered_before_ns(end_ns, a) - covered_before_ns(start_ns, a)
