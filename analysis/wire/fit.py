"""Benches -> all that is known of the wire: fitted where it was measured, carried over to where it was not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from commprof.analysis.readers.as_run import measurements, understand
from commprof.analysis.readers.presets import preset
from commprof.analysis.runs.load import Run
from commprof.analysis.wire.across_nodes import as_in_a_ring
from commprof.analysis.wire.benched import FITTED_REDUCTIONS, Unusable, wire_costs
from commprof.analysis.wire.cost import fit_cost
from commprof.analysis.wire.fabric import Fabric, fabric_of
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.analysis.wire.ring_order import RingOrder, best_ring, measured_pairs
from commprof.commbench.errors import BadInput, UnusableData

_NODES_UNKNOWN = "the log does not tell on how many nodes its ranks were, and one is taken; import it with --nodes K"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFit:
    """The costs as benched, those carried over to other world sizes, and the collectives that could not be fitted."""

    costs: tuple[CostModel, ...]
    carried: tuple[CostModel, ...]
    unusable: tuple[Unusable, ...]


def fit_wire(
    runs: Sequence[Run], world_sizes: Iterable[int] = (), *, nodes: int | None = None, fabric: Fabric | None = None
) -> WireFit:
    """Fit every collective of these benches, and carry each to `world_sizes`, there on `nodes` nodes.

    `fabric` is what lies between them, by default as the wire's name has it.

    Raises BadInput where there is no bench or benches of one world size are not of one wire, UnusableData where none can be
    fitted.
    """
    costs, unusable = wire_costs(runs)
    if not costs:
        raise UnusableData(unusable[0].reason) if unusable else BadInput(_nothing_to_fit(runs))
    return WireFit(
        costs=tuple(costs), carried=tuple(_carried(runs, costs, world_sizes, nodes, fabric)), unusable=tuple(unusable)
    )


def ring_orders(runs: Sequence[Run], message_bytes: int) -> dict[str, RingOrder | str]:
    """Return by run's name the best ring over ranks that were measured pairwise, for an all-reduce of so many bytes.

    Where its pairs tell none, the reason in words.
    """
    orders: dict[str, RingOrder | str] = {}
    for run in runs:
        if run.world_size > 1 and any(link.kind == "send_recv" for link in run.links):
            try:
                orders[run.path.name] = best_ring(measured_pairs(run.links, run.info.ranks), message_bytes)
            except (BadInput, UnusableData) as error:
                orders[run.path.name] = str(error)
    return orders


def published(name: str) -> CostModel:
    """Fit a preset; raises BadInput for an unknown name."""
    return fit_cost(list(measurements(understand(preset(name), name, op=None, ranks=None))))


def _carried(
    runs: Sequence[Run], costs: Sequence[CostModel], world_sizes: Iterable[int], nodes: int | None, fabric: Fabric | None
) -> list[CostModel]:
    devices = {rank.device_name for run in runs for rank in run.info.ranks}
    device_name = devices.pop() if len(devices) == 1 else ""
    wires = {run.info.wire for run in runs if run.info.kind == "bench"}
    between = fabric if fabric is not None else fabric_of(wires.pop() if len(wires) == 1 else None)
    wanted = list(dict.fromkeys(world_sizes))
    carried = []
    for op, dtype in dict.fromkeys((cost.op, cost.dtype) for cost in costs):
        known = [as_in_a_ring(cost, costs) for cost in costs if (cost.op, cost.dtype) == (op, dtype)]
        missing = [n for n in wanted if n not in {cost.world_size for cost in known}]
        costs_there = [carry_cost(known, n, num_nodes=nodes, device_name=device_name, fabric=between) for n in missing]
        unknown = any(cost.num_nodes is None for cost in known)
        carried += [replace(cost, doubts=(*cost.doubts, _NODES_UNKNOWN)) if unknown else cost for cost in costs_there]
    return carried


def _nothing_to_fit(runs: Sequence[Run]) -> str:
    calls = [m for run in runs if run.world_size > 1 for m in run.collectives]
    names = ", ".join(str(run.path) for run in runs)
    if not calls:
        return f"no bench run among {names}; make one with commprof bench --nproc 2"
    reductions = sorted({m.reduction for m in calls if m.reduction not in FITTED_REDUCTIONS})
    if reductions and all(m.reduction in reductions for m in calls):
        held = ", ".join(sorted({f"{m.op} of {m.dtype}" for m in calls}))
        said = " and ".join(map(str, reductions))
        return f"{names} holds {held} with redop {said}; sum and avg are fitted, which is what DDP sends (-o sum)"
    held = ", ".join(sorted({f"{m.mode} {m.op} of {m.dtype}" for m in calls}))
    return f"{names} holds {held}; what is fitted are isolated calls of a collective that moves bytes"
