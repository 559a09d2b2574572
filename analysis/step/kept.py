"""Predictions on disk: written once, never replaced. Which of them did a run check?

The first in a folder is predictions.json; later ones stand beside it, named by the time at which they were made. What a run is
checked against was there before the run began: of several such the last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from commprof.analysis.runs.load import Run
from commprof.analysis.step.evidence.profiles import checking_runs
from commprof.analysis.step.results import PredictionSet
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_document, write_new_document

PREDICTIONS_FILE: Final = "predictions.json"
_LATER: Final = "predictions-*.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Predictions and the file that holds them."""

    path: Path
    predictions: PredictionSet


def keep_predictions(folder: Path, predicted: PredictionSet) -> Path:
    """Write predictions beside those that are there, and return their file; the same from the same runs are kept once."""
    for own in kept_predictions([folder]):
        if replace(own.predictions, created_at=predicted.created_at) == predicted:
            return own.path
    moment = "".join(sign for sign in predicted.created_at if sign.isalnum())
    names = [PREDICTIONS_FILE, *(f"predictions-{moment}{suffix}.json" for suffix in ("", *(f"-{n}" for n in range(2, 100))))]
    return next(path for name in names if write_new_document(path := folder / name, predicted))


def keep_predictions_in(path: Path, predicted: PredictionSet) -> None:
    """Write predictions to a file of the user's; raise BadInput where there is one, for none is ever replaced."""
    if not write_new_document(path, predicted):
        raise BadInput(f"{path} exists, and predictions are written once; name another file with --out")


def kept_predictions(folders: Iterable[Path]) -> list[Kept]:
    """Return all predictions in these folders, the oldest first; raise BadInput for a malformed file."""
    paths = [path for folder in folders for path in (folder / PREDICTIONS_FILE, *sorted(folder.glob(_LATER))) if path.is_file()]
    found = [Kept(path=path, predictions=read_document(path, PredictionSet)) for path in paths]
    return sorted(found, key=lambda own: own.predictions.created_at)


def foretold(found: Sequence[Kept], runs: Sequence[Run]) -> Kept | None:
    """Return the predictions that most of these runs checked: written before they began, the last of such.

    Where none was there before a run, the last that speak of the runs' world sizes; None without any.
    """
    checking = [run for run in checking_runs(runs) if run.world_size > 1]

    def worth(own: Kept) -> tuple[int, int, str]:
        sizes = {prediction.world_size for prediction in own.predictions.predictions}
        covered = [run for run in checking if run.world_size in sizes]
        before = [run for run in covered if own.predictions.created_at <= run.info.started_at]
        return len(before), len(covered), own.predictions.created_at

    return max(found, key=worth, default=None)
