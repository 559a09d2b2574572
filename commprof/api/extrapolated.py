"""`cp.extrapolate`: other numbers of ranks, from a table of a few throughputs or step times."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from commprof.analysis.scaling.extrapolate import decide_extrapolated, extrapolate_all
from commprof.analysis.scaling.results import Extrapolated as AtN
from commprof.analysis.scaling.results import Extrapolation, Refused
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.scaling.table import parse_series, read_series
from commprof.analysis.scaling.text import extrapolation_sheet
from commprof.api.answer import Answer, some
from commprof.api.frames import Row, frame, row_of, types_of
from commprof.api.runs import PathLike, as_world_sizes, whole_numbers
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Extrapolated(Answer):
    """What each series of a table does at the numbers of ranks asked for, or why it tells nothing."""

    told: tuple[Extrapolation | Refused, ...]

    @property
    def series(self) -> tuple[Extrapolation, ...]:
        return tuple(one for one in self.told if isinstance(one, Extrapolation))

    def to_frame(self) -> "DataFrame":
        """Return one row a series and number of ranks; `value`, `low` and `high` in the table's unit, or seconds a step."""
        return frame((row for one in self.series for row in _rows(one)), {"series": str, "measure": str, **types_of(AtN)})

    def plot(self) -> "Figure":
        """Draw the speedup over ranks with its 90 % interval, a line a series, and the anchors."""
        from commprof.analysis.report.figures.extrapolated import extrapolated_figure

        return extrapolated_figure(self.series)

    def headline(self) -> str:
        return some((_in_short(one) for one in self.series), "; ")

    def sheet(self) -> list[Block]:
        return extrapolation_sheet(self.told)


def extrapolate(
    table: "PathLike | DataFrame",
    n: int | Iterable[int],
    *,
    scaling: ScalingKind = "weak",
    anchors: int | Iterable[int] = (),
    by_machine: bool | None = None,
) -> Extrapolated:
    """Carry a table of throughputs or step times by number of ranks to n ranks; nothing else is needed.

    `table` is a CSV or Markdown file or a DataFrame with a column of ranks (`n_gpus`, `world_size`, ...) and one of
    `throughput` (over all ranks), `throughput_per_gpu`, `mfu`, `step_s` or `step_ms`; an index with a name is a column too.
    `anchors` are the rows to start from, by default all that are not asked for. Series of one `machine` (a column) tell each
    other what the hop between nodes costs, unless `by_machine` is False.
    Raises BadInput for a table that cannot be read, UnusableData where it tells nothing.
    """
    series, name = _series(table)
    targets = sorted(set(as_world_sizes(n)))
    if not targets:
        raise BadInput("n: name the numbers of ranks to extrapolate to, such as n=[8, 16]")
    if scaling not in get_args(ScalingKind):
        raise BadInput(f"scaling={scaling!r}: it is weak (a batch per rank) or strong (one batch for all ranks)")
    rows = sorted(set(whole_numbers(anchors, "anchors")))
    return Extrapolated(
        tuple(extrapolate_all(series, targets, scaling=scaling, anchors=rows, name=name, by_machine=by_machine))
    )


def _series(table: "PathLike | DataFrame") -> tuple[tuple[Series, ...], str]:
    if isinstance(table, str | os.PathLike):
        return read_series(Path(table)), str(table)
    if not hasattr(table, "to_csv"):
        raise BadInput(f"the table is neither a CSV file's path nor a DataFrame: {type(table).__name__}")
    try:
        return parse_series(table.to_csv(index=any(name is not None for name in table.index.names))), "the table"
    except BadInput as error:
        raise BadInput(f"the table, {error}") from None


def _in_short(one: Extrapolation) -> str:
    name = f"{one.series}: " if one.series else ""
    found = some(f"{p.speedup:.2f}x on {p.world_size}" for p in one.predictions if p.speedup is not None)
    return f"{name}{decide_extrapolated(one).in_short}{': ' * bool(found)}{found}"


def _rows(one: Extrapolation) -> Iterator[Row]:
    for prediction in one.predictions:
        yield {"series": one.series, "measure": one.measure, **row_of(prediction)}
