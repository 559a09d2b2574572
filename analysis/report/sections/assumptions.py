"""The report's answer to "which assumption failed?": each part of the step as predicted, as measured, and what it explains."""

from collections.abc import Sequence

from commprof.analysis.report.page.html import Cell, Noted, Table
from commprof.analysis.step.results import AssumptionCheck
from commprof.commbench.units import format_seconds

_LARGEST_SHARE = 5.0


def assumption_table(checks: Sequence[AssumptionCheck]) -> Table:
    """Lay the checks out, one row a part."""
    return Table(
        title="Which assumption failed",
        head=("Ranks", "Part", "Predicted", "Measured", "Explains", "Of the error", "Holds"),
        rows=tuple(_row(check) for check in checks),
        words=frozenset({1, 6}),
        folded=True,
        note="The rank that recorded its gradients, cut where backward begins, where the last gradient is there, where the "
        "last bucket has landed and where it is copied; medians over steps. A part holds within 2 % of the step.",
    )


def _row(check: AssumptionCheck) -> tuple[Cell, ...]:
    part = Noted(value=check.name, note=check.assumption)
    numbers = ("-",) * 4
    if check.expected_s is not None and check.measured_s is not None:
        seconds = (format_seconds(check.expected_s), format_seconds(check.measured_s))
        numbers = (*seconds, f"{check.explains_s * 1e3:+.1f} ms", _share(check))
    return (str(check.world_size), part, *numbers, "yes" if check.holds else "no")


def _share(check: AssumptionCheck) -> str:
    """Tell the share of the error, unless the error is next to nothing and parts that cancel each other are many times it."""
    return f"{check.explained_share:.0%}" if abs(check.explained_share) < _LARGEST_SHARE else "-"
