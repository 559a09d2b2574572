"""A study of several models and wires -> its cells, and the wire at which N ranks begin to pay.

A cell is one model on one wire: its single-rank profile, the bench and contention of that wire, the compute-only runs made
right before its checks, and the synchronised runs that check its predictions.

Where does a training start to pay? It pays while a step of N ranks takes less than one rank takes for the same samples, W.
Both the communication T_comm(rate) and the part of it that shows, T_N(rate) - T_compute, fall with the rate of the wire. The
boundary is the rate at which they have come down to W - T_compute, found between the rates that were tried on a straight line
in log-log, and beyond them by a slope of -1: there the time is the bytes over the rate.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commprof.analysis.runs.load import Run
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.results import Boundary, WireRate
from commprof.analysis.wire.ceiling import line_rate
from commprof.commbench.records.quantities import MAX_RATE

BOUNDARY_FILE = "boundaries.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model on one wire (None: the machine's own), with the runs that belong to it."""

    experiment: str
    wire: str | None
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return self.experiment if self.wire is None else f"{self.experiment}-{self.wire}"

    @property
    def calibration(self) -> list[Run]:
        """What a prediction may rest on: all but the runs that check it."""
        return [run for run in self.runs if not (run.synchronised and run.world_size > 1)]


def cells_of(runs: Sequence[Run]) -> list[Cell]:
    """Return the cells of completed runs, smaller models and slower wires first."""
    runs = [run for run in runs if run.info.status == "completed"]
    training = [run for run in runs if run.info.workload is not None]
    sizes = {run.info.workload.experiment: run.info.workload.num_parameters for run in training if run.info.workload}
    wires = {run.info.wire for run in runs if run.sends} or {None}
    return [
        Cell(experiment=experiment, wire=wire, runs=tuple(run for run in runs if _belongs(run, experiment, wire)))
        for experiment in sorted(sizes, key=lambda name: sizes[name])
        for wire in sorted(wires, key=_rate_order)
    ]


def cell_folder(root: Path, cell: Cell, *, grid: bool) -> Path:
    """Return where a cell's predictions and report are kept: in a study of several cells each has a folder of its own."""
    return root / "analysis" / cell.name if grid else root / "analysis"


def is_grid(root: Path, cells: Sequence[Cell]) -> bool:
    """Say whether a study has several cells, also while only the first of them has been measured."""
    return len(cells) > 1 or any((root / "analysis" / cell.name).is_dir() for cell in cells)


def predicted_boundaries(experiment: str, known: Sequence[tuple[float, PredictionSet]]) -> list[Boundary]:
    """Return for each world size predicted at two rates or more where it begins to pay, by R alone and by the schedule.

    `known` pairs a wire's rate in bits per second with the predictions there.
    """
    found = []
    for n in sorted({law.world_size for _, predicted in known for law in predicted.break_evens}):
        laws = [(rate, law, predicted) for rate, predicted in known for law in predicted.break_evens if law.world_size == n]
        if len(laws) < 2:
            continue
        work_s, compute_s = (float(np.median([getattr(law, name) for _, law, _ in laws])) for name in ("work_s", "compute_s"))
        shown = [(rate, _schedule_step_s(predicted, n) - law.compute_s) for rate, law, predicted in laws]
        found.append(
            Boundary(
                experiment=experiment,
                world_size=n,
                work_s=work_s,
                compute_s=compute_s,
                ratio_needed=needed if math.isfinite(needed := laws[0][1].ratio_needed) else None,
                by_ratio=crossing([(rate, law.comm_s) for rate, law, _ in laws], work_s - compute_s),
                by_schedule=crossing(shown, work_s - compute_s),
            )
        )
    return found


def measured_boundary(boundary: Boundary, steps_s: Sequence[tuple[float, float]]) -> WireRate | None:
    """Return the rate at which the measured step equals W; None with fewer than two rates. `steps_s`: rate, median step."""
    if len(steps_s) < 2:
        return None
    return crossing([(rate, step_s - boundary.compute_s) for rate, step_s in steps_s], boundary.work_s - boundary.compute_s)


def crossing(times_s: Iterable[tuple[float, float]], limit_s: float) -> WireRate:
    """Return the lowest rate from which the time stays below the limit; none where even an endless rate would not do.

    Times that are not above zero are taken as 1 us: there the wire is no obstacle.
    """
    if limit_s <= 0:
        return WireRate(bits_per_s=None, inside=False)
    points = sorted(times_s)
    rates = np.log([rate for rate, _ in points])
    times = np.log([max(time, 1e-6) for _, time in points])
    limit = np.log(limit_s)
    if times[0] <= limit:  # pays on the slowest wire already
        return _beyond(rates[0] + times[0] - limit)
    if times[-1] > limit:
        return _beyond(rates[-1] + times[-1] - limit)
    above = int(np.flatnonzero(times > limit)[-1])
    share = (times[above] - limit) / (times[above] - times[above + 1])
    return WireRate(bits_per_s=float(np.exp(rates[above] + share * (rates[above + 1] - rates[above]))), inside=True)


def _beyond(log_rate: float) -> WireRate:
    """Return a rate that was not tried, from its logarithm; none where no wire has it."""
    return WireRate(bits_per_s=math.exp(log_rate) if log_rate < math.log(MAX_RATE) else None, inside=False)


def _schedule_step_s(predicted: PredictionSet, world_size: int) -> float:
    return next(p.step_s for p in predicted.predictions if p.model == "schedule" and p.world_size == world_size)


def _belongs(run: Run, experiment: str, wire: str | None) -> bool:
    if run.info.workload is not None and run.info.workload.experiment != experiment:
        return False
    return run.world_size == 1 or run.info.wire == wire


def _rate_order(wire: str | None) -> tuple[float, str]:
    return line_rate(wire) or 0.0, wire or ""
