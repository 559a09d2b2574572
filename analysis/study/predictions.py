"""What a study foretells, written before the runs that check it and never replaced: predictions and boundaries."""

from contextlib import suppress
from pathlib import Path

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.gather import check_ddp
from commprof.analysis.step.kept import PREDICTIONS_FILE, keep_predictions
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.experiment import BOUNDARY_FILE, cell_folder, cells_of, predicted_boundaries
from commprof.analysis.study.results import Boundary
from commprof.analysis.wire.ceiling import line_rate
from commprof.commbench.errors import CommprofError, UnusableData
from commprof.commbench.records.rundir import read_document, write_document


def write_predictions(root: Path, experiment: str, wire: str | None, *, grid: bool) -> dict[str, str]:
    """Predict one cell unless that has been done; return what could not be predicted and why, nothing when all is well.

    `grid` says that the study has several cells. A prediction on disk is never replaced: runs may have been checked against it.
    """
    runs = load_runs([root])
    found = [cell for cell in cells_of(runs) if (cell.experiment, cell.wire) == (experiment, wire)]
    for cell in found:
        path = cell_folder(root, cell, grid=grid) / PREDICTIONS_FILE
        if path.exists():
            continue
        try:
            check_ddp(cell.runs)  # a script's ranks that could not be kept from sending tell what they are
            own = {run.path for run in cell.calibration}
            keep_predictions(path.parent, predict_runs(cell.calibration, beside=[run for run in runs if run.path not in own]))
        except CommprofError as error:
            return {f"prediction of {cell.name}": str(error)}
    return {}


def write_boundaries(root: Path, experiment: str) -> None:
    """Predict where a model begins to pay, unless that has been done, from what is measured of it before its first check.

    Its computation has been measured on one wire by then, and serves all: nothing is sent in it.
    """
    before = read_boundaries(root)
    if any(boundary.experiment == experiment for boundary in before):
        return
    own = [cell for cell in cells_of(load_runs([root])) if cell.experiment == experiment]
    computed = {run.path: run for cell in own for run in cell.calibration if run.world_size > 1 and not run.sends}
    known: list[tuple[float, PredictionSet]] = []
    for cell in own:
        rate = line_rate(cell.wire)
        if rate is not None:
            runs = {**computed, **{run.path: run for run in cell.calibration}}
            with suppress(UnusableData):  # a cell that cannot be predicted says so when its turn comes
                known.append((rate, predict_runs(list(runs.values()))))
    if found := predicted_boundaries(experiment, known):
        write_document(root / "analysis" / BOUNDARY_FILE, (*before, *found))


def read_boundaries(root: Path) -> tuple[Boundary, ...]:
    path = root / "analysis" / BOUNDARY_FILE
    return read_document(path, tuple[Boundary, ...]) if path.exists() else ()
