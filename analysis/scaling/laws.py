"""Which shape has the overhead over N? The laws that people know, fitted to the same few points.

The overhead is counted in steps of one rank, eps(N) = E_N/T_1. With a fixed batch per rank (weak scaling) T_N = T_1 + E_N and
the speedup is S = N/(1 + eps); with a fixed batch in all (strong scaling) T_N = T_1/N + E_N.

    linear               eps = 0
    constant             eps = c                                   DDP's own cost, paid from two ranks on
    ring bandwidth       eps = c 2(N-1)/N                          bytes of a ring all-reduce
    ring + latency       eps = c 2(N-1)/N + a (N-1)                and its 2(N-1) messages
    tree                 eps = c log2 N
    Amdahl               eps = s (N-1);          strong: s (1 - 1/N)
    Gustafson            S = N - s (N-1), eps = s(N-1) / (N - s(N-1)); for weak scaling only
    USL                  eps = s (N-1) + k N(N-1);  strong: that over N

Counted from b ranks instead of one, T_N = T_b (1 + eps) or T_b (b/N + eps), each shape f(N) becomes f(N) - f(b), or
f(N) - f(b) b/N, and its coefficient c one over 1 + c f(b), or 1/b + c f(b), times as large. Gustafson's has no such form, and a
constant paid from two ranks on does not show there with a fixed batch per rank.

Coefficients are not negative and fitted by least squares. Under weak scaling Amdahl's shape is the latency's. Sources: Amdahl
1967, Gustafson 1988, Gunther 1993 (universal scalability law), Patarasuk and Yuan 2009 (ring).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from commprof.analysis.scaling.speedup import ScalingKind

Shape = Callable[[int], float]
Floats = NDArray[np.float64]


def constant(_: int) -> float:
    return 1.0


def ring_bandwidth(world_size: int) -> float:
    return 2 * (world_size - 1) / world_size


def further_ranks(world_size: int) -> float:
    return world_size - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A named law: its terms' shapes, and `share`, how often it came nearest on public series that it had not seen."""

    name: str
    shapes: tuple[Shape, ...]
    share: float
    gustafson: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLaw:
    """A law with its coefficients, and the weight of the evidence for it among its fellows (they sum to 1)."""

    law: Law
    coefficients: tuple[float, ...]
    weight: float

    def overhead(self, world_size: int) -> float:
        """Return eps = E_N/T_1."""
        terms = zip(self.coefficients, self.law.shapes, strict=True)
        value = sum(coefficient * shape(world_size) for coefficient, shape in terms)
        return value / (1 - value) if self.law.gustafson else value


def laws(scaling: ScalingKind, base: int = 1) -> tuple[Law, ...]:
    """Return the laws that make sense for a fixed batch per rank (weak) or in all (strong), counted from `base` ranks."""
    every = _laws(scaling)
    if base == 1:
        return every
    hidden = ("constant", "Gustafson") if scaling == "weak" else ("Gustafson",)
    return tuple(
        replace(law, shapes=tuple(_counted_from(base, shape, scaling) for shape in law.shapes))
        for law in every
        if law.name not in hidden
    )


def _counted_from(base: int, shape: Shape, scaling: ScalingKind) -> Shape:
    return lambda n: shape(n) - shape(base) * (1 if scaling == "weak" else base / n)


def _laws(scaling: ScalingKind) -> tuple[Law, ...]:
    weak = scaling == "weak"
    serial: Shape = further_ranks if weak else (lambda n: 1 - 1 / n)
    crosstalk: Shape = (lambda n: n * (n - 1.0)) if weak else further_ranks
    every = [
        Law(name="linear", shapes=(), share=0.04),
        Law(name="constant", shapes=(constant,), share=0.19),
        Law(name="ring bandwidth", shapes=(ring_bandwidth,), share=0.09),
        Law(name="ring + latency", shapes=(ring_bandwidth, further_ranks), share=0.09),
        Law(name="tree", shapes=(math.log2,), share=0.25),
        Law(name="Amdahl", shapes=(serial,), share=0.11),
        Law(name="USL", shapes=(serial, crosstalk), share=0.1),
    ]
    if weak:
        every.append(Law(name="Gustafson", shapes=(lambda n: 1 - 1 / n,), share=0.14, gustafson=True))
    return tuple(every)


def fit_laws(overheads: Mapping[int, float], scaling: ScalingKind, noise: float, base: int = 1) -> tuple[FittedLaw, ...]:
    """Fit every law to eps by number of ranks and weigh them, the likeliest first.

    The weight is share * exp(-chi^2/2), `noise` being the standard deviation of eps; a law with more coefficients than points
    cannot be told from the simpler ones and pays for it by a factor e a coefficient.
    """
    world_sizes, eps = list(overheads), np.array(list(overheads.values()))
    fitted = []
    for law in laws(scaling, base):
        coefficients = _coefficients(law, world_sizes, eps)
        alone = FittedLaw(law=law, coefficients=coefficients, weight=1.0)
        missed = eps - [alone.overhead(n) for n in world_sizes]
        fitted.append((alone, math.log(law.share) - len(coefficients) - float(missed @ missed) / (2 * noise**2)))
    best = max(score for _, score in fitted)
    total = sum(math.exp(score - best) for _, score in fitted)
    weighed = [
        FittedLaw(law=one.law, coefficients=one.coefficients, weight=math.exp(score - best) / total) for one, score in fitted
    ]
    return tuple(sorted(weighed, key=lambda one: -one.weight))


def _coefficients(law: Law, world_sizes: Sequence[int], eps: Floats) -> tuple[float, ...]:
    if not law.shapes:
        return ()
    wanted = np.maximum(eps, 0.0)
    if law.gustafson:
        wanted = wanted / (1 + wanted)
    told = law.shapes[: len(world_sizes)]  # one point cannot tell two terms apart; the first one gets all
    found, _ = nnls(np.array([[shape(n) for shape in told] for n in world_sizes]), wanted)
    return (*map(float, found), *(0.0 for _ in law.shapes[len(told) :]))
