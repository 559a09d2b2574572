"""What does a node's next N take, where a row of one rank and another on its node are there? `overhead_mix`, with its limits.

    T_N = T_1 (1 + eps(N))        a fixed batch per rank;  speedup N / (1 + eps)
    T_N = T_1 (1/N + eps(N))      a fixed batch in all;    speedup 1 / (1/N + eps)

Named laws stand beside it. Across a boundary that the points do not reach no law holds, and the answer is withheld: where the
points jump, and where PCIe reaches beyond what one root complex usually has.
"""

import math
from collections.abc import Mapping, Sequence

from commprof.analysis.scaling.laws import fit_laws
from commprof.analysis.scaling.overhead_mix import BANDS, ROOT_COMPLEXES, Mix, jump, noise, reach, spread
from commprof.analysis.scaling.results import Extrapolated, LawValues, withheld
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import ScalingKind

MEASURE = "measure with commprof bench at that N"
SUPERLINEAR = 0.05
_OTHER_RUN = -1 / 3  # of a step: on more ranks each does half as much again


def overheads(series: Series, world_sizes: Sequence[int], scaling: ScalingKind, base: int = 1) -> dict[int, float]:
    """Return eps = E_N/T_b of every N above b, the base."""
    single = series.time(base, scaling)
    return {n: series.time(n, scaling) / single - _share(n, scaling, base) for n in world_sizes if n > base}


def from_one_rank(series: Series, world_size: int, mix: Mix, eps: Mapping[int, float], scaling: ScalingKind) -> Extrapolated:
    """Say what N ranks of the node do, or why the answer is withheld."""
    notes = _notes(series, world_size, eps, scaling)
    measured = series.values.get(world_size)
    if boundaries(series, world_size, eps):
        return withheld(world_size, measured, notes)
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


def law_values(series: Series, rows: Sequence[int], targets: Sequence[int], scaling: ScalingKind) -> tuple[LawValues, ...]:
    """Return what each named law says at targets, counted from the smallest of the rows and fitted to the others."""
    base = min(rows)
    eps = overheads(series, rows, scaling, base)
    return tuple(
        LawValues(
            name=law.law.name,
            weight=law.weight,
            values={n: _value(series, n, law.overhead(n), scaling, base) for n in targets if n > base},
        )
        for law in fit_laws(eps, scaling, noise(eps), base)
    )


def boundaries(series: Series, world_size: int, eps: Mapping[int, float]) -> list[str]:
    """Return what lies between the points and these ranks, or among the points, that no law can see across."""
    found = []
    if (apart := next((n for n, value in eps.items() if value < _OTHER_RUN), None)) is not None:
        mend = ", or the batch in all is fixed: --scaling strong" if series.measure == "step_s" else ""
        found.append(f"the rows of 1 and {apart} ranks do not compare: more than their number differs{mend}")
    if (broken := jump(eps)) is not None:
        found.append(f"the overhead jumps between {broken[0]} and {broken[1]} ranks")
    crossed = [size for size in ROOT_COMPLEXES if max(eps) <= size < world_size]
    if crossed and series.interconnect == "pcie":
        found.append(f"PCIe beyond {crossed[0]} ranks, often another root complex")
    elif crossed and series.interconnect == "unknown":
        mend = "name it with --interconnect, or the node with --gpus-per-node"
        found.append(f"if it is PCIe, beyond {crossed[0]} ranks often another root complex; {mend}")
    return found


def _share(world_size: int, scaling: ScalingKind, base: int = 1) -> float:
    """Return what a step of N ranks computes, in steps of the base."""
    return 1.0 if scaling == "weak" else base / world_size


def _value(series: Series, world_size: int, overhead: float, scaling: ScalingKind, base: int = 1) -> float:
    if scaling == "strong":
        overhead = max(overhead, 0.0)
    return series.value(series.time(base, scaling) * (_share(world_size, scaling, base) + overhead), world_size, scaling)


def _speedup(overhead: float, world_size: int, scaling: ScalingKind) -> float:
    share = _share(world_size, scaling)
    return world_size * share / (share + overhead)


def _notes(series: Series, world_size: int, eps: Mapping[int, float], scaling: ScalingKind) -> tuple[str, ...]:
    crossed = boundaries(series, world_size, eps)
    notes = [
        f"{n} ranks are {-value:.0%} faster than linear: is one of the points wrong?"
        for n, value in eps.items()
        if value < -SUPERLINEAR
    ]
    if crossed:
        return (*notes, f"withheld ({'; '.join(crossed)}): these points do not tell what is beyond; {MEASURE}")
    if series.interconnect == "unknown":
        notes.append("interconnect not given: the interval is PCIe's")
    if scaling == "strong":
        notes.append("the interval was calibrated on series with a fixed batch per rank")
    return tuple(notes)
