"""How does a collective's time grow with its ranks?

A form says how often the ranks take turns and what share of the message the busiest link carries, on p ranks:

    t_p(S) = c + m_p alpha + w_p S/B

    op                                     ring m_p, w_p              tree m_p, w_p    NVLS m_p, w_p
    all_reduce                             2(p-1), 2(p-1)/p           2 log2 p, 2      1, (p+1)/p
    reduce_scatter, all_gather,
    all_to_all, gather, scatter            p-1, (p-1)/p
    broadcast, reduce                      p-1, 1                     log2 p, 1
    send_recv                              1, 1

(Rings: Patarasuk and Yuan 2009. Trees: Thakur, Rabenseifner and Gropp 2005, pipelined. NVLS: the switch adds up what every GPU
sends once, and each GPU spreads its p-th of the sum.) Seconds, bytes, bytes per second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np

from commprof.analysis.runs.interval import Interval
from commprof.analysis.wire.cost import curve_points
from commprof.analysis.wire.line import fit_line
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a collective's messages and its share of the wire grow with the ranks."""

    name: str
    messages: Callable[[int], float]
    wire: Callable[[int], float]
    formula: str


_SHARED = Form(name="a ring", messages=lambda p: p - 1, wire=lambda p: (p - 1) / p, formula="(p-1) alpha + (p-1)/p S/B")
_CHAIN = Form(name="a ring", messages=lambda p: p - 1, wire=lambda p: 1, formula="(p-1) alpha + S/B")
_ONE_WAY_TREE = Form(name="a tree", messages=log2, wire=lambda p: 1, formula="log2 p alpha + S/B")
RING = Form(
    name="a ring", messages=lambda p: 2 * (p - 1), wire=lambda p: 2 * (p - 1) / p, formula="2(p-1) alpha + 2(p-1)/p S/B"
)
TREE = Form(name="a tree", messages=lambda p: 2 * log2(p), wire=lambda p: 2, formula="2 log2 p alpha + 2 S/B")
NVLS = Form(name="NVLS", messages=lambda p: 1, wire=lambda p: (p + 1) / p, formula="alpha + (p+1)/p S/B")

FORMS: dict[str, tuple[Form, ...]] = {
    "all_reduce": (RING, TREE, NVLS),
    "broadcast": (_CHAIN, _ONE_WAY_TREE),
    "reduce": (_CHAIN, _ONE_WAY_TREE),
    "send_recv": (Form(name="a pair", messages=lambda p: 1, wire=lambda p: 1, formula="alpha + S/B"),),
} | dict.fromkeys(("reduce_scatter", "all_gather", "all_to_all", "gather", "scatter"), (_SHARED,))
RINGS = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce")  # which go from rank to rank
assert {*FORMS, "barrier"} == set(OPERATIONS)  # a barrier has no size, so no curve


def ring_s(cost: CostModel, message_bytes: float, world_size: int) -> float:
    """Return the ring's time at another world size, with the message latency and link bandwidth of the fitted one."""
    alpha_s = cost.latency_s / (2 * (cost.world_size - 1))
    wire_bytes = 2 * (world_size - 1) / world_size * message_bytes
    return 2 * (world_size - 1) * alpha_s + wire_bytes / cost.busbw_bytes_per_s


def broadcast_s(cost: CostModel, message_bytes: float, *, in_rounds: bool) -> float:
    """Return the time of a broadcast over the wire of this all-reduce, estimated from its message latency and link bandwidth.

    gloo passes the message on in ceil(log2 p) rounds (binomial tree); NCCL's ring does it in pieces, one message behind
    the other: (p-1) alpha + S/B.
    """
    alpha_s, rate = cost.latency_s / (2 * (cost.world_size - 1)), cost.busbw_bytes_per_s
    if in_rounds:
        return ceil(log2(cost.world_size)) * (alpha_s + message_bytes / rate)
    return (cost.world_size - 1) * alpha_s + message_bytes / rate


def with_times(
    cost: CostModel, times: Sequence[float], *, world_size: int, carried_from: tuple[int, ...], form: str
) -> CostModel:
    """Return the curve with other times, and its line fitted again; the intervals keep their relative width."""
    moved = replace(cost, median_s=tuple(times), world_size=world_size, carried_from=carried_from, form=form)
    sizes, kept = np.array(curve_points(moved)).T
    latency_s, bandwidth = fit_line(sizes, kept)
    return replace(
        moved,
        latency_s=latency_s,
        latency_interval_s=_scaled(cost.latency_interval_s, latency_s / cost.latency_s if cost.latency_s else 1.0),
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_interval=_scaled(cost.bandwidth_interval, bandwidth / cost.bandwidth_bytes_per_s),
        verdict=f"carried over from {' and '.join(map(str, carried_from))} ranks",
    )


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(low=interval.low * factor, high=interval.high * factor)


def changes_of_course(cost: CostModel) -> list[str]:
    """Say where a curve changes its course, as it may at other sizes on other ranks."""
    places = ", ".join(f"{format_bytes(switch.message_bytes)} (x{switch.factor:.2f})" for switch in cost.switches)
    return (
        [f"the curve on {cost.world_size} ranks changes its course at {places}; other ranks may at other sizes"]
        if places
        else []
    )
