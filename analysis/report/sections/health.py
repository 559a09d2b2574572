"""What a report says of health: the verdicts of `commprof check`, without thresholds, on the runs that measured a wire."""

from collections.abc import Sequence

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.report.numbers.judged import Judged, judge
from commprof.analysis.report.page.html import Section, Table
from commprof.analysis.runs.load import Run

_WORDS = ("fails", "note", "not judged", "passes")
_BY_RANK_TO_READ = 2  # failures and notes are shown, what passes or could not be judged is folded away


def health_section(material: Material) -> Section | None:
    """Return what is wrong with the bench and link runs, worst first; None where there are none."""
    runs = [run for run in material.runs if run.info.kind in ("bench", "links")]
    if not runs:
        return None
    judged, refusals = judge(runs)
    to_read = [entry for entry in judged if entry[1].rank < _BY_RANK_TO_READ]
    rest = [entry for entry in judged if entry[1].rank >= _BY_RANK_TO_READ]
    tables = (
        _table("To look at", to_read, folded=False),
        _table(f"{len(rest)} verdicts that pass or could not be judged", rest, folded=True),
    )
    return Section(
        name="health",
        title="Health",
        folded=material.predicted is not None or not (refusals or any(verdict.ok is False for _, verdict in judged)),
        sentences=(_summary(runs, judged),),
        tables=tuple(table for table in tables if table.rows),
        remarks=tuple(refusals),
    )


def _summary(runs: Sequence[Run], judged: Judged) -> str:
    failing = list(dict.fromkeys(name for name, verdict in judged if verdict.ok is False))
    told = "The rules of commprof check"
    if not failing:
        which = "the one run" if len(runs) == 1 else f"any of the {len(runs)} runs"
        return f"{told} find no fault with {which} that measured a wire."
    return f"{told} fail {len(failing)} of the {len(runs)} runs that measured a wire: {', '.join(failing)}."


def _table(title: str, judged: Judged, *, folded: bool) -> Table:
    return Table(
        title=title,
        note="Limits and reasons are those of commprof check RUN.",
        head=("Run", "Rule", "Verdict", "Why"),
        rows=tuple((name, verdict.name, _WORDS[verdict.rank], verdict.message) for name, verdict in judged),
        words=frozenset({0, 1, 2, 3}),
        folded=folded,
    )
