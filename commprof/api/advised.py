"""`cp.advise`: what to change, what other hardware would bring, and what an epoch costs."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from commprof.analysis.advice.advise import advise as advise_on
from commprof.analysis.advice.results import Advice, Budget, RankAdvice
from commprof.analysis.advice.text import advice_sheet, decide_advised
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.load import Run
from commprof.api.answer import Answer, some
from commprof.api.frames import Row, frame
from commprof.api.runs import RunsLike, as_runs, as_world_sizes
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_TYPES = {
    "world_size": int,
    **dict.fromkeys(("kind", "what", "setting"), str),
    **dict.fromkeys(("saved_s", "saved_low_s", "saved_high_s", "speedup"), float),
    "within_noise": bool,
    "side_effect": str,
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Advised(Answer):
    """All the advice that some runs allow; `disturbed` says which of them other processes took cores from."""

    advice: Advice
    runs: tuple[Run, ...]
    disturbed: str | None

    def to_frame(self) -> "DataFrame":
        """Return one row a world size and change or other hardware: seconds saved a batch, with a 90 % interval."""
        return frame((row for ranks in self.advice.ranks for row in _rows(ranks)), _TYPES)

    def plot(self) -> "Figure":
        """Draw the seconds that each change saves at each world size, with their intervals."""
        from commprof.analysis.report.figures.savings import savings_figure

        return savings_figure([change for ranks in self.advice.ranks for change in ranks.changes])

    def headline(self) -> str:
        decision = decide_advised(self.advice, self.runs, disturbed=self.disturbed is not None)
        if self.disturbed is not None:
            return decision.in_short
        best = {r.world_size: _first(r) for r in self.advice.ranks}
        return f"{decision.in_short}; {some((f'on {n}: {what}' for n, what in best.items()), '; ')}"

    def sheet(self) -> list[Block]:
        return advice_sheet(self.advice, self.runs, self.disturbed)


def advise(runs: RunsLike, n: int | Iterable[int] = (), *, budget: Budget | None = None) -> Advised:
    """Say what would make n ranks faster, by default every number that was benched; `budget` asks what epochs cost.

    Raises UnusableData without a profile or a bench, BadInput for runs that cannot be combined.
    """
    for name, value in asdict(budget).items() if budget is not None else ():
        if value is not None and not value > 0:
            raise BadInput(f"budget: {name}={value}: it is above 0")
    known = as_runs(runs)
    return Advised(advise_on(known, as_world_sizes(n), budget), tuple(known), disturbance_text(known))


def _first(ranks: RankAdvice) -> str:
    """Name the change to try first."""
    if not ranks.changes:
        return "nothing surely helps"
    best = ranks.changes[0]
    return f"no saving can be told from none ({best.doubt}: {best.what})" if best.doubt else best.what


def _rows(ranks: RankAdvice) -> Iterator[Row]:
    for change in ranks.changes:
        yield {
            "world_size": ranks.world_size,
            "kind": "change",
            "what": change.what,
            "setting": change.setting,
            "saved_s": change.seconds_saved,
            "saved_low_s": None if change.interval_s is None else change.interval_s.low,
            "saved_high_s": None if change.interval_s is None else change.interval_s.high,
            "speedup": change.speedup,
            "within_noise": change.within_noise,
            "side_effect": change.side_effect,
        }
    for other in ranks.what_ifs:
        yield {
            "world_size": ranks.world_size,
            "kind": "hardware",
            "what": other.what,
            "setting": None,
            "saved_s": other.seconds_saved,
            "saved_low_s": None if other.interval_s is None else other.interval_s.low,
            "saved_high_s": None if other.interval_s is None else other.interval_s.high,
            "speedup": other.speedup,
            "within_noise": other.interval_s is not None and other.interval_s.low <= 0 <= other.interval_s.high,
            "side_effect": None,
        }
