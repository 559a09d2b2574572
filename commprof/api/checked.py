"""`cp.check`: is what was measured normal?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from commprof.analysis.health.check import TOLERANCE, Demands, check_runs
from commprof.analysis.health.links.stated import parse_link
from commprof.analysis.health.results import Verdict
from commprof.analysis.health.text import check_sheet
from commprof.api.answer import Answer
from commprof.api.frames import frame, row_of, types_of
from commprof.api.runs import RunsLike, as_runs
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_WORDS = ("fail", "note", "skip", "pass")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Checked(Answer):
    """Verdicts on bench and link runs, failures first."""

    verdicts: tuple[Verdict, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what could not be judged fails nothing."""
        return not any(verdict.ok is False for verdict in self.verdicts)

    def to_frame(self) -> "DataFrame":
        """Return one row a verdict: `result` is fail, note, skip or pass; `measured` against `limit` in `unit` (SI)."""
        rows = ({"result": _WORDS[verdict.rank], **row_of(verdict)} for verdict in self.verdicts)
        return frame(rows, types_of(Verdict), ("result", "name", "measured", "limit", "unit", "message"))

    def plot(self) -> "Figure":
        """Draw how many verdicts failed, were noted, could not be judged, and passed."""
        from commprof.analysis.report.figures.verdicts import verdict_figure

        return verdict_figure(self.verdicts)

    def headline(self) -> str:
        return str(self).splitlines()[-1]

    def sheet(self) -> list[Block]:
        return check_sheet(self.verdicts)


def check(
    runs: RunsLike,
    *,
    demands: Demands | None = None,
    baseline: RunsLike = (),
    tolerance: float = TOLERANCE,
    wire: str | None = None,
) -> Checked:
    """Judge bench runs by thresholds, by an earlier run (`baseline`, within `tolerance`, 0.05 being 5 %), and by rules.

    `wire` is what lies between the ranks, such as "100gbit", "8xndr" or "nvlink4".
    Raises BadInput where there is nothing to judge, or a demand or the baseline does not fit.
    """
    if not 0 <= tolerance < 1:
        raise BadInput(f"tolerance={tolerance}: it is a share, such as 0.05 for 5 %")
    link = None if wire is None else parse_link(wire)
    verdicts = check_runs(as_runs(runs), demands or Demands(), baseline=as_runs(baseline), tolerance=tolerance, link=link)
    return Checked(tuple(verdicts))
