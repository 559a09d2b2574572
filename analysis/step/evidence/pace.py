"""At what pace did the machine compute during a run, whatever it trained? From the probes between its steps.

With x the logarithm of a probe, the mean of its samples over all ranks, a run's pace is the mean of its x and has the standard
error s/sqrt(k) of k probes. Paces are compared between runs of as many ranks with as many threads, which share cores alike:

    factor of a run = e^(mean pace of the runs - its own), 1 where that is within 1.96 standard errors of both
    drift^2         = variance between the runs' paces - mean of their squared errors, none where it is below zero

the second being how a machine differs from one run to another, minutes apart, which the stretches of one run do not show.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log, sqrt
from statistics import fmean, stdev, variance

from commprof.analysis.runs.load import Run

_Z95 = 1.96
_FEWEST = 2  # probes: one tells no error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The logarithm of the seconds that the probe took, mean over a run, and its standard error."""

    log_s: float
    error: float


def pace_of(run: Run) -> Pace | None:
    """Return a run's pace; None where fewer than two probes of all ranks tell it."""
    if not run.pace or set(run.pace) != set(run.steps):
        return None
    by_rank = [[fmean(probe.samples_s) for probe in probes] for probes in run.pace.values()]
    if min(map(len, by_rank)) < _FEWEST:
        return None
    logs = [log(fmean(together)) for together in zip(*by_rank, strict=False)]
    return Pace(log_s=fmean(logs), error=stdev(logs) / sqrt(len(logs)))


def pace_factors(runs: Sequence[Run]) -> tuple[float, ...]:
    """Return what each run's times are to be multiplied by to be on the scale of all: 1 where a run's pace is not known."""
    paces = [pace_of(run) for run in runs]
    known = [pace for pace in paces if pace is not None]
    if len(known) < len(runs) or len({_kind(run) for run in runs}) != 1:
        return (1.0,) * len(runs)
    middle, error = fmean(pace.log_s for pace in known), sqrt(fmean(pace.error**2 for pace in known) / len(known))
    return tuple(exp(middle - own.log_s) if abs(own.log_s - middle) > _Z95 * hypot(own.error, error) else 1.0 for own in known)


def pace_drift(runs: Sequence[Run]) -> float:
    """Return the standard deviation of the pace from run to run, relative, pooled over kinds of runs; 0 where none repeats."""
    kinds: defaultdict[object, list[Pace]] = defaultdict(list)
    for run in runs:
        if (pace := pace_of(run)) is not None:
            kinds[_kind(run)].append(pace)
    repeated = [paces for paces in kinds.values() if len(paces) > 1]
    freedom = sum(len(paces) - 1 for paces in repeated)
    if not freedom:
        return 0.0
    between = sum((len(paces) - 1) * variance(pace.log_s for pace in paces) for paces in repeated) / freedom
    noise = fmean(pace.error**2 for paces in repeated for pace in paces)
    return sqrt(max(0.0, between - noise))


def _kind(run: Run) -> tuple[object, ...]:
    """Return what two runs must share for the probes to be of the same work beside as many others."""
    info, work = run.info, {probe.work for probes in run.pace.values() for probe in probes}
    hosts = tuple(sorted({rank.hostname for rank in info.ranks}))
    return run.world_size, info.threads_per_rank, info.cores_per_node, hosts, tuple(sorted(work))
