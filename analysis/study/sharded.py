"""What a study foretells of a sharded training, written before the runs that check it and never replaced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from commprof.analysis.runs.load import Run, load_runs
from commprof.analysis.scaling.speedup import ScalingKind, work_s
from commprof.analysis.step.results import Prediction
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.inputs import sharded_runs
from commprof.analysis.strategies.measured import run_shape, shape_of
from commprof.analysis.strategies.results import COPIES, STRATEGIES, Choice, StrategyAnswer
from commprof.analysis.study.experiment import cell_folder, cells_of
from commprof.commbench.errors import CommprofError
from commprof.commbench.records.rundir import now_utc, read_document, write_new_document

STRATEGIES_FILE: Final = "strategies.json"
_FORMULA = "fully_shard's units, gathered and reduced one by one"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptChoices:
    """strategies.json: what was predicted of a sharded training at each world size, when, and from which runs."""

    created_at: str
    run_ids: tuple[str, ...]
    choices: tuple[Choice, ...]

    @property
    def copies(self) -> int:
        """In how many copies HSDP was predicted, or would have been."""
        answers = (answer for choice in self.choices for answer in choice.answers)
        return next((own.num_replicas for own in answers if own.strategy == "hsdp" and not own.cannot), COPIES)

    def of(self, run: Run) -> StrategyAnswer | None:
        """Return what was predicted of a run's strategy on its ranks and in its copies, None where nothing was."""
        shape = run_shape(run)
        told = (answer for choice in self.choices for answer in choice.answers if not answer.cannot)
        return next((answer for answer in told if shape_of(answer) == shape), None)


def write_sharded_predictions(
    root: Path, experiment: str, wire: str | None, *, grid: bool, asked: Asked, world_sizes: Sequence[int]
) -> dict[str, str]:
    """Predict a sharded cell unless that has been done; return what could not be predicted and why.

    `grid` says that the study has several cells.
    """
    runs = load_runs([root])
    failures: dict[str, str] = {}
    for cell in cells_of(runs):
        path = cell_folder(root, cell, grid=grid) / STRATEGIES_FILE
        if (cell.experiment, cell.wire) != (experiment, wire) or path.exists():
            continue
        try:
            choices = choose(cell.calibration, world_sizes, asked)
        except CommprofError as error:
            return {f"prediction of {cell.name}": str(error)}
        run_ids = tuple(run.info.run_id for run in cell.calibration)
        write_new_document(path, KeptChoices(created_at=now_utc(), run_ids=run_ids, choices=tuple(choices)))
        silent = [answer for choice in choices for answer in choice.answers if answer.cannot]
        failures |= {f"prediction of {cell.name} on {own.world_size} ranks": own.cannot for own in silent}
    return failures


def predicted_now(runs: Sequence[Run]) -> KeptChoices:
    """Return every strategy at every world size that was benched, HSDP in the copies that were run.

    Raises UnusableData without a bench.
    """
    copies = [run.units.num_replicas for run in sharded_runs(runs) if run.units is not None and run.units.num_replicas > 1]
    choices = choose(runs, (), Asked(strategies=STRATEGIES, replicas=copies[-1] if copies else COPIES))
    run_ids = tuple(run.info.run_id for run in runs if not (run.synchronised and run.world_size > 1))
    return KeptChoices(created_at=now_utc(), run_ids=run_ids, choices=tuple(choices))


def kept_choices(folders: Iterable[Path]) -> KeptChoices | None:
    """Return what was kept in the first of these folders that has any; raise BadInput for a malformed file."""
    path = next((path for folder in folders if (path := folder / STRATEGIES_FILE).is_file()), None)
    return None if path is None else read_document(path, KeptChoices)


def prediction_of(answer: StrategyAnswer, single_s: float, scaling: ScalingKind) -> Prediction:
    """Return the answer as study.csv has predictions; `single_s` is one rank's step, sharded over itself."""
    assert answer.step_s is not None and answer.exposed_s is not None
    whole_s = work_s(single_s, answer.world_size, scaling)
    sent_s = sum(each.done_s - each.start_s for each in answer.exchanges)
    return Prediction(
        model="schedule",
        formula=_FORMULA,
        world_size=answer.world_size,
        step_s=answer.step_s,
        interval_s=answer.interval_s,
        exposed_s=answer.exposed_s,
        speedup=whole_s / answer.step_s,
        efficiency=whole_s / answer.step_s / answer.world_size,
        ratio_compute_to_comm=whole_s / sent_s if sent_s > 0 else inf,
        extrapolated=answer.extrapolated,
        assumptions=answer.assumptions,
        too_disturbed=answer.too_disturbed,
    )
