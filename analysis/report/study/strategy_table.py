"""Which strategy was the fastest, and was it the one that was predicted to be? Of trainings that differ in nothing else."""

from collections.abc import Sequence

from commprof.analysis.report.numbers.titles import ranks
from commprof.analysis.report.page.html import Section, Table
from commprof.analysis.step.decided import DISTURBED
from commprof.analysis.strategies.measured import strategy_of
from commprof.analysis.study.grid import Grid
from commprof.analysis.study.table import StudyRow
from commprof.commbench.units import format_seconds

_AS_PREDICTED, _NOISE, _ANOTHER, _UNKNOWN = "as predicted", "within noise", "another", "not all predicted"
_DISTURBED = "cannot be told"
Alike = tuple[object, ...]


def strategy_table(grid: Grid) -> Section | None:
    """Return the section, None where no strategies were run beside each other."""
    groups: dict[Alike, dict[str, StudyRow]] = {}
    for row in grid.checks:
        if (strategy := strategy_of(row.run)) is not None:
            groups.setdefault(_alike(row), {}).setdefault(strategy, row)
    compared = [group for group in groups.values() if len(group) > 1]
    if not compared:
        return None
    verdicts = [_DISTURBED if grid.disturbed is not None else _verdict(group) for group in compared]
    table = Table(
        title="Strategies beside each other",
        note="Of trainings of as many parameters, on the same data with the same batch, micro-batches and precision. Within "
        "noise: the 95 % intervals of both medians overlap.",
        head=("Ranks", "Wire", "Strategies, measured", "Predicted fastest", "Measured fastest", "So"),
        rows=tuple(map(_row, compared, verdicts)),
        words=frozenset({1, 2, 3, 4, 5}),
    )
    return Section(
        name="fastest",
        title="The fastest strategy",
        sentences=(_sentence(verdicts),),
        tables=(table,),
    )


def _sentence(verdicts: Sequence[str]) -> str:
    """Say how often the strategy that was predicted to be the fastest was it, of those groups of which that can be said."""
    if _DISTURBED in verdicts:
        return f"Which strategy was the fastest cannot be told: {DISTURBED}."
    judged = [verdict for verdict in verdicts if verdict != _UNKNOWN]
    if not judged:
        return "Of no trainings all strategies were predicted, so none was predicted to be the fastest."
    named = sum(verdict in (_AS_PREDICTED, _NOISE) for verdict in judged)
    return f"The strategy predicted to be the fastest was it, or within noise of it, in {named} of {len(judged)}."


def _alike(row: StudyRow) -> Alike:
    work = row.workload
    batch = (work.samples_per_rank, work.accumulation, work.sequence_length, work.precision, work.scaling)
    return work.num_parameters, work.dataset, batch, row.wire, row.run.world_size


def _measured(group: dict[str, StudyRow]) -> str:
    return min(group, key=lambda own: group[own].step_s)


def _predicted(group: dict[str, StudyRow]) -> str | None:
    """Return the strategy that was predicted to be the fastest; None where not all of them were predicted."""
    steps_s = {own: row.predictions["schedule"].step_s for own, row in group.items() if "schedule" in row.predictions}
    return min(steps_s, key=lambda own: steps_s[own]) if len(steps_s) == len(group) else None


def _verdict(group: dict[str, StudyRow]) -> str:
    named, fastest = _predicted(group), _measured(group)
    if named is None or named == fastest:
        return _UNKNOWN if named is None else _AS_PREDICTED
    apart = group[fastest].run.step_interval_s().high < group[named].run.step_interval_s().low
    return _ANOTHER if apart else _NOISE


def _row(group: dict[str, StudyRow], verdict: str) -> tuple[str, ...]:
    first = next(iter(group.values()))
    told = ", ".join(f"{own} {format_seconds(row.step_s)}" for own, row in group.items())
    return ranks(first.run.world_size), first.wire or "own", told, _predicted(group) or "-", _measured(group), verdict
