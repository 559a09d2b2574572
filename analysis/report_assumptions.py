"""The report's answer to "which assumption failed?": each part of the step as predicted, as measured, and what it explains."""

from collections.abc import Sequence

from analysis.assumptions import check_assumptions
from analysis.load import Run
from analysis.report_page import Table
from analysis.results import AssumptionCheck, PredictionSet
from commbench.units import format_seconds


def checked_assumptions(predicted: PredictionSet, runs: Sequence[Run]) -> tuple[AssumptionCheck, ...]:
    """Return the checks of every world size that was predicted and then run."""
    sizes = sorted({p.world_size for p in predicted.predictions})
    return tuple(check for world_size in sizes for check in check_assumptions(runs, world_size))


def assumption_table(checks: Sequence[AssumptionCheck]) -> Table:
    """Lay the checks out, one row a part."""
    return Table(
        title="Which assumption failed",
        head=("Ranks", "Part", "Assumed", "Predicted", "Measured", "Explains", "Of the error", "Holds"),
        rows=tuple(_row(check) for check in checks),
        words=frozenset({1, 2, 7}),
        note="The rank that recorded its gradients, cut where backward begins, where the last gradient is there, where the "
        "last bucket has landed and where it is copied; medians over steps. A part holds within 2 % of the step.",
    )


def _row(check: AssumptionCheck) -> tuple[str, ...]:
    holds = "yes" if check.holds else "no"
    if check.expected_s is None or check.measured_s is None:
        return (str(check.world_size), check.name, check.assumption, "-", "-", "-", "-", holds)
    return (
        str(check.world_size),
        check.name,
        check.assumption,
        format_seconds(check.expected_s),
        format_seconds(check.measured_s),
        f"{check.explains_s * 1e3:+.1f} ms",
        f"{check.explained_share:.0%}" if check.error_s else "-",
        holds,
    )
