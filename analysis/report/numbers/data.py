"""Runs -> the numbers a report draws: step anatomies, and what a reader must be warned of. No words for pages.

All times are seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.advice.results import Budget
from commprof.analysis.health.evidence import MIN_SAMPLES
from commprof.analysis.report.numbers.verdict import Outcome, answers, cause_and_cure, outcomes, reasons_apart
from commprof.analysis.runs.disturbance import disturbance_text
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, check_combinable, load_runs, select
from commprof.analysis.step.assumptions import checked_assumptions
from commprof.analysis.step.comparable import contradictions, without
from commprof.analysis.step.evidence.drift import drift_of
from commprof.analysis.step.evidence.profiles import checking_runs, profile_runs
from commprof.analysis.step.kept import PREDICTIONS_FILE, Kept, foretold, kept_predictions
from commprof.analysis.step.results import AssumptionCheck, PredictionSet
from commprof.analysis.strategies.inputs import sharded_runs
from commprof.analysis.study.sharded import KeptChoices, kept_choices, predicted_now
from commprof.analysis.wire.benched import fit_costs
from commprof.analysis.wire.results import CostModel
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.rundir import read_info
from commprof.commbench.records.training import StepMeasurement
from commprof.commbench.records.types import RunInfo

_RAW_FILES = {"bench": "collectives.jsonl", "contention": "contention.jsonl", "train": "steps.rank*.jsonl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All that one report can speak of. `refusals` are the questions these data cannot answer, in words.

    `predictions_file` is the name by which the page speaks of the file that holds `predicted`. `unpredicted` is why there is
    no prediction where there could be one. `contradicted` says by world size why its runs are not comparable: nothing in
    `predicted` is of them. `budget` is what was said about money and epochs. `sharded` is what is predicted
    of strategies, before its runs or now; None where no run is sharded, or for the reason `sharded_cannot`. `drift` is how much
    the machine's pace changed, relative.
    """

    root: Path
    runs: tuple[Run, ...]
    studies: dict[Path, RunInfo]
    predicted: PredictionSet | None
    predictions_file: str
    outcomes: tuple[Outcome, ...]
    checks: tuple[AssumptionCheck, ...]
    costs: dict[int, CostModel]
    refusals: tuple[str, ...]
    unpredicted: str | None = None
    contradicted: Mapping[int, str] = field(default_factory=dict)
    disturbed: str | None = None
    budget: Budget | None = None
    sharded: KeptChoices | None = None
    sharded_cannot: str = ""
    drift: float = 0.0

    @property
    def shared(self) -> dict[int, RunInfo]:
        """The world sizes at which ranks share cores, each with a run that says so."""
        return {run.world_size: run.info for run in self.runs if run.info.oversubscribed}

    @property
    def schedule_outcomes(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.prediction.model == "schedule"]

    def answers(self, predicted: PredictionSet) -> dict[int, str]:
        """Return by world size what was predicted and measured, and how far apart they are."""
        return answers(predicted, self.schedule_outcomes, self.checks, disturbed=self.disturbed is not None)

    def reasons_apart(self, predicted: PredictionSet) -> dict[int, str]:
        """Return by world size which assumption failed, where a run parted from its prediction."""
        return reasons_apart(predicted, self.schedule_outcomes, self.checks)

    def cause_and_cure(self, predicted: PredictionSet, world_size: int) -> tuple[str, str]:
        """Return what holds this number of ranks back and what to try first there."""
        return cause_and_cure(predicted, self.schedule_outcomes, self.runs, world_size, disturbed=self.disturbed is not None)

    @property
    def compared(self) -> list[Run]:
        """The synchronised runs that are spoken of beside one rank: those that the prediction is of, without one all."""
        return select(self.runs, kind="train", synchronised=True) if self.predicted is None else checking_runs(self.runs)

    @property
    def alone(self) -> list[Run]:
        """The runs of one rank that speedups and costs are over: as it is, before sharded over itself, which takes longer."""
        return checking_runs(self.runs, 1) or select(self.runs, kind="train", world_size=1, synchronised=True)

    @property
    def checking(self) -> list[Run]:
        """The runs that predictions are checked against."""
        ids = {outcome.run_id for outcome in self.outcomes}
        return [run for run in self.runs if run.info.run_id in ids]

    @property
    def known(self) -> list[Run]:
        """The runs that the prediction was made from."""
        return [run for run in self.runs if self.predicted is not None and run.info.run_id in self.predicted.run_ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where a run's step goes: mean seconds over the middle half of its steps by length, so that the parts add up.

    Whole steps are averaged because medians of parts do not sum to the median step; only the middle half of them because
    a mean over all would follow the few longest. `other_s` is what lies between the phases.
    """

    run: Run
    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    other_s: float
    num_steps: int

    @property
    def kind(self) -> str:
        if not self.run.synchronised:
            return "compute only"
        return "profile" if self.run.world_size == 1 else "synchronised"

    @property
    def step_s(self) -> float:
        return self.data_s + self.forward_s + self.backward_s + self.optimizer_s + self.other_s


def gather(paths: Sequence[Path], budget: Budget | None = None) -> Material:
    """Load everything; `budget` is what was said about money and epochs.

    A question that the data cannot answer becomes a refusal, input that is wrong raises BadInput.
    """
    infos = {path.resolve(): read_info(path) for path in paths}
    studies = {path: info for path, info in infos.items() if info.kind == "study"}
    material = _material(load_runs(paths), paths[0], [path / "analysis" for path in paths], studies)
    return replace(material, budget=budget)


def cell_material(runs: Sequence[Run], folder: Path) -> Material:
    """Put together what belongs to one cell of a study, whose predictions lie in `folder`: its only cell's in analysis/."""
    return _material(runs, folder, [folder], {})


def _material(unordered: Sequence[Run], root: Path, derived: Sequence[Path], studies: dict[Path, RunInfo]) -> Material:
    check_combinable(unordered)
    runs = tuple(sorted(unordered, key=lambda run: (run.world_size, run.info.started_at)))
    costs, refusals = _fits(runs)
    own = foretold(kept_predictions(derived), runs)
    own = None if own is not None and _leaves_out(own, runs) else own
    predicted, refusal = (own.predictions, []) if own is not None else _predictions(runs)
    sharded, sharded_cannot = _sharded(runs, derived)
    contradicted = contradictions(runs, predicted)
    if predicted is not None and contradicted:
        predicted = without(predicted, set(contradicted))
    refusal += [f"No speedup: {reason}." for reason in dict.fromkeys(contradicted.values()) if reason not in "".join(refusal)]
    return Material(
        root=root,
        runs=runs,
        studies=studies,
        predicted=predicted,
        predictions_file=f"analysis/{PREDICTIONS_FILE}" if own is None else _named(own.path),
        outcomes=tuple(outcomes(predicted, runs)) if predicted else (),
        checks=checked_assumptions(predicted, runs) if predicted else (),
        costs=costs,
        refusals=(*refusals, *refusal),
        unpredicted=refusal[0] if refusal and predicted is None else None,
        contradicted=contradicted,
        disturbed=disturbance_text(runs),
        sharded=sharded,
        sharded_cannot=sharded_cannot,
        drift=drift_of(runs),
    )


def anatomies(runs: Sequence[Run]) -> list[Anatomy]:
    """Return the anatomy of every training run that has a counted step, compute-only before synchronised."""
    training = select(runs, kind="train")
    return [_anatomy(run) for run in sorted(training, key=lambda run: (run.world_size, run.synchronised))]


def raw_files(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name the raw files that a figure over these runs was drawn from, each once; no figure over runs rests on links."""
    names = (f"{run.path.name}/{_RAW_FILES[run.info.kind]}" for run in runs if run.info.kind in _RAW_FILES)
    return tuple(dict.fromkeys(names))


def count_steps(runs: Sequence[Run]) -> str:
    """Say how many steps of how many runs a median is over."""
    total = sum(len(run.counted_steps()) for run in runs)
    return f"{total} steps of all ranks ({', '.join(f'{run.path.name} {len(run.counted_steps())}' for run in runs)})"


def samples_per_s(run: Run) -> tuple[float, Interval]:
    """Return what all ranks together take in, from the median step, and its interval."""
    samples, spread = run.counted_steps()[0].num_samples * run.world_size, run.step_interval_s()
    rates = [samples / step_s for step_s in (run.median_step_s(), spread.high, spread.low)]
    return rates[0], Interval(low=rates[1], high=rates[2])


def called_interval(num_samples: int) -> str:
    """Name what `median_interval` gives: with under six samples nothing lies in it with 95 %."""
    return "95 % interval of the median" if num_samples >= MIN_SAMPLES else f"range of {num_samples} samples"


def checked_too_early(material: Material) -> list[Run]:
    """Return the checking runs that had started before the prediction was written.

    Both stamps come from `now_utc`, whose fixed form in UTC sorts as text.
    """
    return [
        run
        for run in material.checking
        if material.predicted is not None and material.predicted.created_at > run.info.started_at
    ]


def _fits(runs: Sequence[Run]) -> tuple[dict[int, CostModel], list[str]]:
    costs: dict[int, CostModel] = {}
    refusals = []
    for world_size in sorted({run.world_size for run in select(runs, kind="bench") if run.world_size > 1}):
        try:
            costs |= fit_costs([run for run in runs if run.world_size == world_size])
        except UnusableData as error:
            refusals.append(f"No line fits the wire on {world_size} ranks: {error}.")
    return costs, refusals


def _named(path: Path) -> str:
    """Name a file of predictions from the folder of the run or study that it belongs to."""
    return f"analysis/{path.name}" if path.parent.name == "analysis" else f"analysis/{path.parent.name}/{path.name}"


def _leaves_out(own: Kept, runs: Sequence[Run]) -> bool:
    """Say whether kept predictions, asked for other numbers of ranks, are silent on those that were measured, or benched."""
    checking = {run.world_size for run in checking_runs(runs)} - {1}
    benched = {run.world_size for run in select(runs, kind="bench")} - {1}
    told = {prediction.world_size for prediction in own.predictions.predictions}
    return not (checking or benched) <= told


def _predictions(runs: Sequence[Run]) -> tuple[PredictionSet | None, list[str]]:
    if sharded_runs(runs) and not any(run.units is None for run in profile_runs(runs)):
        return None, []  # what is predicted of it is told by strategy
    if not profile_runs(runs) or all(run.world_size == 1 for run in select(runs, kind="bench")):
        return None, []
    try:
        return predict_runs(runs), []
    except UnusableData as error:
        return None, [f"No prediction: {error}."]


def _sharded(runs: Sequence[Run], derived: Sequence[Path]) -> tuple[KeptChoices | None, str]:
    """Return what was predicted of strategies before these runs, else what is now; or why it cannot be told."""
    if not sharded_runs(runs):
        return None, ""
    try:
        return kept_choices(derived) or predicted_now(runs), ""
    except UnusableData as error:
        return None, str(error)


def _anatomy(run: Run) -> Anatomy:
    steps = sorted(run.counted_steps(), key=lambda step: step.step_s)
    quarter = len(steps) // 4
    middle = np.array([_phases(step) for step in steps[quarter : len(steps) - quarter]])
    data, forward, backward, optimizer, other = middle.mean(axis=0).tolist()
    return Anatomy(
        run=run,
        data_s=data,
        forward_s=forward,
        backward_s=backward,
        optimizer_s=optimizer,
        other_s=other,
        num_steps=len(steps),
    )


def _phases(step: StepMeasurement) -> tuple[float, float, float, float, float]:
    named = (step.data_s, step.forward_s, step.backward_s, step.optimizer_s)
    return (*named, step.step_s - sum(named))
