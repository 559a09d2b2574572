"""The wire of a sharded step: what each collective's own bench says of it among so many ranks, never a share of another's.

Of each kind of message that a step has: a unit's gather and its reduction among its shards, what is reduced whole among them
(DeepSpeed's buckets of stages 1 and 2), and what copies of shards all-reduce.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.runs.load import Run
from commprof.analysis.step.estimate import UNTRIED_CARRIED_ERROR, carried_error
from commprof.analysis.step.gather import cost_ratios
from commprof.analysis.wire.benched import fit_op_costs, measured_at
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.fabric import fabric_of
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.types import RunInfo

Floats = NDArray[np.float64]

OP_NAMES: Final = {"gather": "all_gather", "reduce": "reduce_scatter", "reduce_whole": "all_reduce", "all_reduce": "all_reduce"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The cost of one collective among so many ranks, and bootstrapped medians over the measured ones [1 + draws, sizes].

    `extrapolated`: carried over from other numbers of ranks, of the backend whose errors that has.
    """

    cost: CostModel
    ratios: Floats
    extrapolated: bool
    backend: str = "gloo"

    def seconds(self, num_bytes: int, normal: Floats, *, bandwidth: float = 1.0, latency: float = 1.0) -> Floats:
        """Return what a collective of these bytes takes alone [1 + draws]. `normal` [1 + draws]: how far off a carried cost is,
        in its errors; `bandwidth` and `latency` are factors on what was measured."""
        places = np.log(self.cost.message_bytes)
        drawn: Floats = np.array([np.interp(log(max(1, num_bytes)), places, row) for row in self.ratios])
        latency_s, rest_s = self.parts_s(num_bytes)
        alone_s = latency * latency_s + rest_s / bandwidth
        return alone_s * drawn * (np.exp(normal * self._carried_error(num_bytes)) if self.extrapolated else 1.0)

    def parts_s(self, num_bytes: int) -> tuple[float, float]:
        """Return the seconds of these bytes that are latency, and the rest."""
        alone_s = cost_s(self.cost, num_bytes)
        latency_s = min(alone_s, self.cost.latency_s)
        return latency_s, alone_s - latency_s

    def _carried_error(self, num_bytes: int) -> float:
        """Return what DDP's schedule says of an all-reduce; of the others, which nobody held against a measured one, no less
        than of wires that were never tried."""
        error = carried_error(max(1, num_bytes), self.backend)
        return error if self.cost.op == "all_reduce" else max(error, UNTRIED_CARRIED_ERROR)


def wires_of(runs: Sequence[Run], among: Mapping[str, int], hosts: RunInfo) -> dict[str, Wire]:
    """Return the wire of each kind of message, `among` so many ranks; none of what goes among one.

    Raises UnusableData that names every collective that nobody benched, so that all can be made up for at once.
    """
    needed = {what: n for what, n in among.items() if n > 1}
    missing = dict.fromkeys((OP_NAMES[what], n) for what, n in needed.items() if not fit_op_costs(runs, OP_NAMES[what]))
    if missing:
        names = " and no ".join(op for op, _ in missing)
        commands = " and ".join(f"commprof bench {op} --nproc {n}" for op, n in missing)
        raise UnusableData(f"no float32 {names} was benched; run {commands}")
    return {what: _wire(runs, what, n, hosts) for what, n in needed.items()}


def _wire(runs: Sequence[Run], what: str, num_ranks: int, hosts: RunInfo) -> Wire:
    """Return a benched collective's cost among so many ranks, carried over where only others were benched.

    Raises UnusableData where it cannot be carried over to them.
    """
    op = OP_NAMES[what]
    costs = fit_op_costs(runs, op)
    assert costs
    rng = np.random.default_rng(num_ranks)
    if num_ranks in costs:
        cost = costs[num_ranks]
        return Wire(cost=cost, ratios=cost_ratios(cost, measured_at(runs, op, num_ranks), rng), extrapolated=False)
    cost = carried(list(costs.values()), num_ranks, hosts)
    return Wire(cost=cost, ratios=cost_ratios(cost, (), rng), extrapolated=True, backend=hosts.backend)


def carried(costs: Sequence[CostModel], num_ranks: int, hosts: RunInfo) -> CostModel:
    """Carry a cost over by the form of what the backend does: gloo carries out a reduce-scatter as an all-reduce."""
    op, device_name = costs[0].op, hosts.ranks[0].device_name if hosts.ranks else ""
    carried_out = "all_reduce" if op == "reduce_scatter" and hosts.backend == "gloo" else op
    alike = [replace(cost, op=carried_out) for cost in costs]
    return replace(carry_cost(alike, num_ranks, device_name=device_name, fabric=fabric_of(hosts.wire)), op=op)
