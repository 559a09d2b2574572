"""What a run folder holds that a verdict may rest on: its measurements in comparable series, its hosts, its telemetry.

A series is one collective swept over sizes in one way: what a curve shows and what another run's curve compares with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.disturbance import load_surroundings
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import GpuInfo, HostInfo, TelemetrySample
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement
from commprof.commbench.spread import median_interval

MIN_SAMPLES = 6  # fewer have no 95 % interval of their median (spread.median_interval)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run and what lies beside it; None where a file is missing."""

    run: Run
    hosts: tuple[HostInfo, ...] | None
    telemetry: tuple[TelemetrySample, ...] | None
    bursts: tuple[BurstMeasurement, ...]
    links: tuple[LinkMeasurement, ...]

    @property
    def name(self) -> str:
        return self.run.info.run_id

    def gpus(self, host: HostInfo) -> list[GpuInfo]:
        """Return the host's GPUs that ranks used; all of them where the run does not say which."""
        used = {_bus(rank.pci_bus_id) for rank in self.run.info.ranks if rank.hostname == host.hostname and rank.pci_bus_id}
        return [gpu for gpu in host.gpus if gpu.pci_bus_id and _bus(gpu.pci_bus_id) in used] or list(host.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What must be equal before two times of one size may stand beside each other."""

    op: str
    dtype: str
    reduction: str | None
    root: int | None
    mode: Literal["isolated", "pipelined"]
    in_place: bool
    hot: bool
    cuda_graph: bool
    world_size: int

    @property
    def label(self) -> str:
        """The series in words, with only what is out of the ordinary beyond placement and mode."""
        words = [self.op, *([] if self.dtype == "float32" else [self.dtype])]
        words += [self.reduction] if self.reduction not in (None, "sum") and OPERATIONS[self.op].reduces else []
        words += [f"root {self.root}"] if self.root else []
        extras = [*([] if self.hot else ["rotating buffers"]), *(["CUDA graph"] if self.cuda_graph else [])]
        return ", ".join([" ".join(words), self.mode, "in place" if self.in_place else "out of place", *extras])


def load_evidence(run: Run) -> Evidence:
    """Read what lies beside a run's measurements; raise BadInput for a malformed file."""
    hosts, samples = load_surroundings(run)
    return Evidence(
        run=run,
        hosts=hosts,
        telemetry=samples,
        bursts=_records(run.path / "bursts.jsonl", BurstMeasurement) or (),
        links=run.links,
    )


def series_of(measurements: Iterable[CollectiveMeasurement]) -> dict[Series, list[CollectiveMeasurement]]:
    """Group measurements that have a size into series, smallest message first."""
    found: dict[Series, list[CollectiveMeasurement]] = {}
    for measurement in sorted(measurements, key=lambda m: m.message_bytes):
        if measurement.message_bytes > 0:
            found.setdefault(_series(measurement), []).append(measurement)
    return found


def judged_series(evidence: Evidence) -> dict[Series, list[CollectiveMeasurement]]:
    """Return the series that rules judge: not an operation in place that has no in-place form, as nccl-tests times all-to-all.

    That is another operation, which exchanges blocks one by one, and its results are never verified.
    """
    grouped = series_of(evidence.run.collectives)
    return {series: sizes for series, sizes in grouped.items() if OPERATIONS[series.op].in_place or not series.in_place}


def median_bounds_s(measurement: CollectiveMeasurement) -> tuple[float, float]:
    """Return the 95 % interval of the median; the median itself, twice, where too few samples give none."""
    if len(measurement.slowest_rank_s) < MIN_SAMPLES:
        return measurement.median_s, measurement.median_s
    return median_interval(measurement.slowest_rank_s)


def unchecked(name: str, why: str) -> Verdict:
    return Verdict(name=name, ok=None, message=f"not checked: {why}")


def some(items: Sequence[str], most: int = 3) -> str:
    """List the first few items and count the rest."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def _series(measurement: CollectiveMeasurement) -> Series:
    return Series(
        op=measurement.op,
        dtype=measurement.dtype,
        reduction=measurement.reduction,
        root=measurement.root,
        mode=measurement.mode,
        in_place=measurement.in_place,
        hot=measurement.hot,
        cuda_graph=measurement.cuda_graph,
        world_size=measurement.world_size,
    )


def _records(path: Path, record_type: type[T]) -> tuple[T, ...] | None:
    return tuple(read_records(path, record_type)) if path.exists() else None


def _bus(pci_bus_id: str) -> str:
    """Write a PCI address in one way: NVML pads the domain to eight digits and writes capitals."""
    domain, _, rest = pci_bus_id.lower().partition(":")
    return f"{domain.lstrip('0')}:{rest}"
