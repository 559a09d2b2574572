"""Did other processes keep the cores that a run's ranks would have had? As the run's own telemetry tells.

Others are what is not of the job's own processes on its host, and what the hypervisor took. They disturb a run where they keep
a third of a core busy and less than one core is idle, in the median sample. Nothing is said where the job may not use every
core of its host, where several of its nodes share one kernel, and of telemetry that older releases wrote.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

from commprof.analysis.runs.load import Run
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.facts import ENVIRONMENT_FILE, HostInfo, Hosts, TelemetrySample
from commprof.commbench.records.rundir import read_document, read_records

MIN_CORES: Final = 0.3
_MAX_IDLE = 1.0
_MIN_SAMPLES = 3
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """How many of a host's cores others kept busy, and how many were idle: medians over samples, and a mean beside them."""

    hostname: str
    cores: int
    others: float
    idle: float
    num_samples: int
    others_mean: float

    def __str__(self) -> str:
        return (
            f"other processes kept {self.others:.1f} of {self.hostname}'s {self.cores} cores busy and left {self.idle:.1f} "
            f"idle (median of {self.num_samples} samples)"
        )


def disturbed_runs(runs: Sequence[Run]) -> Iterator[tuple[Run, Disturbance]]:
    """Yield the runs from which others took cores; telemetry that cannot be read tells nothing here, `check` says why."""
    for run in runs:
        with suppress(BadInput):
            if found := most_disturbed(run, *load_surroundings(run)):
                yield run, found


def disturbance_text(runs: Sequence[Run]) -> str | None:
    """Say in one sentence which runs other processes took cores from; None where none did, or none can tell."""
    found = list(disturbed_runs(runs))
    if not found:
        return None
    _, worst = max(found, key=lambda own: own[1].others)
    rest = len(found) - _NAMED
    names = ", ".join(run.path.name for run, _ in found[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    return (
        f"This machine was disturbed: during {names} other processes kept up to {worst.others:.1f} of its {worst.cores} cores "
        "busy. Times and errors of predictions may come of that; end them and measure again."
    )


def others_cores(run: Run) -> float:
    """Return how many cores others kept busy on the one host of a run, the mean over samples; 0 for less than a third of one.

    0 as well where nothing tells: of several hosts, without telemetry, and where the job may not use every core.
    """
    with suppress(BadInput):
        hosts, telemetry = load_surroundings(run)
        if run.info.num_nodes == 1 and hosts and (own := _of_host(hosts[0], telemetry or ())) is not None:
            return own.others_mean if own.others_mean >= MIN_CORES else 0.0
    return 0.0


def load_surroundings(run: Run) -> tuple[tuple[HostInfo, ...] | None, tuple[TelemetrySample, ...] | None]:
    """Read what the run's hosts stated and what was sampled of them (telemetry.jsonl, telemetry.node00001.jsonl and so on).

    None where there is no such file. Raises BadInput for a malformed one.
    """
    stated, sampled = run.path / ENVIRONMENT_FILE, sorted(run.path.glob("telemetry*.jsonl"))
    hosts = read_document(stated, Hosts) if stated.exists() else None
    samples = tuple(sample for file in sampled for sample in read_records(file, TelemetrySample)) if sampled else None
    return hosts, samples


def most_disturbed(
    run: Run, hosts: Sequence[HostInfo] | None, telemetry: Sequence[TelemetrySample] | None
) -> Disturbance | None:
    """Return what others took of the host where they took most, if that is enough to disturb a run."""
    if run.info.num_machines not in (None, run.info.num_nodes):
        return None
    found = [own for host in hosts or () if (own := _of_host(host, telemetry or ())) is not None]
    worst = max(found, key=lambda own: own.others, default=None)
    return worst if worst is not None and worst.others >= MIN_CORES and worst.idle < _MAX_IDLE else None


def _of_host(host: HostInfo, telemetry: Sequence[TelemetrySample]) -> Disturbance | None:
    shares = [
        (own.others_busy, own.cpu_busy)
        for own in telemetry
        if own.hostname == host.hostname and own.others_busy is not None and own.cpu_busy is not None
    ]
    if host.cores_usable != host.cores_total or len(shares) < _MIN_SAMPLES:
        return None
    return Disturbance(
        hostname=host.hostname,
        cores=host.cores_total,
        others=host.cores_total * median(others for others, _ in shares),
        idle=host.cores_total * (1 - median(busy for _, busy in shares)),
        num_samples=len(shares),
        others_mean=host.cores_total * fmean(others for others, _ in shares),
    )
