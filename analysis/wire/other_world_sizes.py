"""What does a collective cost on a number of ranks that was not measured?

By its form (forms.py): alpha and B come from the line of one curve; with several, c too, from all of them by non-negative least
squares on relative error. Then the measured curve nearest in p is taken along:

    t_q(S) = t_p(S) (c + m_q alpha + w_q S/B) / (c + m_p alpha + w_p S/B)

With two curves or more, the form is the ring's unless the others come twice as near to the largest by another one.
Between nodes across_nodes.py does the same with what lies inside a node and between.

Nothing is carried into a network that no curve has crossed. Where an algorithm is known to take over in between, that is said:
busbw rises there, and the figure is an upper bound of the time. Seconds, bytes, bytes per second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from commprof.analysis.wire.across_nodes import carry_over_nodes
from commprof.analysis.wire.cost import cost_s, curve_points
from commprof.analysis.wire.curve_shape import MATTERS_BYTES
from commprof.analysis.wire.fabric import AS_BENCHED, Fabric
from commprof.analysis.wire.forms import FORMS, NVLS, RING, TREE, Form, changes_of_course, with_times
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.units import format_bytes

Floats = NDArray[np.float64]

_BUCKET_BYTES = 25 * 2**20  # DDP's
_DIFFERS = 0.05
_CLEARLY = 2.0  # another form has to be this much nearer than the ring, which is what both NCCL and gloo run for long messages
# From how many GPUs of a node NCCL 2.27 takes NVLS for an all-reduce (stas00/ml-engineering, network/README.md: measured on
# H200 and B200; H100 has H200's switch).
_NVLS_FROM = {"H100": 5, "H200": 5, "B200": 6}
_NVLS_GAIN = "1.14 to 1.29 times the ring's rate on 5 to 8 H200, 1.15 to 1.23 on 6 to 8 B200"


def carry_cost(
    costs: Sequence[CostModel],
    world_size: int,
    *,
    num_nodes: int | None = None,
    device_name: str = "",
    fabric: Fabric = AS_BENCHED,
) -> CostModel:
    """Return the cost of one collective on `world_size` ranks, carried over from the curves of other world sizes.

    `num_nodes` is how many nodes those ranks are on: unless said, as many as they fill with as many ranks a node as the curves
    over several nodes have, one where there is no such curve. `doubts` of the result say what speaks against it. Raises
    UnusableData without a curve, where ranks do not fill their nodes, and where they would cross a network that no curve with
    as many ranks a node has crossed.
    """
    assert len({(cost.op, cost.dtype) for cost in costs}) < 2, "the caller carries one collective at a time"
    if not costs:
        raise UnusableData("no curve to carry over; run commprof bench first")
    nodes = num_nodes if num_nodes is not None else _likely_nodes(costs, world_size)
    if world_size % nodes:
        raise UnusableData(f"{world_size} ranks do not divide over {nodes} nodes")
    flat = sorted((c for c in costs if _nodes(c) == (1 if nodes == 1 else c.world_size)), key=lambda cost: cost.world_size)
    if nodes > 1 and not (nodes == world_size and fabric == AS_BENCHED and _is_no_ring(flat)):
        return carry_over_nodes(costs, world_size, nodes, fabric)
    if not flat:
        raise UnusableData(f"{world_size} ranks on one node: no such curve was measured; run commprof bench there")
    return _by_form(flat, world_size, _nvls_from(costs[0].op, device_name) if nodes == 1 else None)


def _is_no_ring(flat: Sequence[CostModel]) -> bool:
    """Whether several curves of one rank a node follow another form clearly better than a ring."""
    if len(flat) < 2:
        return False
    forms = _candidates(flat, None)
    return _obeyed(forms, {form.name: _check(flat, form) for form in forms}) is not forms[0]


def _obeyed(forms: Sequence[Form], errors: Mapping[str, float]) -> Form:
    """Return the first form, unless another is clearly nearer."""
    return min(forms, key=lambda form: errors.get(form.name, 0.0) * (1 if form is forms[0] else _CLEARLY))


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
    form = _obeyed(forms, errors)
    carried = _along(form, costs, nearest, world_size)
    if errors:
        before, last = costs[-2].world_size, costs[-1].world_size
        doubts.append(
            f"taken from {before} to {last} ranks, this form is off by {errors[form.name]:.0%} in the median, long messages"
        )
    else:
        doubts.append("one world size was measured, so nothing tests the form")
    others = {other.name: _along(other, costs, nearest, world_size) for other in FORMS[nearest.op] if other is not form}
    doubts += _other_forms(carried, {name: other for name, other in others.items() if name != NVLS.name or NVLS in forms})
    return replace(carried, doubts=(*doubts, *changes_of_course(nearest)))


def _candidates(costs: Sequence[CostModel], nvls_from: int | None) -> tuple[Form, ...]:
    """Return the forms that these curves may obey: what is known of the machine, else what several curves can tell."""
    forms = FORMS[costs[0].op]
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
    carried = with_times(nearest, times, world_size=world_size, carried_from=names, form=f"{form.name}, {form.formula}")
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


def _nearest(costs: Sequence[CostModel], world_size: int) -> CostModel:
    return min(costs, key=lambda cost: (abs(cost.world_size - world_size), -cost.world_size))


def _likely_nodes(costs: Sequence[CostModel], world_size: int) -> int:
    """Return how many nodes the ranks fill; raise UnusableData where they would fill the last one in part.

    A curve over several nodes tells how many ranks a node has; where they differ the one nearest in ranks does.
    """
    wide = [cost for cost in costs if _nodes(cost) > 1]
    if not wide:
        return 1
    nearest = _nearest(wide, world_size)
    per_node = nearest.world_size // _nodes(nearest)
    if world_size > per_node and world_size % per_node:
        raise UnusableData(
            f"{world_size} ranks do not fill nodes of {per_node}, as benched; ask for a multiple of {per_node}, or say --nodes"
        )
    return max(1, world_size // per_node)


def _nodes(cost: CostModel) -> int:
    return cost.num_nodes or 1


def _nvls_from(op: str, device_name: str) -> int | None:
    """Return from how many GPUs of a node an all-reduce goes through NVLS; None for other machines and operations."""
    known = [first for name, first in _NVLS_FROM.items() if name in device_name]
    return known[0] if known and op == "all_reduce" else None
