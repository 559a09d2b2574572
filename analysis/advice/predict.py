"""The straight way from runs to predictions, with what to change at each world size.

runs --gather--> inputs per N --predict--> predictions, and --changes--> what would save time
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from commprof.analysis.advice.changes import changes
from commprof.analysis.runs.load import Run
from commprof.analysis.step.gather import gather
from commprof.analysis.step.predict import predict
from commprof.analysis.step.results import PredictionSet


def predict_runs(runs: Sequence[Run], world_sizes: Iterable[int] = (), *, beside: Sequence[Run] = ()) -> PredictionSet:
    """Predict the step at each world size, by default at every one that was benched; arguments and errors as in `gather`."""
    gathered = gather(runs, world_sizes, beside=beside)
    advised = tuple(change for inputs in gathered.at for change in changes(inputs, gathered.single))
    return replace(predict(gathered), changes=advised)
