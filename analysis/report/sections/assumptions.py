"""The report's answer to "which assumption failed?": each part of the step as predicted, as measured, and what it explains."""

from collections.abc import Sequence

from commprof.analysis.report.page.html import Cell, Noted, Table
from commprof.analysis.step.results import AssumptionCheck
from commprof.commbench.units import format_seconds


def assumption_table(checks: Sequence[AssumptionCheck]) -> Table:
    """Lay the checks out, one row a part."""
    return Table(
        title="Which assumption failed",
        head=("Ranks", "Part", "Predicted", "Measured", "Explains", "Of all deviations", "Holds"),
        rows=tuple(_row(check, _deviations_s(checks, check.world_size)) for check in checks),
        words=frozenset({1, 6}),
        folded=True,
        note="The rank that recorded its gradients, cut where backward begins, where the last gradient is there, where the "
        "last bucket has landed and where it is copied; medians over steps. A part holds within 2 % of the step; communication "
        "only where it is also off by less than half of what was predicted, or by less than 1 % of the step. Deviations are "
        "counted without sign, so that their shares add up.",
    )


def _row(check: AssumptionCheck, all_s: float) -> tuple[Cell, ...]:
    part = Noted(value=check.name, note=check.assumption)
    numbers = ("-",) * 4
    if check.expected_s is not None and check.measured_s is not None:
        seconds = (format_seconds(check.expected_s), format_seconds(check.measured_s))
        numbers = (*seconds, f"{check.explains_s * 1e3:+.1f} ms", f"{abs(check.explains_s) / all_s:.0%}" if all_s else "-")
    return (str(check.world_size), part, *numbers, "yes" if check.holds else "no")


def _deviations_s(checks: Sequence[AssumptionCheck], world_size: int) -> float:
    """Return the seconds by which all parts at a world size are off, shorter ones and longer ones alike."""
    return sum(abs(check.explains_s) for check in checks if check.world_size == world_size)
