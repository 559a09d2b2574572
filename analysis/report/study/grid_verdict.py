"""A grid in one number and a few sentences: how many runs are faster than one rank, from which rate on, what holds back the
slowest, and what to try there first."""

import shlex
from collections.abc import Iterator, Sequence
from statistics import median

from commprof.analysis.report.numbers.next_command import study_elsewhere
from commprof.analysis.report.numbers.six_lines import SixLines
from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.numbers.verdict import cause_and_cure, outcomes
from commprof.analysis.report.page.html import Headline
from commprof.analysis.study.grid import Grid, boundary_of
from commprof.analysis.study.results import Boundary, WireRate
from commprof.analysis.study.table import StudyRow
from commprof.commbench.records.rundir import read_info
from commprof.commbench.units import format_line_rate, format_seconds

_MOST_NAMED = 3


def grid_headline(grid: Grid) -> Headline | None:
    """Count the runs that are faster than one rank, their speedups' range below, and say how far predictions were off.

    Nothing is counted of disturbed runs.
    """
    rated = _rated(grid)
    if not rated or grid.disturbed is not None:
        return None
    (_, slowest), (_, fastest) = rated[0], rated[-1]
    return Headline(
        number=f"{sum(speedup > 1 for _, speedup in rated)} of {len(rated)}",
        meaning="runs on several ranks were faster than one rank",
        interval=f"Measured: {slowest:.2f}x to {fastest:.2f}x.",
        detail=_accuracy(grid),
    )


def grid_lines(grid: Grid, num_warnings: int) -> SixLines:
    """Return where it pays, and of the cell with the lowest speedup what holds it back and what to try first."""
    why, change = _why_and_change(grid)
    return SixLines(
        verdict=_verdict(grid),
        why=why,
        how_sure=" ".join(_how_sure(grid, num_warnings)),
        cost="stands on each cell's page: models and wires have no one cost.",
        change=change,
        next_command=_next_command(grid),
    )


def _verdict(grid: Grid) -> str:
    rated = _rated(grid)
    if grid.disturbed is not None:
        return "where several ranks pay cannot be told: other processes disturbed these runs."
    if not rated:
        incomparable = any(row.incomparable for row in grid.checks)
        missing = "no run on several ranks has completed beside one on one rank."
        of_none = f"None of {len(grid.checks)} runs on several ranks can be compared with one rank; why is said below."
        return of_none if incomparable else f"where several ranks pay cannot be told: {missing}"
    (row, least), (best_row, most) = rated[0], rated[-1]
    told = list(_boundaries(grid))
    between = f"Speedups lie between {least:.2f}x ({_named(row)}) and {most:.2f}x ({_named(best_row)})."
    return " ".join(told or [_paying(rated), between])


def _paying(rated: Sequence[tuple[StudyRow, float]]) -> str:
    """Say in how many runs several ranks were faster than one, and in which they were not, the slowest first."""
    slower = [_named(row) for row, speedup in rated if speedup <= 1]
    more = f" and {len(slower) - _MOST_NAMED} more" if len(slower) > _MOST_NAMED else ""
    but = f": not of {', '.join(slower[:_MOST_NAMED])}{more}" if slower else ""
    return f"Several ranks pay in {len(rated) - len(slower)} of {len(rated)} runs{but}."


def _why_and_change(grid: Grid) -> tuple[str, str]:
    """Tell both of the cell with the lowest speedup."""
    rated = _rated(grid)
    if grid.disturbed is not None:
        return "cannot be told from disturbed runs.", "End what else runs there, and measure again."
    if rated:
        (row, least) = rated[0]
        cell, predicted = grid.cell_of(row)
        n = row.run.world_size
        if predicted is not None and any((p.model, p.world_size) == ("schedule", n) for p in predicted.predictions):
            cause, cure = cause_and_cure(predicted, outcomes(predicted, cell.runs), cell.runs, n)
            return f"Slowest against one rank, at {least:.2f}x, is {_named(row)}. {cause}", cure
        if cell.name in grid.sharded and (own := row.predictions.get("schedule")) is not None:
            hidden = f"{format_seconds(own.exposed_s)} of its predicted {format_seconds(own.step_s)} a step"
            return (
                f"Slowest against one rank, at {least:.2f}x, is {_named(row)}: communication that nothing hides is {hidden}.",
                "another strategy: commprof predict --strategy compares them from these runs.",
            )
    return "cannot be told without predictions of runs that can be compared.", "nothing can be advised without a prediction."


def _how_sure(grid: Grid, num_warnings: int) -> Iterator[str]:
    if grid.disturbed is not None:
        yield grid.disturbed
    yield _accuracy(grid)
    if num_warnings:
        yield f"Read with care: {num_warnings} {'warning' if num_warnings == 1 else 'warnings'} in the report."


def _next_command(grid: Grid) -> str:
    command = read_info(grid.root).command
    if grid.disturbed is not None:
        return f"{study_elsewhere(grid.root, command)}: the same on a quiet machine"
    if grid.failures:
        again = shlex.join(["commprof", *command[1:]]) if command else "commprof study"
        return f"{again}: tries again what has no result"
    return f"commprof plots {shlex.quote(str(grid.root))}: every cell's figures as files; each cell has a page of its own below"


def shown_rate(rate: WireRate) -> str:
    """Write a rate to three digits, with a word where no wire near it was tried."""
    if rate.bits_per_s is None:
        return "no rate"
    text = format_line_rate(float(f"{rate.bits_per_s:.3g}"))
    return text if rate.inside else f"about {text}"


def _rated(grid: Grid) -> list[tuple[StudyRow, float]]:
    """Return the runs on several ranks with their speedups, the lowest first."""
    rated = [(row, speedup) for row in grid.checks if (speedup := row.speedup) is not None]
    return sorted(rated, key=lambda pair: pair[1])


def _named(row: StudyRow) -> str:
    where = f" at {row.wire}" if row.wire else ""
    return f"{row.workload.experiment} on {ranks(row.run.world_size)}{where}"


def _accuracy(grid: Grid) -> str:
    errors = [abs(error) for row in grid.checks if (error := row.error("schedule")) is not None]
    if not errors:
        return "Nothing was predicted."
    written = {cell.name: predicted.created_at for cell, predicted in grid.cells if predicted is not None}
    written |= {name: own.created_at for name, own in grid.sharded.items()}
    late = sum(row.run.info.started_at < written[grid.cell_of(row)[0].name] for row in grid.checks if row.predictions)
    when = "every prediction was written before its run" if not late else f"{late} of them began before their prediction"
    off = f"{median(errors):.1%} off in the median, {max(errors):.1%} at worst"
    return f"Steps were predicted {off}, over {len(errors)} runs; {when}."


def _boundaries(grid: Grid) -> Iterator[str]:
    """Yield between which rates the models begin to pay, and how far off that was predicted; nothing without boundaries."""
    found = [(boundary, rate) for boundary in grid.boundaries if (rate := boundary_of(grid, boundary)) is not None]
    paying = sorted((rate.bits_per_s, _who(boundary), rate) for boundary, rate in found if rate.bits_per_s is not None)
    if paying:
        yield f"Several ranks begin to pay {_span(paying)}{_missed(found)}."
    if never := [_who(boundary) for boundary, rate in found if rate.bits_per_s is None]:
        yield f"No wire is fast enough for {', '.join(never)}: side by side they compute as long as one rank does alone."
    if not found:
        yield from _expected(grid.boundaries)


def _missed(found: Sequence[tuple[Boundary, WireRate]]) -> str:
    """Say by how much the predicted rates miss the measured ones at most, for the schedule and for R alone."""
    pairs = [(own.by_schedule.bits_per_s, own.by_ratio.bits_per_s, rate.bits_per_s) for own, rate in found]
    known = [(schedule / rate, ratio / rate) for schedule, ratio, rate in pairs if schedule and ratio and rate]
    if not known:
        return ""
    by_schedule, by_ratio = (max(abs(own - 1) for own in column) for column in zip(*known, strict=True))
    return f"; predicted before the runs within {by_schedule:.0%}, by R alone within {by_ratio:.0%}"


def _expected(boundaries: Sequence[Boundary]) -> Iterator[str]:
    rated = [(own.by_schedule.bits_per_s, _who(own), own.by_schedule) for own in boundaries]
    known = sorted(entry for entry in rated if entry[0] is not None)
    if known:
        yield f"Several ranks are predicted to begin to pay {_span(known)}; too few runs have checked it."


def _span(rates: Sequence[tuple[float | None, str, WireRate]]) -> str:
    """Write the lowest and the highest of some rates, in order, with who has them."""
    (_, first, low), (_, last, high) = rates[0], rates[-1]
    if len(rates) == 1:
        return f"from {shown_rate(low)} on ({first})"
    return f"between {shown_rate(low)} ({first}) and {shown_rate(high)} ({last})"


def _who(boundary: Boundary) -> str:
    return f"{boundary.experiment} on {ranks(boundary.world_size)}"
