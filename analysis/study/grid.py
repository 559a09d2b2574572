"""A study of several models and wires as a value: its cells, what was predicted and measured of each, and where it pays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.experiment import Cell, measured_boundary
from commprof.analysis.study.results import Boundary, WireRate
from commprof.analysis.study.sharded import KeptChoices
from commprof.analysis.study.table import StudyRow
from commprof.analysis.wire.ceiling import line_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All that the page speaks of: cells and their predictions, rows of study.csv, boundaries, where it and their pages lie."""

    root: Path
    cells: tuple[tuple[Cell, PredictionSet | None], ...]
    rows: tuple[StudyRow, ...]
    boundaries: tuple[Boundary, ...]
    page: Path
    pages: tuple[Path, ...]
    disturbed: str | None = None
    failures: tuple[tuple[str, str], ...] = ()  # stages without a completed run, and why
    sharded: Mapping[str, KeptChoices] = field(default_factory=dict)  # what was predicted of sharded cells, by their names

    @property
    def checks(self) -> list[StudyRow]:
        """The synchronised runs on several ranks."""
        return [row for row in self.rows if row.run.world_size > 1]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(cell.experiment for cell, _ in self.cells))

    def cell_of(self, row: StudyRow) -> tuple[Cell, PredictionSet | None]:
        """Return the cell that a run belongs to, with its predictions."""
        return next(own for own in self.cells if (own[0].experiment, own[0].wire) == (row.workload.experiment, row.wire))


def measured_speedups(grid: Grid, experiment: str, world_size: int) -> list[tuple[float, float]]:
    """Return (rate in bit/s, median speedup over repeats) of a model at one world size, slowest wire first."""
    by_rate: dict[float, list[float]] = {}
    for row in grid.checks:
        rate = line_rate(row.wire)
        if (row.workload.experiment, row.run.world_size) == (experiment, world_size) and rate and row.speedup:
            by_rate.setdefault(rate, []).append(row.speedup)
    return [(rate, median(values)) for rate, values in sorted(by_rate.items())]


def boundary_of(grid: Grid, boundary: Boundary) -> WireRate | None:
    """Return where the measured runs began to pay; None where too few wires were tried."""
    speedups = measured_speedups(grid, boundary.experiment, boundary.world_size)
    return measured_boundary(boundary, [(rate, boundary.work_s / speedup) for rate, speedup in speedups])
