"""What will the step take on N ranks, from throughputs at a few other N alone? With 90 % intervals.

    T_N = T_1 (1 + eps(N))        a fixed batch per rank;  speedup N / (1 + eps)
    T_N = T_1 (1/N + eps(N))      a fixed batch in all;    speedup 1 / (1/N + eps)

eps is `overhead_mix`'s; named laws stand beside it. Across a boundary that the points do not reach no law holds, and the answer
is withheld: beyond a node, where the points jump, and where PCIe reaches beyond what one root complex usually has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commprof.analysis.scaling.laws import FittedLaw, fit_laws
from commprof.analysis.scaling.overhead_mix import BANDS, PRIOR, ROOT_COMPLEXES, Mix, jump, mixed, noise, reach, spread
from commprof.analysis.scaling.speedup import ScalingKind
from commprof.analysis.scaling.table import Interconnect, Series
from commprof.commbench.errors import UnusableData

_MEASURE = "measure with commprof bench at that N"
_SUPERLINEAR = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolated:
    """One N. Throughput (unit of the table) or seconds a step; None where the answer would be a guess, and is withheld."""

    world_size: int
    value: float | None
    low: float | None
    high: float | None
    speedup: float | None
    efficiency: float | None
    overhead: float | None
    guess: bool
    notes: tuple[str, ...]
    measured: float | None
    relative_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawValues:
    """A named law beside the estimate: its weight among the laws, and its throughput or step time by number of ranks."""

    name: str
    weight: float
    values: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolation:
    """One series: what was asked of it, and what the laws say."""

    series: str
    measure: str
    scaling: ScalingKind
    interconnect: Interconnect
    anchors: dict[int, float]
    mix: dict[str, float]
    predictions: tuple[Extrapolated, ...]
    laws: tuple[LawValues, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A series of the table that tells nothing, and why."""

    series: str
    reason: str


def extrapolate_all(
    table: Sequence[Series], targets: Sequence[int], *, scaling: ScalingKind, anchors: Sequence[int] = (), name: str = "table"
) -> list[Extrapolation | Refused]:
    """Say what every series of a table does at `targets`, or why it tells nothing; raise UnusableData where none does."""
    told = [_told(series, targets, scaling, anchors) for series in table]
    refused = [one for one in told if isinstance(one, Refused)]
    if len(refused) == len(told):
        series = f", series {refused[0].series}" if refused[0].series else ""
        raise UnusableData(f"{name}{series}: {refused[0].reason}")
    return told


def _told(series: Series, targets: Sequence[int], scaling: ScalingKind, anchors: Sequence[int]) -> Extrapolation | Refused:
    try:
        return extrapolate(series, targets, scaling=scaling, anchors=anchors)
    except UnusableData as error:
        return Refused(series=series.name, reason=str(error))


def extrapolate(series: Series, targets: Sequence[int], *, scaling: ScalingKind, anchors: Sequence[int] = ()) -> Extrapolation:
    """Say what a series does at `targets`, from its other points or from `anchors`.

    Raises UnusableData without one rank's measurement or without a second number of ranks.
    """
    used = _anchors(series, targets, anchors)
    eps = overheads(series, used, scaling)
    mix = mixed(eps, PRIOR)
    fitted = fit_laws(eps, scaling, noise(eps))
    return Extrapolation(
        series=series.name,
        measure=series.measure,
        scaling=scaling,
        interconnect=series.interconnect,
        anchors={n: series.values[n] for n in used},
        mix=dict(zip(("constant", "ring_bandwidth", "further_ranks"), mix.coefficients, strict=True)),
        predictions=tuple(_predicted(series, n, mix, eps, scaling) for n in targets),
        laws=tuple(_law_values(law, series, targets, scaling) for law in fitted),
    )


def overheads(series: Series, world_sizes: Sequence[int], scaling: ScalingKind) -> dict[int, float]:
    """Return eps = E_N/T_1 of every N above 1."""
    single = series.time(1, scaling)
    return {n: series.time(n, scaling) / single - _share(n, scaling) for n in world_sizes if n > 1}


def _share(world_size: int, scaling: ScalingKind) -> float:
    """Return what a step of N ranks computes, in steps of one rank."""
    return 1.0 if scaling == "weak" else 1 / world_size


def _anchors(series: Series, targets: Sequence[int], wanted: Sequence[int]) -> list[int]:
    missing = [n for n in wanted if n not in series.values]
    if missing:
        raise UnusableData(f"--anchors {missing[0]}: no such row; it has {', '.join(map(str, series.values))} ranks")
    used = sorted(set(wanted)) or [n for n in series.values if n not in targets]
    if 1 not in used:
        raise UnusableData("no row of 1 rank, which the overhead is counted from; measure one rank")
    inside = [n for n in used if not _across_nodes(series, n)]  # another wire's overhead would spoil the mix
    if len(inside) < 2:
        where = f" of a node of {series.ranks_per_node}" if len(inside) < len(used) else ""
        raise UnusableData(f"1 rank alone{where} tells no overhead; add a row of 2 ranks, or leave one out of --world-sizes")
    return inside


def _predicted(series: Series, world_size: int, mix: Mix, eps: Mapping[int, float], scaling: ScalingKind) -> Extrapolated:
    notes = _notes(series, world_size, eps, scaling)
    measured = series.values.get(world_size)
    if boundaries(series, world_size, eps):
        return Extrapolated(
            world_size=world_size, value=None, low=None, high=None, speedup=None, efficiency=None, overhead=None,
            guess=True, notes=notes, measured=measured, relative_error=None,
        )  # fmt: skip
    overhead = mix.overhead(world_size)
    unit, band = spread(overhead, math.log2(world_size / max(eps))), BANDS[reach(series.interconnect)]
    ends = [math.expm1(math.log1p(overhead) + z * unit) for z in (band.low, band.high)]
    value, slow, fast = (_value(series, world_size, each, scaling) for each in (overhead, ends[1], ends[0]))
    speedup = _speedup(overhead, world_size, scaling)
    return Extrapolated(
        world_size=world_size,
        value=value,
        low=min(slow, fast),
        high=max(slow, fast),
        speedup=speedup,
        efficiency=speedup / world_size,
        overhead=overhead,
        guess=False,
        notes=notes,
        measured=measured,
        relative_error=None if measured is None else value / measured - 1,
    )


def _value(series: Series, world_size: int, overhead: float, scaling: ScalingKind) -> float:
    if scaling == "strong":
        overhead = max(overhead, 0.0)
    return series.value(series.time(1, scaling) * (_share(world_size, scaling) + overhead), world_size, scaling)


def _speedup(overhead: float, world_size: int, scaling: ScalingKind) -> float:
    share = _share(world_size, scaling)
    return world_size * share / (share + overhead)


def _across_nodes(series: Series, world_size: int) -> bool:
    return series.ranks_per_node is not None and world_size > series.ranks_per_node


def boundaries(series: Series, world_size: int, eps: Mapping[int, float]) -> list[str]:
    """Return what lies between the points and these ranks, or among the points, that no law can see across."""
    found = []
    if _across_nodes(series, world_size):
        found.append(f"more than one node of {series.ranks_per_node} ranks")
    if (broken := jump(eps)) is not None:
        found.append(f"the overhead jumps between {broken[0]} and {broken[1]} ranks")
    crossed = [size for size in ROOT_COMPLEXES if max(eps) <= size < world_size]
    if crossed and series.interconnect == "pcie":
        found.append(f"PCIe beyond {crossed[0]} ranks, often another root complex")
    elif crossed and series.interconnect == "unknown":
        found.append(f"if it is PCIe, beyond {crossed[0]} ranks often another root complex; name it with --interconnect")
    return found


def _notes(series: Series, world_size: int, eps: Mapping[int, float], scaling: ScalingKind) -> tuple[str, ...]:
    crossed = boundaries(series, world_size, eps)
    notes = [
        f"{n} ranks are {-value:.0%} faster than linear: is one of the points wrong?"
        for n, value in eps.items()
        if value < -_SUPERLINEAR
    ]
    if crossed:
        return (*notes, f"withheld ({'; '.join(crossed)}): these points do not tell what is beyond; {_MEASURE}")
    if series.interconnect == "unknown":
        notes.append("interconnect not given: the interval is PCIe's")
    if scaling == "strong":
        notes.append("the interval was calibrated on series with a fixed batch per rank")
    return tuple(notes)


def _law_values(law: FittedLaw, series: Series, targets: Sequence[int], scaling: ScalingKind) -> LawValues:
    inside = [n for n in targets if not _across_nodes(series, n)]
    values = {n: _value(series, n, law.overhead(n), scaling) for n in inside}
    return LawValues(name=law.law.name, weight=law.weight, values=values)
