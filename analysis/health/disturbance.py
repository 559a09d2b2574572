"""Did others keep the cores that a run's ranks would have had? As a verdict (analysis/runs/disturbance.py)."""

from collections.abc import Iterator

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.disturbance import MIN_CORES, most_disturbed


def disturbance(evidence: Evidence) -> Iterator[Verdict]:
    """Yield that others took cores from a run; nothing where they did not, or where it cannot be told."""
    if found := most_disturbed(evidence.run, evidence.hosts, evidence.telemetry):
        message = f"{found}: whatever these times show may come of that; end them and measure again"
        yield Verdict(name="disturbance", ok=False, measured=found.others, limit=MIN_CORES, unit="1", message=message)
