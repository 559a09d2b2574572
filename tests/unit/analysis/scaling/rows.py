"""Made-up series for tests, and what is told of them at one number of ranks."""

from collections.abc import Mapping
from dataclasses import replace

from commprof.analysis.scaling.extrapolate import extrapolate_all
from commprof.analysis.scaling.results import Extrapolated, Refused
from commprof.analysis.scaling.series import Measure, Series
from commprof.analysis.scaling.speedup import ScalingKind


def series(values: Mapping[int, float], node: int | None = 8, measure: Measure = "throughput", machine: str = "") -> Series:
    return Series(name="s", measure=measure, values=dict(values), ranks_per_node=node, machine=machine)


def scaled(costs: Mapping[int, float], node: int | None = 8) -> Series:
    """Throughput of a series whose ranks need `costs` seconds for what each of them does."""
    return series({n: n / cost for n, cost in costs.items()}, node)


def at(one: Series, world_size: int, *machine: Series, scaling: ScalingKind = "weak") -> Extrapolated:
    found = extrapolate_all(
        [replace(each, machine=each.machine or "m") for each in (one, *machine)], [world_size], scaling=scaling,
        anchors=list(one.values), by_machine=bool(machine),
    )[0]  # fmt: skip
    assert not isinstance(found, Refused), found.reason
    return found.predictions[0]


def told(one: Extrapolated) -> tuple[float, float, float]:
    assert one.value is not None and one.low is not None and one.high is not None, one.notes
    return one.low, one.value, one.high
