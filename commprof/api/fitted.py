"""`cp.fit`: what the wire costs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commprof.analysis.wire.benched import Unusable
from commprof.analysis.wire.cost import cost_s, curve_points
from commprof.analysis.wire.fit import WireFit, fit_wire
from commprof.analysis.wire.results import CostModel
from commprof.analysis.wire.text import fit_sheet
from commprof.api.answer import Answer, some
from commprof.api.frames import frame, row_of, types_of
from commprof.api.runs import RunsLike, as_runs, as_world_sizes
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.units import format_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_DERIVED = ("half_bandwidth_bytes", "busbw_bytes_per_s")
_CURVE = {"op": str, "dtype": str, "world_size": int, "message_bytes": int, "time_s": float}
_NOT_IN_A_ROW = ("message_bytes", "median_s", "set_aside", "switches")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fitted(Answer):
    """The collectives' costs: as benched, and carried over to the world sizes that were asked for besides."""

    fit: WireFit

    @property
    def costs(self) -> tuple[CostModel, ...]:
        """Every cost, the benched ones first."""
        return (*self.fit.costs, *self.fit.carried)

    @property
    def unusable(self) -> tuple[Unusable, ...]:
        """The collectives that were measured and could not be fitted, with the reason."""
        return self.fit.unusable

    def time_s(self, message_bytes: float, n: int, *, op: str = "all_reduce", dtype: str = "float32") -> float:
        """Return the seconds that one collective of a size takes on n ranks; raise UnusableData where that was not fitted."""
        if not message_bytes >= 0:
            raise BadInput(f"message_bytes={message_bytes}: a message has 0 bytes or more")
        for cost in self.costs:
            if (cost.op, cost.dtype, cost.world_size) == (op, dtype, n):
                return cost_s(cost, message_bytes)
        known = ", ".join(f"{cost.op} of {cost.dtype} on {cost.world_size}" for cost in self.costs)
        raise UnusableData(f"no {op} of {dtype} on {n} ranks among {known}; ask for it with cp.fit(runs, n=[{n}])")

    def to_frame(self) -> "DataFrame":
        """Return one row a collective and world size: the line, its 95 % intervals, and whether to trust it."""
        types = types_of(CostModel, _DERIVED)
        shown = [name for name in types if name not in _NOT_IN_A_ROW]
        table = frame((row_of(cost, _DERIVED) for cost in self.costs), types, shown)
        units = {f"bandwidth_{end}": f"bandwidth_{end}_bytes_per_s" for end in ("low", "high")}
        return table.rename(columns=units)

    def curves(self) -> "DataFrame":
        """Return one row a collective, world size and message size (bytes): the seconds that predictions use."""
        points = ((c.op, c.dtype, c.world_size, size, time_s) for c in self.costs for size, time_s in curve_points(c))
        return frame((dict(zip(_CURVE, point, strict=True)) for point in points), _CURVE)

    def plot(self) -> "Figure":
        """Draw bus bandwidth over message size, a line a collective and world size."""
        from commprof.analysis.report.figures.costs import cost_figure

        return cost_figure(self.costs)

    def headline(self) -> str:
        return some(f"{c.op} on {c.world_size} ranks {format_rate(c.busbw_bytes_per_s)} busbw" for c in self.costs)

    def sheet(self) -> list[Block]:
        return fit_sheet(self.fit.costs, self.fit.carried, self.fit.unusable)


def fit(runs: RunsLike, n: int | Iterable[int] = (), *, nodes: int | None = None) -> Fitted:
    """Fit latency and bandwidth of every collective that was benched, and carry the curves to n ranks, on `nodes` nodes.

    Raises BadInput without a bench, UnusableData where no bench can be fitted.
    """
    if nodes is not None and nodes < 1:
        raise BadInput(f"nodes={nodes}: the ranks are on one node or more")
    return Fitted(fit_wire(as_runs(runs), as_world_sizes(n), nodes=nodes))
