"""Why does N ranks' step take longer than one rank's? The largest of its parts, in a clause that follows `because`."""

from commprof.analysis.step.results import Overhead
from commprof.commbench.units import format_seconds

_CLAUSES = {
    "compute": "computation that slows down side by side takes",
    "waiting": "waiting for the slowest rank takes",
    "copies": "copying gradients into and out of buckets takes",
    "exposed": "communication that nothing hides takes",
    "unexplained": "something that is not in the prediction takes",
}


def largest_part(overhead: Overhead, beyond_s: float | None = None) -> tuple[tuple[str, float], float]:
    """Return the largest part beyond one rank's step, by name, and the step that it is a part of.

    `beyond_s` are the seconds that a run took longer than predicted; None where no run has checked it.
    """
    parts = {
        "compute": overhead.compute_s,
        "waiting": overhead.waiting_s,
        "copies": overhead.copies_s,
        "exposed": overhead.exposed_s,
    }
    if beyond_s is not None:
        parts["unexplained"] = beyond_s
    return max(parts.items(), key=lambda part: part[1]), overhead.step_s + (beyond_s or 0.0)


def clause(overhead: Overhead, *, shared: bool, beyond_s: float | None = None) -> str:
    """Say what takes the largest part of what N ranks lose; `shared` says that they share cores."""
    (name, seconds), total = largest_part(overhead, beyond_s)
    share = f"{format_seconds(seconds)} of each {format_seconds(total)} step"
    if name == "compute" and shared:
        return f"its ranks share cores, which takes {share}"
    return f"{_CLAUSES[name]} {share}"
