"""A study of several models and wires as one page: who pays where, as predicted before the runs and as measured."""

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from urllib.parse import quote

from commprof.analysis.report.figures.grid import speedup_over_rate
from commprof.analysis.report.figures.predictions import MODELS as MODEL_NAMES
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.page.html import Cell as Entry
from commprof.analysis.report.page.html import Link, Noted, Picture, Report, Section, Table, between
from commprof.analysis.report.study.grid_verdict import grid_headline, grid_lines, shown_rate
from commprof.analysis.report.study.strategy_table import strategy_table
from commprof.analysis.step.kept import PREDICTIONS_FILE
from commprof.analysis.study.experiment import BOUNDARY_FILE
from commprof.analysis.study.grid import Grid, boundary_of, measured_speedups
from commprof.analysis.study.results import WireRate
from commprof.analysis.study.sharded import STRATEGIES_FILE
from commprof.analysis.study.table import MODELS, StudyRow
from commprof.analysis.wire.ceiling import line_rate
from commprof.commbench.records.rundir import now_utc
from commprof.commbench.units import format_line_rate, format_seconds

_NOT_KNOWN = "-"


def build_grid_report(grid: Grid) -> Report:
    """Put the page together: where it pays, how far the predictions were off, every cell with a link to its own report."""
    warned = tuple(_warnings(grid))
    sections = (_boundary_section(grid), strategy_table(grid), _error_section(grid), _cell_section(grid))
    shown = tuple(section for section in sections if section is not None)
    wires = ", ".join(dict.fromkeys(cell.wire or "own" for cell, _ in grid.cells))
    return Report(
        title="From which wire on do several ranks pay?" if grid.boundaries else "Which trainings gain from several ranks?",
        answer=_answer(grid),
        subtitle=f"{grid.root.resolve().name}, {', '.join(grid.experiments)}; wires: {wires}",
        headline=grid_headline(grid),
        sentences=grid_lines(grid, len(warned)).lines,
        sources=("analysis/study.csv", *_predictions(grid)),
        warnings=warned,
        pictures=tuple(_pictures(grid)),
        sections=shown,
        written_at=now_utc(),
        summary=next((table for section in shown for table in section.tables), None),
    )


def _answer(grid: Grid) -> str:
    """Return the headline in a few words, for the navigation; a grid is neither yes nor no."""
    head = grid_headline(grid)
    return "Cannot be told" if head is None else f"{head.number} runs pay"


def _warnings(grid: Grid) -> Iterator[str]:
    shared = [row.run.info for row in grid.checks if row.run.info.oversubscribed or row.wire is not None]
    if shared:
        most = max(shared, key=lambda info: info.world_size)
        emulated = " The hosts are emulated on one machine." if most.wire is not None else ""
        beside = (
            "How long N ranks compute side by side was measured at that N, with nothing sent, and the predictions rest on it: "
            "they"
            if all(row.compute_s is not None for row in grid.checks)
            else "Where T_compute is missing below, nobody measured how long N ranks compute side by side. The predictions"
        )
        yield (
            f"Up to {most.world_size} ranks share {most.cores_per_node} cores.{emulated} {beside} answer for this machine, not "
            "for hosts of their own."
        )
    yield from (f"{stage} has no result: {reason}" for stage, reason in grid.failures)
    missing = [cell.name for cell, predicted in grid.cells if predicted is None and cell.name not in grid.sharded]
    if missing:
        yield f"No prediction could be made for {', '.join(missing)}."
    refused = {(grid.cell_of(row)[0].name, row.run.world_size): row.incomparable for row in grid.checks if row.incomparable}
    yield from (f"{name} on {ranks(n)}: {reason}." for (name, n), reason in refused.items())


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
            draw=partial(speedup_over_rate, rated, measured, crossings),
            alt=f"Speedup against the rate of the wire. Measured: {said}.",
            caption="Lines: predicted before the runs, bars their 90 % intervals. Markers: measured medians. Above 1 N ranks "
            "are faster than one. Dashed: where the schedule predicted that; dotted: where the runs show it.",
            sources=("analysis/study.csv", *_predictions(grid)),
        )


def _predictions(grid: Grid) -> Iterator[str]:
    if grid.boundaries:
        yield f"analysis/{BOUNDARY_FILE}"
    yield from (f"analysis/{cell.name}/{PREDICTIONS_FILE}" for cell, predicted in grid.cells if predicted is not None)
    yield from (f"analysis/{name}/{STRATEGIES_FILE}" for name in grid.sharded)


def _boundary_section(grid: Grid) -> Section | None:
    if not grid.boundaries:
        return None
    rows: list[tuple[Entry, ...]] = []
    for boundary in grid.boundaries:
        who = Noted(value=boundary.experiment, note=ranks(boundary.world_size))
        times = (
            format_seconds(boundary.work_s),
            format_seconds(boundary.compute_s),
            "none" if boundary.ratio_needed is None else f"{boundary.ratio_needed:.3g}",
        )
        rates = (_rate(rate) for rate in (boundary.by_ratio, boundary.by_schedule, boundary_of(grid, boundary)))
        speedups = measured_speedups(grid, boundary.experiment, boundary.world_size)
        seen = ", ".join(f"{speedup:.2f}x at {format_line_rate(rate)}" for rate, speedup in speedups)
        rows.append((who, *times, *rates, seen or _NOT_KNOWN))
    table = Table(
        title="From which rate on N ranks are faster than one",
        note="W: one rank for the samples of one step of N. R = W / T_comm must exceed 1 / (1 - T_compute/W). By R: with "
        "nothing hidden. By schedule: as simulated. Both were written to boundaries.json before the runs.",
        head=("Model", "W", "T_compute", "R needed", "By R", "By schedule", "Measured", "Speedups, measured"),
        rows=tuple(rows),
        words=frozenset({0, 7}),
    )
    return Section(name="boundary", title="Where it begins to pay", tables=(table,))


def _rate(rate: WireRate | None) -> Entry:
    if rate is None:
        return _NOT_KNOWN
    shown = shown_rate(rate)
    return shown if rate.inside or rate.bits_per_s is None else Noted(value=shown, note="not tried near it")


def _error_section(grid: Grid) -> Section | None:
    rows = []
    for model in MODELS:
        steps = [error for row in grid.checks if (error := row.error(model)) is not None]
        overheads = [error for row in grid.checks if (error := row.overhead_error(model)) is not None]
        if steps:
            rows.append((MODEL_NAMES[model], *_spread(steps), *_spread(overheads), str(len(steps))))
    if not rows:
        return None
    table = Table(
        title="How far each model is off",
        note="Error: (predicted - measured) / measured. Overhead: T_N - T_compute(N) measured, beside what the model adds to "
        "its own computation: T_compute(N) for the schedule, one rank's share for the simple models.",
        head=("Model", "Step, median |error|", "Worst", "Overhead, median |error|", "Worst", "Runs"),
        rows=tuple(rows),
        words=frozenset({0}),
    )
    return Section(name="errors", title="Prediction errors", tables=(table,))


def _spread(errors: Sequence[float]) -> tuple[str, str]:
    if not errors:
        return _NOT_KNOWN, _NOT_KNOWN
    return f"{median(map(abs, errors)):.1%}", f"{max(errors, key=abs):+.1%}"


def _cell_section(grid: Grid) -> Section:
    pages = {cell.name: page for (cell, _), page in zip(grid.cells, grid.pages, strict=True)}
    rows = []
    for row in grid.checks:
        name = grid.cell_of(row)[0].name
        href = quote(str(pages[name].relative_to(grid.page.parent)))
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
