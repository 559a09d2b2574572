"""Which runs fail the rules of `commprof check`? For a report's warnings, and for its section on health."""

from collections.abc import Sequence

from commprof.analysis.health.check import TOLERANCE, Demands, check_run
from commprof.analysis.health.evidence import load_evidence
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.commbench.errors import BadInput

Judged = list[tuple[str, Verdict]]


def judge(runs: Sequence[Run]) -> tuple[Judged, list[str]]:
    """Return each run's verdicts by its folder's name, the worst first, and why others could not be judged."""
    judged: Judged = []
    refusals = []
    for run in runs:
        try:
            judged += [(run.path.name, v) for v in check_run(load_evidence(run), Demands(), None, TOLERANCE)]
        except BadInput as error:
            refusals.append(f"{run.path.name} could not be judged: {error}.")
    return sorted(judged, key=lambda entry: entry[1].rank), refusals


def failing_rules(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the names of the rules that a run fails, by its folder's name."""
    failing: dict[str, list[str]] = {}
    for name, verdict in judge(runs)[0]:
        if verdict.ok is False:
            failing.setdefault(name, []).append(verdict.name)
    return failing
