"""`cp.predict`: the training step at N ranks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.advice.predict_text import prediction_sheet
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.step.decided import DISTURBED, decide_predicted
from commprof.analysis.step.results import Change, Prediction, PredictionSet
from commprof.api.answer import Answer, some
from commprof.api.frames import Row, frame, row_of
from commprof.api.runs import Runs, RunsLike, as_runs, as_world_sizes
from commprof.commbench.display.sheet import Block
from commprof.commbench.errors import UnusableData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_FLOATS = (
    *("step_s", "step_low_s", "step_high_s", "exposed_s", "exposed_low_s", "exposed_high_s"),
    *("speedup", "efficiency", "ratio_compute_to_comm", "measured_step_s", "relative_error"),
)
_TYPES = {
    "model": str,
    "world_size": int,
    **dict.fromkeys(_FLOATS, float),
    "extrapolated": bool,
    "assumptions": list,
    "formula": str,
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Predicted(Answer):
    """Predictions, and the runs they were made from; those on several ranks are what predictions are checked against.

    `disturbed` says which of the runs other processes took cores from, None where none did or none can tell.
    """

    predictions: PredictionSet
    runs: Runs
    disturbed: str | None

    __iter__ = None  # what is in brackets is a number of ranks, no position
    __contains__ = None

    def __getitem__(self, n: int) -> Prediction:
        """Return the prediction of the bucket schedule for n ranks; raise UnusableData where that was not asked for."""
        for prediction in self.predictions.predictions:
            if (prediction.model, prediction.world_size) == ("schedule", n):
                return prediction
        raise UnusableData(f"{n} ranks were not predicted; ask for them with cp.predict(runs, n=[{n}])")

    @property
    def changes(self) -> tuple[Change, ...]:
        """What would save time, by world size, the best first."""
        return self.predictions.changes

    def to_frame(self) -> "DataFrame":
        """Return one row a model and world size: step and exposed communication (s), 90 % interval, and what was measured."""
        measured = self._measured_s()
        return frame((_row(p, measured.get(p.world_size)) for p in self.predictions.predictions), _TYPES)

    def _measured_s(self) -> dict[int, float]:
        from commprof.analysis.report.numbers.verdict import outcomes

        return {o.prediction.world_size: o.measured_step_s for o in outcomes(self.predictions, self.runs)}

    def plot(self) -> "Figure":
        """Draw the speedup over ranks: every model, the schedule's interval, and what was measured."""
        from commprof.analysis.report.figures.predictions import speedup_figure
        from commprof.analysis.report.numbers.verdict import outcomes

        shared = {run.world_size for run in self.runs if run.info.oversubscribed}
        return speedup_figure(self.predictions, outcomes(self.predictions, self.runs), shared)

    def headline(self) -> str:
        schedule = [p for p in self.predictions.predictions if p.model == "schedule"]
        decision = decide_predicted(self.predictions, self.runs, DISTURBED if self.disturbed is not None else "")
        told = some(f"{p.speedup:.2f}x on {p.world_size} ranks" for p in schedule)
        return f"{decision.in_short}: {told}, predicted over one rank's {self.predictions.single_step_s:.4g} s a step"

    def sheet(self) -> list[Block]:
        return prediction_sheet(self.predictions, (), self.runs, self.disturbed)


def predict(runs: RunsLike, n: int | Iterable[int] = (), *, beside: RunsLike = ()) -> Predicted:
    """Predict the training step at n ranks, by default at every number that was benched. Nothing is written.

    Among `runs` are a one-rank training run and benches, better with a compute-only run and contention at n. `beside` are
    other runs of the same machine, which tell how much its pace drifts.
    Raises UnusableData without a profile or a bench, BadInput for runs that cannot be combined.
    """
    known = as_runs(runs)
    found = predict_runs(known, as_world_sizes(n), beside=as_runs(beside))
    return Predicted(found, known, disturbance_text(known))


def _row(prediction: Prediction, measured_s: float | None) -> Row:
    row = row_of(prediction)
    if prediction.interval_s is not None:
        row |= {"step_low_s": prediction.interval_s.low, "step_high_s": prediction.interval_s.high}
    error = None if measured_s is None else prediction.step_s / measured_s - 1
    return {name: row.get(name) for name in _TYPES} | {"measured_step_s": measured_s, "relative_error": error}
