"""What does a collective cost on a number of ranks that was not measured?

A form says how often the ranks take turns and what share of the message the busiest link carries, on p ranks:

    t_p(S) = c + m_p alpha + w_p S/B

    op                                     ring m_p, w_p              tree m_p, w_p    NVLS m_p, w_p
    all_reduce                             2(p-1), 2(p-1)/p           2 log2 p, 2      1, (p+1)/p
    reduce_scatter, all_gather,
    all_to_all, gather, scatter            p-1, (p-1)/p
    broadcast, reduce                      p-1, 1                     log2 p, 1
    send_recv                              1, 1

(Rings: Patarasuk and Yuan 2009. Trees: Thakur, Rabenseifner and Gropp 2005, pipelined. NVLS: the switch adds up what every GPU
sends once, and each GPU spreads its p-th of the sum.) alpha and B come from the line of one curve; with several, c too, from
all of them by non-negative least squares on relative error. Then the measured curve nearest in p is taken along:

    t_q(S) = t_p(S) (c + m_q alpha + w_q S/B) / (c + m_p alpha + w_p S/B)

With two curves or more, the form is the ring's unless the others come twice as near to the largest by another one.
Several nodes are a ring of nodes around what a node does by itself (g ranks a node, k nodes):

    t_kg(S) = t_g(S) + [t_jg(S) - t_g(S)] (2(k-1) alpha' + 2(k-1)/k S/B') / (2(j-1) alpha' + 2(j-1)/j S/B')

Nothing is carried into a network that no curve has crossed. Where an algorithm is known to take over in between, that is said:
busbw rises there, and the figure is an upper bound of the time. Seconds, bytes, bytes per second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log2

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from commprof.analysis.runs.interval import Interval
from commprof.analysis.wire.cost import cost_s, curve_points, fit_line
from commprof.analysis.wire.curve_shape import MATTERS_BYTES
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_bytes

Floats = NDArray[np.float64]

_BUCKET_BYTES = 25 * 2**20  # DDP's
_DIFFERS = 0.05
_CLEARLY = 2.0  # another form has to be this much nearer than the ring, which is what both NCCL and gloo run for long messages
# From how many GPUs of a node NCCL 2.27 takes NVLS for an all-reduce (stas00/ml-engineering, network/README.md: measured on
# H200 and B200; H100 has H200's switch).
_NVLS_FROM = {"H100": 5, "H200": 5, "B200": 6}
_NVLS_GAIN = "1.14 to 1.29 times the ring's rate on 5 to 8 H200, 1.15 to 1.23 on 6 to 8 B200"


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

_FORMS: dict[str, tuple[Form, ...]] = {
    "all_reduce": (RING, TREE, NVLS),
    "broadcast": (_CHAIN, _ONE_WAY_TREE),
    "reduce": (_CHAIN, _ONE_WAY_TREE),
    "send_recv": (Form(name="a pair", messages=lambda p: 1, wire=lambda p: 1, formula="alpha + S/B"),),
} | dict.fromkeys(("reduce_scatter", "all_gather", "all_to_all", "gather", "scatter"), (_SHARED,))
assert {*_FORMS, "barrier"} == set(OPERATIONS)  # a barrier has no size, so no curve


def carry_cost(
    costs: Sequence[CostModel], world_size: int, *, num_nodes: int | None = None, device_name: str = ""
) -> CostModel:
    """Return the cost of one collective on `world_size` ranks, carried over from the curves of other world sizes.

    `num_nodes` is how many nodes those ranks are on: unless said, one where the nearest curve is one node's, else with as many
    ranks a node as there. `doubts` of the result say what speaks against it. Raises UnusableData without a curve, and where
    the ranks would cross a network that no curve with as many ranks a node has crossed.
    """
    assert len({(cost.op, cost.dtype) for cost in costs}) < 2, "the caller carries one collective at a time"
    if not costs:
        raise UnusableData("no curve to carry over; run commprof bench first")
    nodes = num_nodes if num_nodes is not None else _likely_nodes(_nearest(costs, world_size), world_size)
    if world_size % nodes:
        raise UnusableData(f"{world_size} ranks do not divide over {nodes} nodes")
    if nodes not in (1, world_size):
        return _over_nodes(costs, world_size, nodes)
    flat = sorted((c for c in costs if _nodes(c) == (1 if nodes == 1 else c.world_size)), key=lambda cost: cost.world_size)
    if not flat:
        where = "on one node" if nodes == 1 else "with one rank a node"
        raise UnusableData(f"{world_size} ranks {where}: no such curve was measured; run commprof bench there")
    return _by_form(flat, world_size, _nvls_from(costs[0].op, device_name) if nodes == 1 else None)


def _by_form(costs: list[CostModel], world_size: int, nvls_from: int | None) -> CostModel:
    """Carry along the form that the curves obey; curves from the other side of a known switch are left out or doubted."""
    doubts = []
    if nvls_from is not None:
        beside = [cost for cost in costs if (cost.world_size >= nvls_from) == (world_size >= nvls_from)]
        if not beside:
            doubts.append(
                f"from {nvls_from} GPUs of this kind in a node NCCL takes NVLS instead of the ring ({_NVLS_GAIN}); no curve is "
                f"from the side of {world_size} ranks, so what is carried over is another algorithm"
            )
        costs = beside or costs
    nearest = _nearest(costs, world_size)
    forms = _candidates(costs, nvls_from)
    errors = {form.name: _check(costs, form) for form in forms} if len(costs) > 1 else {}
    form = min(forms, key=lambda form: errors.get(form.name, 0.0) * (1 if form is forms[0] else _CLEARLY))
    carried = _along(form, costs, nearest, world_size)
    if errors:
        before, last = costs[-2].world_size, costs[-1].world_size
        doubts.append(
            f"taken from {before} to {last} ranks, this form is off by {errors[form.name]:.0%} in the median, long messages"
        )
    else:
        doubts.append("one world size was measured, so nothing tests the form")
    others = {other.name: _along(other, costs, nearest, world_size) for other in _FORMS[nearest.op] if other is not form}
    doubts += _other_forms(carried, {name: other for name, other in others.items() if name != NVLS.name or NVLS in forms})
    return replace(carried, doubts=(*doubts, *_switching(nearest)))


def _candidates(costs: Sequence[CostModel], nvls_from: int | None) -> tuple[Form, ...]:
    """Return the forms that these curves may obey: what is known of the machine, else what several curves can tell."""
    forms = _FORMS[costs[0].op]
    if nvls_from is None:
        return forms if len(costs) > 1 else forms[:1]
    return (NVLS,) if costs[0].world_size >= nvls_from else (RING, TREE)


def _along(form: Form, costs: Sequence[CostModel], nearest: CostModel, world_size: int) -> CostModel:
    """Take the nearest curve along a form."""
    weights = _weights(costs, form)
    times = [
        time * _form_s(weights, form, size, world_size) / _form_s(weights, form, size, nearest.world_size)
        for size, time in zip(nearest.message_bytes, nearest.median_s, strict=True)
    ]
    names = tuple(cost.world_size for cost in costs)
    carried = _with_times(nearest, times, world_size=world_size, carried_from=names, form=f"{form.name}, {form.formula}")
    return replace(carried, num_nodes=world_size if _nodes(nearest) > 1 else nearest.num_nodes)


def _weights(costs: Sequence[CostModel], form: Form) -> Floats:
    """Return c and alpha in seconds and 1/B in seconds per byte."""
    if len(costs) == 1:
        (cost,) = costs
        p = cost.world_size
        return np.array([0.0, cost.latency_s / form.messages(p), 1 / (cost.bandwidth_bytes_per_s * form.wire(p))])
    rows, times = [], []
    for cost in costs:
        for size, time in curve_points(cost):
            rows.append((1.0, form.messages(cost.world_size), form.wire(cost.world_size) * size))
            times.append(time)
    relative = np.array(rows) / np.array(times)[:, None]
    scale = relative.max(axis=0)  # seconds and seconds per byte are nine orders of magnitude apart
    weights, _ = nnls(relative / scale, np.ones(len(times)))
    return np.asarray(weights / scale)


def _form_s(weights: Floats, form: Form, message_bytes: float, world_size: int) -> float:
    return float(weights @ (1.0, form.messages(world_size), form.wire(world_size) * message_bytes))


def _check(costs: Sequence[CostModel], form: Form) -> float:
    """Predict the largest world size's curve from the smaller ones; return the median relative error from 256 KiB up."""
    *smaller, largest = costs
    carried = _along(form, smaller, smaller[-1], largest.world_size)
    first, last = carried.message_bytes[0], carried.message_bytes[-1]
    points = [(size, time) for size, time in curve_points(largest) if first <= size <= last]
    if not points:
        raise UnusableData(
            f"the curves of {smaller[-1].world_size} and {largest.world_size} ranks share no size; sweep the same"
        )
    long = [(size, time) for size, time in points if size >= MATTERS_BYTES] or points
    return float(np.median([abs(cost_s(carried, size) / time - 1) for size, time in long]))


def _over_nodes(costs: Sequence[CostModel], world_size: int, nodes: int) -> CostModel:
    """Carry what the network adds to a node's own time along the ring of nodes."""
    per_node = world_size // nodes
    wide = [cost for cost in costs if _nodes(cost) > 1 and cost.world_size == per_node * _nodes(cost)]
    if not wide:
        raise UnusableData(
            f"{world_size} ranks on {nodes} nodes: no curve is known to have crossed the network with {per_node} ranks "
            "a node; run commprof bench on two nodes"
        )
    base = min(wide, key=lambda cost: abs(_nodes(cost) - nodes))
    node = next((cost for cost in costs if _nodes(cost) == 1 and cost.world_size == per_node), None)
    sizes, times = np.array(base.message_bytes, dtype=float), np.array(base.median_s)
    inside = np.array([cost_s(node, size) if node is not None else 0.0 for size in sizes])
    network = np.maximum(times - inside, 1e-3 * times)
    form, (latency_s, bandwidth) = _FORMS[base.op][0], fit_line(sizes, network)
    weights = np.array([0.0, latency_s / form.messages(_nodes(base)), 1 / (bandwidth * form.wire(_nodes(base)))])
    growth = [_form_s(weights, form, s, nodes) / _form_s(weights, form, s, _nodes(base)) for s in sizes]
    doubts = [f"the network's part is taken for {form.name} of {nodes} nodes, none of it hidden behind the node's own part"]
    if node is None and per_node > 1:
        doubts.append(f"no curve of {per_node} ranks on one node; all of the time is taken for the network's")
    names = (*([node.world_size] if node is not None else []), base.world_size)
    carried = _with_times(
        base, (times - network + network * growth).tolist(), world_size=world_size, carried_from=names, form="nodes in a ring"
    )
    return replace(carried, num_nodes=nodes, doubts=(*doubts, *_switching(base)))


def _with_times(
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


def _other_forms(carried: CostModel, others: dict[str, CostModel]) -> list[str]:
    """Say what the forms that were not taken would give for one of DDP's buckets."""
    here = cost_s(carried, _BUCKET_BYTES)
    ratios = {name: cost_s(other, _BUCKET_BYTES) / here - 1 for name, other in others.items()}
    bucket = format_bytes(_BUCKET_BYTES)
    return [
        f"by the form of {name} {bucket} would take {abs(ratio):.0%} {'more' if ratio > 0 else 'less'}"
        for name, ratio in ratios.items()
        if abs(ratio) > _DIFFERS
    ]


def _switching(cost: CostModel) -> list[str]:
    places = ", ".join(f"{format_bytes(switch.message_bytes)} (x{switch.factor:.2f})" for switch in cost.switches)
    return (
        [f"the curve on {cost.world_size} ranks changes its course at {places}; other ranks may at other sizes"]
        if places
        else []
    )


def _nearest(costs: Sequence[CostModel], world_size: int) -> CostModel:
    return min(costs, key=lambda cost: (abs(cost.world_size - world_size), -cost.world_size))


def _likely_nodes(nearest: CostModel, world_size: int) -> int:
    per_node = nearest.world_size // _nodes(nearest)
    return 1 if _nodes(nearest) == 1 else max(1, world_size // per_node)


def _nodes(cost: CostModel) -> int:
    return cost.num_nodes or 1


def _nvls_from(op: str, device_name: str) -> int | None:
    """Return from how many GPUs of a node an all-reduce goes through NVLS; None for other machines and operations."""
    known = [first for name, first in _NVLS_FROM.items() if name in device_name]
    return known[0] if known and op == "all_reduce" else None
