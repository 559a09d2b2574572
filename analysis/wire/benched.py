"""What does every collective that was benched cost, on every number of ranks?

Benches of one operation, data type and world size are pooled where they agree; what DDP needs, the float32 all-reduce, is
one of them. A collective that cannot be fitted says why and keeps none of the others from it. Of our own benches the isolated
calls count, of an imported log what it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from commprof.analysis.runs.load import Run, check_one_origin, select
from commprof.analysis.wire.cost import curve_measurements, end_ratio, fit_cost, transfer_s
from commprof.analysis.wire.curve_shape import MATTERS_BYTES
from commprof.analysis.wire.fabric import ring_crossings
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_seconds

AGREE: Final = 1.25  # benches of one wire, minutes apart on a machine with other work, differ by a tenth
FITTED_REDUCTIONS = (None, "sum", "avg")  # what DDP asks for; others move the same bytes and compute something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A collective that was measured and cannot be fitted."""

    op: str
    dtype: str
    world_size: int
    reason: str


def wire_costs(runs: Sequence[Run]) -> tuple[list[CostModel], list[Unusable]]:
    """Fit every collective of these benches, in the order of the operations and by world size; say which cannot be.

    Raises BadInput where measurements of one collective come from different wires.
    """
    costs, unusable = [], []
    for op, dtype, world_size in sorted(_measured(runs), key=lambda key: (list(OPERATIONS).index(key[0]), *key[1:])):
        benches = [run for run in _benches(runs) if _chosen(run, op, dtype) and run.world_size == world_size]
        check_one_origin(benches)
        measured = [m for run in benches for m in _chosen(run, op, dtype)]
        try:
            check_agreement([(run, _chosen(run, op, dtype)) for run in benches])
            costs.append(_fitted(measured, benches))
        except UnusableData as error:
            unusable.append(Unusable(op=op, dtype=dtype, world_size=world_size, reason=str(error)))
    return costs, [*unusable, *_other_reductions(runs)] if costs else unusable


def _other_reductions(runs: Sequence[Run]) -> list[Unusable]:
    """Name the collectives of which there are only reductions that are not fitted."""
    fitted = _measured(runs)
    others: dict[tuple[str, str, int], set[str]] = {}
    for run in _benches(runs):
        for m in run.collectives:
            if (
                m.reduction is not None
                and m.reduction not in FITTED_REDUCTIONS
                and (m.op, m.dtype, run.world_size) not in fitted
            ):
                others.setdefault((m.op, m.dtype, run.world_size), set()).add(m.reduction)
    return [
        Unusable(
            op=op, dtype=dtype, world_size=n, reason=f"redop {' and '.join(sorted(names))}; sum and avg are fitted (-o sum)"
        )
        for (op, dtype, n), names in sorted(others.items())
    ]


def _benches(runs: Sequence[Run]) -> list[Run]:
    return [run for run in select(runs, kind="bench") if run.world_size > 1]


def _measured(runs: Sequence[Run]) -> set[tuple[str, str, int]]:
    return {(m.op, m.dtype, run.world_size) for run in _benches(runs) for m in run.collectives if _chosen(run, m.op, m.dtype)}


def _chosen(run: Run, op: str, dtype: str) -> list[CollectiveMeasurement]:
    modes = ("isolated",) if run.info.imported_from is None else ("isolated", "pipelined")
    return [
        m
        for m in run.collectives
        if (m.op, m.dtype) == (op, dtype) and m.op != "barrier" and m.mode in modes and m.reduction in FITTED_REDUCTIONS
    ]


def fit_op_costs(runs: Sequence[Run], op: str, dtype: str = "float32") -> dict[int, CostModel]:
    """Fit a collective at every world size above one that was benched; several benches of one size are pooled.

    What gloo calls a reduce-scatter is carried out as an all-reduce: nothing but its own bench tells what it costs.
    """
    benches = [run for run in _benches(runs) if _chosen(run, op, dtype)]
    check_one_origin(benches)
    costs = {}
    for world_size in sorted({run.world_size for run in benches}):
        pooled = [run for run in benches if run.world_size == world_size]
        measured = measured_at(pooled, op, world_size, dtype)
        costs[world_size] = _fitted(measured, pooled)
    return costs


def measured_at(runs: Sequence[Run], op: str, world_size: int, dtype: str = "float32") -> list[CollectiveMeasurement]:
    """Return what these benches timed of a collective on `world_size` ranks."""
    return [m for run in _benches(runs) if run.world_size == world_size for m in _chosen(run, op, dtype)]


def fit_costs(runs: Sequence[Run]) -> dict[int, CostModel]:
    """Fit the all-reduce at every world size above one that was benched; several benches of one size are pooled.

    Raises UnusableData where they disagree, or one cannot be fitted, and BadInput where they come from different wires.
    """
    benches = [run for run in select(runs, kind="bench") if run.world_size > 1 and run.all_reduces]
    check_one_origin(benches)
    costs = {}
    for world_size in sorted({run.world_size for run in benches}):
        pooled = [run for run in benches if run.world_size == world_size]
        check_agreement([(run, run.all_reduces) for run in pooled])
        costs[world_size] = _fitted(all_reduces_at(pooled, world_size), pooled)
    return costs


def check_agreement(benched: Sequence[tuple[Run, Sequence[CollectiveMeasurement]]]) -> None:
    """Raise UnusableData where benches of one collective do not agree on what it costs at the sizes that all of them timed.

    They agree where the slowest takes at most `AGREE` times as long as the fastest, in the median over sizes from 256 KiB up
    (all sizes where none is as large): their samples are one pool then. What differs by more is another wire, or was disturbed.
    """
    curves = [(run, _medians_s(measured, run.num_nodes)) for run, measured in benched]
    shared = set.intersection(*(set(curve) for _, curve in curves))
    if len(curves) < 2 or not shared:
        return
    sizes = sorted(size for size in shared if size >= MATTERS_BYTES) or sorted(shared)
    least_s = {size: min(curve[size] for _, curve in curves) for size in sizes}
    factors = [median(curve[size] / least_s[size] for size in sizes) for _, curve in curves]
    if max(factors) <= AGREE:
        return
    slowest = curves[factors.index(max(factors))][0]
    told = ", ".join(f"{run.path.name} {format_seconds(curve[sizes[-1]])}" for run, curve in curves)
    what = f"{benched[0][1][0].op.replace('_', '-')} of {format_bytes(sizes[-1])}"
    raise UnusableData(
        f"these benches are not comparable, because the {what} takes different times in them ({told}); "
        f"measure {slowest.path} again, or leave out what does not count"
    )


def _medians_s(measured: Sequence[CollectiveMeasurement], num_nodes: int | None) -> dict[int, float]:
    used = curve_measurements(measured)
    ratio = end_ratio(used, num_nodes)
    return {m.message_bytes: median(transfer_s(m, ratio)) for m in used}


def _fitted(measured: Sequence[CollectiveMeasurement], benches: Sequence[Run]) -> CostModel:
    """Fit one collective of these benches, which are of one world size and spread over as many nodes."""
    spread = sorted({run.num_nodes or 1 for run in benches})
    if len(spread) > 1:
        raise UnusableData(
            f"{benches[0].world_size} ranks were benched on {' and on '.join(map(str, spread))} nodes, which is not one wire; "
            "name the benches of one"
        )
    cost = fit_cost(measured, [run.info.run_id for run in benches], benches[0].num_nodes)
    crossings = ring_crossings(benches[0].info.ranks, benches[0].info.num_nodes)
    return _incomplete(replace(cost, ring_crossings=crossings, backend=benches[0].info.backend), benches)


def _incomplete(cost: CostModel, benches: Sequence[Run]) -> CostModel:
    """Say in the verdict that a bench ended early: what its largest sizes would have shown nobody knows."""
    early = next((run.info for run in benches if run.info.status in ("failed", "interrupted")), None)
    if early is None:
        return cost
    sizes = f"{format_bytes(cost.message_bytes[-1])} is the last size of {early.run_id}"
    return replace(cost, verdict=f"not whole: {sizes}, which {early.status}: {early.failure or 'no reason recorded'}")


def all_reduces_at(benches: Sequence[Run], world_size: int) -> list[CollectiveMeasurement]:
    """Return the all-reduces that these benches timed on `world_size` ranks."""
    return [m for run in benches if run.world_size == world_size for m in run.all_reduces]
