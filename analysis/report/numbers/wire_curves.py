"""Benches -> the curves a report draws of the wire. All times are seconds, those of the fit (`transfer_s`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from commprof.analysis.report.numbers.data import Material
from commprof.analysis.runs.interval import Interval
from commprof.analysis.runs.load import Run, select
from commprof.analysis.wire.ceiling import WireCeiling, wire_ceiling
from commprof.analysis.wire.cost import end_ratio, transfer_s
from commprof.analysis.wire.results import CostModel
from commprof.commbench.spread import median_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WireCurve:
    """The in-place all-reduce at one world size: per message size the median and the 10th and 90th percentile, seconds.

    `ceiling` is the latest bench's; None where nobody asked for it.
    """

    world_size: int
    message_bytes: tuple[int, ...]
    median_s: tuple[float, ...]
    low_s: tuple[float, ...]
    high_s: tuple[float, ...]
    num_samples: int
    cost: CostModel | None
    ceiling: WireCeiling | None = None

    @property
    def bus_factor(self) -> float:
        """2(p-1)/p: bytes that each link carries per byte of payload."""
        return 2 * (self.world_size - 1) / self.world_size

    def bus_bandwidth(self, times_s: Sequence[float]) -> list[float]:
        """Return B/s on each link for the times of this curve's sizes."""
        return [self.bus_factor * size / time for size, time in zip(self.message_bytes, times_s, strict=True)]

    def line_s(self) -> list[float]:
        """Return the fitted line's times at this curve's sizes; empty where there is no fit."""
        if self.cost is None:
            return []
        return [self.cost.latency_s + size / self.cost.bandwidth_bytes_per_s for size in self.message_bytes]


def wire_curves(material: Material) -> list[WireCurve]:
    """Return one curve per benched world size above one, the samples of several benches pooled as in the fit."""
    benches = [run for run in select(material.runs, kind="bench") if run.world_size > 1]
    curves = []
    for world_size in sorted({run.world_size for run in benches}):
        samples: dict[int, list[float]] = {}
        for run in (run for run in benches if run.world_size == world_size):
            for message_bytes, seconds in _in_place_s(run):
                samples.setdefault(message_bytes, []).extend(seconds)
        if samples:
            ceiling = wire_ceiling(next(run for run in reversed(benches) if run.world_size == world_size))
            curves.append(_curve(world_size, dict(sorted(samples.items())), material.costs.get(world_size), ceiling))
    return curves


def _in_place_s(run: Run) -> Iterator[tuple[int, Sequence[float]]]:
    """Yield the size of each in-place all-reduce of a bench, and the samples of what it costs."""
    measured = [m for m in run.all_reduces if m.in_place]
    ratio = end_ratio(measured, run.num_nodes)
    for m in measured:
        yield m.message_bytes, transfer_s(m, ratio)


def busbw_at(runs: Sequence[Run], world_size: int, message_bytes: int) -> tuple[float, Interval, int]:
    """Return the in-place all-reduce's median bus bandwidth (B/s) at one size, that median's interval, and the samples."""
    samples_s = [
        seconds
        for run in select(runs, kind="bench", world_size=world_size)
        for size, own in _in_place_s(run)
        if size == message_bytes
        for seconds in own
    ]
    carried_bytes = 2 * (world_size - 1) / world_size * message_bytes
    low, high = (carried_bytes / seconds for seconds in reversed(median_interval(samples_s)))
    return carried_bytes / median(samples_s), Interval(low=low, high=high), len(samples_s)


def _curve(world_size: int, samples: dict[int, list[float]], cost: CostModel | None, ceiling: WireCeiling) -> WireCurve:
    low, middle, high = np.array([np.percentile(values, [10, 50, 90]) for values in samples.values()]).T
    return WireCurve(
        world_size=world_size,
        message_bytes=tuple(samples),
        median_s=tuple(middle.tolist()),
        low_s=tuple(low.tolist()),
        high_s=tuple(high.tolist()),
        num_samples=sum(len(values) for values in samples.values()),
        cost=cost,
        ceiling=ceiling,
    )
