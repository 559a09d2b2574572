"""study.csv: one tidy row per model, wire, world size and repeat, for people who draw their own figures.

`run_s` is the time of all steps of one rank, warm-up included; `step_s` and the phases are medians over the steps of all
ranks that count. `overhead_s` is T_N - T_compute(N). An error is (predicted - measured) / measured. A model's own overhead is
its step beyond its own computation: T_compute(N) for the schedule, one rank's share (T_1, or T_1/N) for the simple models.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import Final

from commprof.analysis.runs.load import Run, select
from commprof.analysis.scaling.speedup import compute_share_s, work_s
from commprof.analysis.step.comparable import contradictions
from commprof.analysis.step.evidence.pools import compute_only_s
from commprof.analysis.step.results import Model, Prediction, PredictionSet
from commprof.analysis.study.experiment import Cell
from commprof.analysis.study.sharded import KeptChoices, prediction_of
from commprof.commbench.records.types import Workload

MODELS: tuple[Model, ...] = ("schedule", "ring", "amdahl", "linear")
NOTHING_SHARDED: Final[Mapping[str, KeptChoices]] = MappingProxyType({})
_PHASES = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One run of a study beside what was predicted of it. None: no single-rank run, no compute-only run.

    Of runs that contradict each other (`incomparable` says how) neither speedup nor overhead is known.
    """

    run: Run
    workload: Workload
    wire: str | None
    repeat: int
    single_s: float | None
    compute_s: float | None = None
    comm_s: float | None = None
    predictions: dict[Model, Prediction] = field(default_factory=dict)
    incomparable: str = ""

    @property
    def step_s(self) -> float:
        return self.run.median_step_s()

    @property
    def work_s(self) -> float | None:
        """One rank's time for the samples of one step."""
        if self.single_s is None:
            return None
        return work_s(self.single_s, self.run.world_size, self.workload.scaling)

    @property
    def overhead_s(self) -> float | None:
        return None if self.compute_s is None or self.incomparable else self.step_s - self.compute_s

    @property
    def speedup(self) -> float | None:
        return None if self.work_s is None or self.incomparable else self.work_s / self.step_s

    @property
    def ratio(self) -> float | None:
        """R = W / T_comm."""
        return None if self.work_s is None or self.comm_s is None else self.work_s / self.comm_s

    def error(self, model: Model) -> float | None:
        predicted = self.predictions.get(model)
        return None if predicted is None else predicted.step_s / self.step_s - 1

    def overhead_error(self, model: Model) -> float | None:
        """Return how far a model's own overhead is from the measured one; None where there was none to measure."""
        predicted = self.predictions.get(model)
        if predicted is None or self.overhead_s is None or self.single_s is None or self.compute_s is None:
            return None
        share_s = compute_share_s(self.single_s, self.run.world_size, self.workload.scaling)
        own_s = predicted.step_s - (self.compute_s if model == "schedule" else share_s)
        return own_s / self.overhead_s - 1 if self.overhead_s > 0 else None


def study_rows(
    cells: Sequence[tuple[Cell, PredictionSet | None]], sharded: Mapping[str, KeptChoices] = NOTHING_SHARDED
) -> list[StudyRow]:
    """Return the rows: each model alone first, then its synchronised runs wire by wire.

    `sharded` is what was predicted of sharded cells, by their names.
    """
    rows: list[StudyRow] = []
    for experiment in dict.fromkeys(cell.experiment for cell, _ in cells):
        own = [(cell, predicted) for cell, predicted in cells if cell.experiment == experiment]
        single = select(own[0][0].runs, kind="train", world_size=1, synchronised=True)
        single_s = median(run.median_step_s() for run in single) if single else None
        for repeat, run in enumerate(single, 1):
            assert run.info.workload is not None
            rows.append(StudyRow(run=run, workload=run.info.workload, wire=None, repeat=repeat, single_s=single_s))
        for cell, predicted in own:
            rows += _checked_rows(cell, predicted, single_s, sharded.get(cell.name))
    return rows


def to_csv(rows: Sequence[StudyRow]) -> str:
    """Write the rows as CSV with a header; what is not known is an empty field."""
    text = io.StringIO()
    records = [_record(row) for row in rows]
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _checked_rows(
    cell: Cell, predicted: PredictionSet | None, single_s: float | None, sharded: KeptChoices | None
) -> Iterator[StudyRow]:
    seen: dict[int, int] = {}
    contradicted = contradictions(cell.runs, predicted)
    for run in select(cell.runs, kind="train", synchronised=True):
        n, work = run.world_size, run.info.workload
        assert work is not None
        if n == 1:
            continue
        seen[n] = seen.get(n, 0) + 1
        compute = select(cell.runs, kind="train", world_size=n, synchronised=False)
        predictions = {p.model: p for p in predicted.predictions if p.world_size == n} if predicted else {}
        if sharded is not None and single_s is not None and (answer := sharded.of(run)) is not None:
            predictions["schedule"] = prediction_of(answer, single_s, work.scaling)
        yield StudyRow(
            run=run,
            workload=work,
            wire=cell.wire,
            repeat=seen[n],
            single_s=single_s,
            compute_s=compute_only_s(compute[-1]) if compute else None,
            comm_s=next((law.comm_s for law in predicted.break_evens if law.world_size == n), None) if predicted else None,
            predictions=predictions,
            incomparable=contradicted.get(n, ""),
        )


def _record(row: StudyRow) -> dict[str, str | float | int | None]:
    steps, schedule = row.run.counted_steps(), row.predictions.get("schedule")
    interval = schedule.interval_s if schedule is not None else None
    n = row.run.world_size
    return {
        "model": _inert(row.workload.experiment),
        "parameters": row.workload.num_parameters,
        "scaling": row.workload.scaling,
        "wire": _inert(row.wire or ""),
        "world_size": n,
        "repeat": row.repeat,
        "run_id": _inert(row.run.info.run_id),
        "run_s": sum(step.step_s for step in row.run.steps[min(row.run.steps)]),
        "step_s": row.step_s,
        **{f"{name}_s": median(getattr(step, f"{name}_s") for step in steps) for name in _PHASES},
        "compute_step_s": row.compute_s,
        "overhead_s": row.overhead_s,
        "speedup": row.speedup,
        "efficiency": None if row.speedup is None else row.speedup / n,
        "R": row.ratio,
        "predicted_step_s": schedule.step_s if schedule is not None else None,
        "predicted_low_s": interval.low if interval is not None else None,
        "predicted_high_s": interval.high if interval is not None else None,
        **{f"error_{model}": row.error(model) for model in MODELS},
        **{f"error_overhead_{model}": row.overhead_error(model) for model in MODELS if model != "linear"},
    }


def _inert(text: str) -> str:
    """Keep a spreadsheet from taking a name out of a file for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
