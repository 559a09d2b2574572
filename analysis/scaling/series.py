"""A scaling series: what was measured at each number of ranks, and what it costs there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from commprof.analysis.scaling.speedup import ScalingKind

Interconnect = Literal["nvlink", "pcie", "unknown"]
Measure = Literal["throughput", "throughput_per_rank", "mfu", "step_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Measurements that differ in the number of ranks only.

    `values` by number of ranks are samples per second over all ranks or of one, seconds per step, or MFU; `ranks_per_node` is
    None where the table does not tell, `split` is how the model is split over ranks, "" where it does not tell, and `batches`
    are those of all ranks in a step where it does. A `fault` says in one line why nothing can be told of the series.
    """

    name: str
    measure: Measure
    values: Mapping[int, float]
    interconnect: Interconnect = "unknown"
    ranks_per_node: int | None = None
    machine: str = ""
    split: str = ""
    batches: Mapping[int, float] = field(default_factory=dict)
    fault: str | None = None

    def time(self, world_size: int, scaling: ScalingKind) -> float:
        """Return the time of a step, in seconds per step or per what a rank (weak) or all ranks (strong) do in one."""
        return self.cost(world_size, scaling) / (1 if scaling == "weak" else world_size)

    def value(self, time: float, world_size: int, scaling: ScalingKind) -> float:
        """Return what is measured where a step takes such a time."""
        return self.at_cost(time * (1 if scaling == "weak" else world_size), world_size, scaling)

    def cost(self, world_size: int, scaling: ScalingKind) -> float:
        """Return the rank seconds that a unit of work takes, in a unit of the series' own."""
        measured = self.values[world_size]
        if self.measure == "step_s":
            return measured * (1 if scaling == "weak" else world_size)
        return (world_size if self.measure == "throughput" else 1) / measured

    def at_cost(self, cost: float, world_size: int, scaling: ScalingKind) -> float:
        """Return what is measured where a unit of work costs as much."""
        if self.measure == "step_s":
            return cost / (1 if scaling == "weak" else world_size)
        return (world_size if self.measure == "throughput" else 1) / cost

    def across_nodes(self, world_size: int) -> bool:
        return self.ranks_per_node is not None and world_size > self.ranks_per_node

    def scaled(self, before: int, after: int, scaling: ScalingKind) -> float:
        """Return what is measured on `after` ranks where nothing is lost from `before` on."""
        return self.at_cost(self.cost(before, scaling), after, scaling)
