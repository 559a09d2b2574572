"""A study of several models and wires as one page: who pays where, as predicted before the runs and as measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote

from analysis.experiment import Cell, line_rate, measured_boundary
from analysis.grid_plots import speedup_over_rate
from analysis.plots import MODELS as MODEL_NAMES
from analysis.plots import ranks
from analysis.report_page import Cell as Entry
from analysis.report_page import Headline, Link, Picture, Report, Section, Table, between
from analysis.results import Boundary, PredictionSet, WireRate
from analysis.study_table import MODELS, StudyRow
from commbench.rundir import now_utc
from commbench.units import format_line_rate, format_seconds

_NOT_KNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All that the page speaks of: each cell with its predictions, the rows of study.csv, the boundaries, the cells' pages."""

    root: Path
    cells: tuple[tuple[Cell, PredictionSet | None], ...]
    rows: tuple[StudyRow, ...]
    boundaries: tuple[Boundary, ...]
    pages: tuple[Path, ...]
    failures: tuple[tuple[str, str], ...] = ()  # stages without a completed run, and why

    @property
    def checks(self) -> list[StudyRow]:
        """The synchronised runs on several ranks."""
        return [row for row in self.rows if row.run.world_size > 1]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(cell.experiment for cell, _ in self.cells))


def build_grid_report(grid: Grid) -> Report:
    """Put the page together: where it pays, how far the predictions were off, every cell with a link to its own report."""
    return Report(
        title=grid.root.resolve().name,
        subtitle=f"{', '.join(grid.experiments)}; wires: {', '.join(dict.fromkeys(c.wire or 'own' for c, _ in grid.cells))}",
        headline=_headline(grid),
        sentences=tuple(_sentences(grid)),
        warnings=tuple(_warnings(grid)),
        pictures=tuple(_pictures(grid)),
        sections=(_boundary_section(grid), _error_section(grid), _cell_section(grid)),
        written_at=now_utc(),
    )


def measured_speedups(grid: Grid, experiment: str, world_size: int) -> list[tuple[float, float]]:
    """Return (rate in bit/s, median speedup over repeats) of a model at one world size, slowest wire first."""
    by_rate: dict[float, list[float]] = {}
    for row in grid.checks:
        rate = line_rate(row.wire)
        if (row.workload.experiment, row.run.world_size) == (experiment, world_size) and rate and row.speedup:
            by_rate.setdefault(rate, []).append(row.speedup)
    return [(rate, median(values)) for rate, values in sorted(by_rate.items())]


def boundary_of(grid: Grid, boundary: Boundary) -> WireRate | None:
    """Return where the measured runs began to pay."""
    speedups = measured_speedups(grid, boundary.experiment, boundary.world_size)
    return measured_boundary(boundary, [(rate, boundary.work_s / speedup) for rate, speedup in speedups])


def _headline(grid: Grid) -> Headline | None:
    errors = [abs(error) for row in grid.checks if (error := row.error("schedule")) is not None]
    if not errors:
        return None
    written = {(cell.experiment, cell.wire): predicted.created_at for cell, predicted in grid.cells if predicted is not None}
    late = sum(row.run.info.started_at < written[row.workload.experiment, row.wire] for row in grid.checks if row.predictions)
    when = "every prediction was written before its run" if not late else f"{late} of them began before their prediction"
    detail = f"At worst {max(errors):.1%}, over {len(errors)} runs; {when}."
    return Headline(number=f"{median(errors):.1%}", meaning="median error of the predicted step", detail=detail)


def _sentences(grid: Grid) -> Iterator[str]:
    for boundary in grid.boundaries:
        yield _boundary_sentence(grid, boundary)
    if not grid.boundaries:
        for row in grid.checks:
            if row.speedup is not None:
                schedule = row.predictions.get("schedule")
                predicted = f", predicted {schedule.speedup:.2f}x" if schedule else ""
                yield f"{row.workload.experiment} on {ranks(row.run.world_size)}: {row.speedup:.2f}x one rank{predicted}."


def _boundary_sentence(grid: Grid, boundary: Boundary) -> str:
    who = f"{boundary.experiment} on {ranks(boundary.world_size)}"
    if boundary.by_schedule.bits_per_s is None:
        return f"{who} was predicted to pay on no wire: side by side they compute as long as one rank for the same samples."
    text = (
        f"{who} was predicted to pay from {_rate(boundary.by_schedule)} on (by R alone, nothing hidden, from "
        f"{_rate(boundary.by_ratio)} on)"
    )
    measured = boundary_of(grid, boundary)
    if measured is None:
        return f"{text}; too few runs have checked it."
    said = ", ".join(
        f"{speedup:.2f}x at {format_line_rate(rate)}"
        for rate, speedup in measured_speedups(grid, boundary.experiment, boundary.world_size)
    )
    found = "never pays" if measured.bits_per_s is None else f"pays from {_rate(measured)} on"
    return f"{text}; measured, it {found} ({said})."


def _rate(rate: WireRate) -> str:
    if rate.bits_per_s is None:
        return "no rate"
    text = format_line_rate(float(f"{rate.bits_per_s:.3g}"))
    return text if rate.inside else f"about {text} (beyond the rates tried)"


def _warnings(grid: Grid) -> Iterator[str]:
    shared = [row.run.info for row in grid.checks if row.run.info.oversubscribed or row.wire is not None]
    if shared:
        most = max(shared, key=lambda info: info.world_size)
        emulated = " The hosts are emulated on one machine." if most.wire is not None else ""
        yield (
            f"Up to {most.world_size} ranks share {most.cores_per_node} cores.{emulated} How long N ranks compute side by "
            "side was measured at that N, with nothing sent, and the predictions rest on it: they answer for this machine, "
            "not for hosts of their own."
        )
    yield from (f"{stage} has no result: {reason}" for stage, reason in grid.failures)
    missing = [cell.name for cell, predicted in grid.cells if predicted is None]
    if missing:
        yield f"No prediction could be made for {', '.join(missing)}."


def _pictures(grid: Grid) -> Iterator[Picture]:
    for experiment in grid.experiments:
        known = [(line_rate(cell.wire), predicted) for cell, predicted in grid.cells if cell.experiment == experiment]
        rated = [(rate, predicted) for rate, predicted in known if rate is not None and predicted is not None]
        if len(rated) < 2:
            continue
        sizes = sorted({p.world_size for _, predicted in rated for p in predicted.predictions})
        measured = {n: measured_speedups(grid, experiment, n) for n in sizes}
        own = [boundary for boundary in grid.boundaries if boundary.experiment == experiment]
        crossings = {b.world_size: (b, boundary_of(grid, b)) for b in own}
        said = "; ".join(
            f"{ranks(n)}: " + ", ".join(f"{speedup:.2f}x at {format_line_rate(rate)}" for rate, speedup in points)
            for n, points in measured.items()
        )
        yield Picture(
            name=f"rates-{experiment}",
            title=f"{experiment}: speedup over the rate of the wire",
            figure=speedup_over_rate(rated, measured, crossings),
            alt=f"Speedup against the rate of the wire. Measured: {said}.",
            caption="Lines: predicted before the runs, bars their 90 % intervals. Markers: measured medians. Above 1 N ranks "
            "are faster than one. Dashed: where the schedule predicted that; dotted: where the runs show it.",
            sources=("analysis/study.csv", *(f"analysis/{cell.name}/predictions.json" for cell, _ in grid.cells)),
        )


def _boundary_section(grid: Grid) -> Section:
    rows = []
    for boundary in grid.boundaries:
        measured = boundary_of(grid, boundary)
        times = (format_seconds(boundary.work_s), format_seconds(boundary.compute_s))
        found = _rate(measured) if measured is not None else _NOT_KNOWN
        predicted = (f"{boundary.ratio_needed:.3g}", _rate(boundary.by_ratio), _rate(boundary.by_schedule))
        rows.append((boundary.experiment, str(boundary.world_size), *times, *predicted, found))
    table = Table(
        title="From which rate on N ranks are faster than one",
        note="W: one rank for the samples of one step of N. R = W / T_comm must exceed 1 / (1 - T_compute/W). Written to "
        "boundaries.json before the runs, but for the last column.",
        head=("Model", "Ranks", "W", "T_compute", "R needed", "Predicted by R", "Predicted by the schedule", "Measured"),
        rows=tuple(rows),
        words=frozenset({0}),
    )
    return Section(name="boundary", title="Where it begins to pay", tables=(table,) if rows else ())


def _error_section(grid: Grid) -> Section:
    rows = []
    for model in MODELS:
        steps = [error for row in grid.checks if (error := row.error(model)) is not None]
        overheads = [error for row in grid.checks if (error := row.overhead_error(model)) is not None]
        if steps:
            rows.append((MODEL_NAMES[model], *_spread(steps), *_spread(overheads), str(len(steps))))
    table = Table(
        title="How far each model is off",
        note="Error: (predicted - measured) / measured. Overhead: T_N - T_compute(N) measured, beside what the model adds to "
        "its own computation: T_compute(N) for the schedule, one rank's share for the simple models.",
        head=("Model", "Step, median |error|", "Worst", "Overhead, median |error|", "Worst", "Runs"),
        rows=tuple(rows),
        words=frozenset({0}),
    )
    return Section(name="errors", title="Prediction errors", tables=(table,) if rows else ())


def _spread(errors: Sequence[float]) -> tuple[str, str]:
    if not errors:
        return _NOT_KNOWN, _NOT_KNOWN
    return f"{median(map(abs, errors)):.1%}", f"{max(errors, key=abs):+.1%}"


def _cell_section(grid: Grid) -> Section:
    pages = {cell.name: page for (cell, _), page in zip(grid.cells, grid.pages, strict=True)}
    names = {(cell.experiment, cell.wire): cell.name for cell, _ in grid.cells}
    rows = []
    for row in grid.checks:
        name = names[row.workload.experiment, row.wire]
        href = quote(str(pages[name].relative_to(grid.root / "analysis")))
        rows.append((Link(text=name, href=href), str(row.run.world_size), str(row.repeat), *_numbers(row)))
    table = Table(
        title="Every run that checked a prediction",
        note="Each name leads to that cell's own report.",
        head=("Cell", "Ranks", "Repeat", "T_compute", "R", "Predicted step", "90 % interval", "Measured", "Error", "Speedup"),
        rows=tuple(rows),
        words=frozenset({0}),
    )
    return Section(name="cells", title="Cells", tables=(table,))


def _numbers(row: StudyRow) -> tuple[Entry, ...]:
    schedule, error = row.predictions.get("schedule"), row.error("schedule")
    interval = schedule.interval_s if schedule is not None else None
    return (
        _NOT_KNOWN if row.compute_s is None else format_seconds(row.compute_s),
        _NOT_KNOWN if row.ratio is None else f"{row.ratio:.3g}",
        _NOT_KNOWN if schedule is None else format_seconds(schedule.step_s),
        _NOT_KNOWN if interval is None else between(interval.low, interval.high, format_seconds),
        format_seconds(row.step_s),
        _NOT_KNOWN if error is None else f"{error:+.1%}",
        _NOT_KNOWN if row.speedup is None else f"{row.speedup:.2f}x",
    )
