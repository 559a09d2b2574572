"""What does a collective cost over several nodes?

NCCL's ring, and gloo's, which goes by rank, run over all ranks: with them in blocks, g on each of k nodes, p = gk, the ring
leaves each node once, and that line carries w_p of the message, as every other hop does. It is as fast as its slowest hop:

    t(S) = m_in alpha_in + m_out alpha_out + w_p r S,   m_out = m_ck, m_in = m_p - m_out,   r = max(r_in, r_out)

m and w are the form's (forms.py). c is how often the ring leaves a node, once in blocks and g times where the ranks are dealt
out to the nodes in turn; fabric.py has how r_out, the seconds a byte takes between nodes, changes with c, k and the lines. r_in
and alpha_in come from the curve of one node, alpha_out and r_out from the line of a curve over several; the curve nearest in k
is taken along, as within a node:

    t_q(S) = t_p(S) (m_in alpha_in + m_out alpha_out + w_q r_q S) / (the same on p)

What goes to each rank directly (all_to_all, gather, scatter) crosses by (k-1)/k of the message. Curves over several numbers of
nodes tell what the switch carries at once: where a byte takes longer over more nodes, k lines share it. What a collective costs
is measured: gloo carries out a reduce_scatter as an all_reduce, and only its own curve says so.

gloo's all_gather sends before it says that it is ready to receive (gloo/allgather.cc; its all-reduce does the opposite). Two
ranks have one connection for both: what one has to send waits until half of what the other sends has passed, S/4, and only then
passes itself, S/2. So w_2 = 3/4, less what a pause lets pass at once. Their all-reduce goes as a ring does, one half of it a
reduce-scatter and the other an all-gather: where it was benched, half of its time is what is carried (`as_in_a_ring`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from commprof.analysis.wire.cost import cost_s, curve_points
from commprof.analysis.wire.curve_shape import MATTERS_BYTES
from commprof.analysis.wire.fabric import AS_BENCHED, Fabric
from commprof.analysis.wire.forms import FORMS, RINGS, Form, changes_of_course, with_times
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData

_DIFFERS = 0.05
_TAKES_TURNS = ("all_gather", "gloo", 2)
_IN_TURN = 3 / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """One placement of the ranks: how many, on how many nodes, and how often their ring leaves each."""

    ranks: int
    nodes: int
    crossings: int

    def between(self, form: Form) -> float:
        """Return how many messages, one after the other, cross from node to node."""
        return min(form.messages(self.nodes * self.crossings), form.messages(self.ranks))

    def wire(self, cost: CostModel, form: Form) -> float:
        """Return the share of the message that the busiest hop, or what crosses, takes the time of."""
        if (cost.op, cost.backend, self.ranks) == _TAKES_TURNS and not cost.form:
            return _IN_TURN
        return form.wire(self.ranks if cost.op in RINGS else self.nodes)


def carry_over_nodes(costs: Sequence[CostModel], world_size: int, nodes: int, fabric: Fabric = AS_BENCHED) -> CostModel:
    """Return the cost on `world_size` ranks spread over `nodes` nodes, from curves over other numbers of nodes.

    Raises UnusableData without a curve over several nodes with as many ranks on each, and where a line is not known.
    """
    per_node = world_size // nodes
    wide = sorted((c for c in costs if _nodes(c) > 1 and c.world_size == per_node * _nodes(c)), key=_nodes)
    if not wide:
        raise UnusableData(
            f"{world_size} ranks on {nodes} nodes: no curve is known to have crossed the network with {per_node} ranks "
            "a node; run commprof bench on two nodes"
        )
    inside = next((cost for cost in costs if _nodes(cost) == 1 and cost.world_size == per_node), None)
    doubts = [f"gloo was held against such figures, from 1 MiB on, NCCL was not; below that {_below(inside, per_node)}"]
    doubts += _behind_a_slow_line(fabric, nodes)
    if fabric.spine is None and len(wide) > 1:
        doubts += _check_against_largest(wide, inside, fabric)
        fabric = replace(fabric, spine=_spine(wide, fabric))
        if fabric.spine is not None:
            doubts.append(
                f"a byte takes longer over {_nodes(wide[-1])} nodes than over {_nodes(wide[0])}: taken for a switch that all "
                "lines share; if one of the lines is slow instead, more nodes cost less than this"
            )
    elif fabric.spine is None and nodes > _nodes(wide[-1]):
        doubts.append(f"whether the switch carries more than {_nodes(wide[-1])} lines at once was not measured; it is taken to")
    base = min(wide, key=lambda cost: abs(_nodes(cost) - nodes))
    if base.form:
        doubts.append(f"two ranks of gloo gather in turn, so {base.form} stands for what a ring of two would take")
    carried = _carried(base, inside, _asked(base, world_size, nodes, fabric), fabric)
    names = tuple(cost.world_size for cost in ((inside,) if inside is not None else ()) + tuple(wide))
    verdict = f"carried over from {' and '.join(map(str, names))} ranks"
    return replace(carried, carried_from=names, verdict=verdict, doubts=(*doubts, *changes_of_course(base)))


def as_in_a_ring(cost: CostModel, costs: Sequence[CostModel]) -> CostModel:
    """Return the all-gather of two gloo ranks as it is in a ring of more, half of their all-reduce's time; others as they are.

    As they are, too, where `costs` have no all-reduce of these two.
    """
    if (cost.op, cost.backend, cost.world_size) != _TAKES_TURNS or _nodes(cost) == 1:
        return cost
    alike = ("all_reduce", cost.dtype, *_TAKES_TURNS[1:], cost.num_nodes)
    reduced = next((own for own in costs if (own.op, own.dtype, own.backend, own.world_size, own.num_nodes) == alike), None)
    if reduced is None:
        return cost
    halves = [cost_s(reduced, size) / 2 for size in cost.message_bytes]
    ring = with_times(cost, halves, world_size=2, carried_from=(2,), form="half of an all-reduce")
    return replace(ring, set_aside=())


def _carried(base: CostModel, inside: CostModel | None, ring: _Ring, fabric: Fabric) -> CostModel:
    """Take the curve of `base` along to another ring."""
    form, here = FORMS[base.op][0], _ring_of(base)
    in_s, out_s = _latencies(base, inside, form)
    pace_s = 1 / (base.bandwidth_bytes_per_s * here.wire(base, form))
    grown_s = pace_s * fabric.pace(ring.nodes, ring.crossings) / fabric.pace(here.nodes, here.crossings)
    inside_s = 0.0 if inside is None else 1 / (inside.bandwidth_bytes_per_s * form.wire(inside.world_size))

    def line(asked: _Ring, seconds_per_byte: float, message_bytes: int) -> float:
        between = asked.between(form)
        messages_s = (form.messages(asked.ranks) - between) * in_s + between * out_s
        return messages_s + asked.wire(base, form) * seconds_per_byte * message_bytes

    slowest_s = max(grown_s, min(inside_s, pace_s))  # on the nodes benched the inside was no slower than all of it
    times = [
        time * line(ring, slowest_s, size) / line(here, pace_s, size)
        for size, time in zip(base.message_bytes, base.median_s, strict=True)
    ]
    told = f"{form.name} over all ranks that leaves each node {_times(ring.crossings)}" if base.op in RINGS else "what crosses"
    carried = with_times(base, times, world_size=ring.ranks, carried_from=(base.world_size,), form=told)
    return replace(carried, num_nodes=ring.nodes, ring_crossings=ring.crossings)


def _latencies(base: CostModel, inside: CostModel | None, form: Form) -> tuple[float, float]:
    """Return the seconds of a message inside a node and between nodes; the same where no curve of one node tells them apart."""
    ring = _ring_of(base)
    messages, between = form.messages(ring.ranks), ring.between(form)
    alike = base.latency_s / messages
    if inside is None:
        return alike, alike
    in_s = min(inside.latency_s / form.messages(inside.world_size), alike)
    return in_s, (base.latency_s - (messages - between) * in_s) / between


def _spine(wide: Sequence[CostModel], fabric: Fabric) -> float | None:
    """Return what the switch carries at once, None where a byte takes as long over most nodes as over fewest."""
    first, last = wide[0], wide[-1]
    lines = fabric.pace(_nodes(last), 1) / fabric.pace(_nodes(first), 1)
    excess = _seconds_per_byte(last) / _seconds_per_byte(first) / lines
    if excess <= 1 + _DIFFERS:
        return None
    return _nodes(last) / (excess * fabric.pace(_nodes(last), 1))


def _seconds_per_byte(cost: CostModel) -> float:
    """Return how long a byte takes that crosses once."""
    ring = _ring_of(cost)
    return 1 / (cost.bandwidth_bytes_per_s * ring.wire(cost, FORMS[cost.op][0]) * ring.crossings)


def _check_against_largest(wide: Sequence[CostModel], inside: CostModel | None, fabric: Fabric) -> list[str]:
    """Say how far off the largest number of nodes is when taken from the others as if nothing were shared."""
    *smaller, largest = wide
    carried = _carried(smaller[-1], inside, _ring_of(largest), fabric)
    first, last = carried.message_bytes[0], carried.message_bytes[-1]
    points = [(size, time) for size, time in curve_points(largest) if max(first, MATTERS_BYTES) <= size <= last]
    if not points:
        return []
    error = float(np.median([abs(cost_s(carried, size) / time - 1) for size, time in points]))
    before, after = _nodes(smaller[-1]), _nodes(largest)
    return [f"taken from {before} to {after} nodes, as if nothing were shared, it is off by {error:.0%} in the median"]


def _asked(base: CostModel, world_size: int, nodes: int, fabric: Fabric) -> _Ring:
    per_node = world_size // nodes
    crossings = base.ring_crossings if fabric.order is None else {"blocks": 1, "dealt": per_node}[fabric.order]
    return _Ring(ranks=world_size, nodes=nodes, crossings=crossings)


def _ring_of(cost: CostModel) -> _Ring:
    return _Ring(ranks=cost.world_size, nodes=_nodes(cost), crossings=cost.ring_crossings)


def _below(inside: CostModel | None, per_node: int) -> str:
    if per_node == 1:
        return "latency decides, of which only the ring's count of messages is known"
    if inside is None:
        return f"latency decides, and without a curve of {per_node} ranks on one node all hops are taken to be alike"
    return "latency decides, told apart inside and between nodes by one curve each"


def _behind_a_slow_line(fabric: Fabric, nodes: int) -> list[str]:
    slow = "a line is slower than the others, and gloo's notices wait behind what is queued at it"
    return [f"{slow}: a tenth more from 4 MiB on, up to a sixth"] if len(set(fabric.lines[:nodes])) > 1 else []


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _nodes(cost: CostModel) -> int:
    return cost.num_nodes or 1
