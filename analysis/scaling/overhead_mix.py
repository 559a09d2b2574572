"""Which mix of shapes does the overhead over N have, and how far off is it? For two or three points, with a prior.

The overhead in steps of one rank, eps(N) = E_N/T_1, is a mix of three shapes and a slow rise beyond the largest N measured, L:

    eps(N) = a + r 2(N-1)/N + l (N-1) + d log2(N/L)        a, r, l >= 0

a is what DDP costs as soon as there is a second rank, r the bytes of a ring, l its messages, or a path that all share. Two or
three points cannot tell these apart, so a prior helps: the shares of a, r and l in the overhead on two ranks that public series
have in common. One point sets the amount and the prior the shares; with more points the shares follow the points, by least
squares with the prior as further equations, never below zero. d log2(N/L) is the typical loss where none shows yet: an overhead
measured as zero or less (noise, or faster than linear) counts as zero, and still grows.

The prior and the intervals come from public series (NVIDIA/DeepLearningExamples, lambdal/deeplearning-benchmark 2021); how far
they miss series of a source that they have not seen is in docs/results/extrapolation.md.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from commprof.analysis.scaling.laws import Floats, constant, further_ranks, ring_bandwidth
from commprof.analysis.scaling.series import Interconnect

Reach = Literal["nvlink", "pcie"]
SHAPES = (constant, ring_bandwidth, further_ranks)
_NOISE = 0.005  # of eps: half a percent of a step, and a twentieth of the overhead
_NOISE_SHARE = 0.05
_JUMP_NOISE = 0.01
ROOT_COMPLEXES = (4, 8)  # ranks on one root complex of usual servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What series have in common: the shapes' shares on two ranks, the rise a doubling, how far points may bend the shares."""

    shares: tuple[float, float, float]
    rise: float
    bend: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A 90 % interval of log(1 + eps) about its estimate, in units of `spread`."""

    low: float
    high: float


PRIOR = Prior(shares=(0.637, 0.343, 0.02), rise=0.003, bend=0.15)
BANDS: Mapping[Reach, Band] = {
    "nvlink": Band(low=-1.53, high=2.81),
    "pcie": Band(low=-1.03, high=8.81),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """eps over N: coefficients of the three shapes, and the rise beyond the largest N measured."""

    coefficients: tuple[float, float, float]
    rise: float
    largest: int

    def overhead(self, world_size: int) -> float:
        doublings = max(0.0, math.log2(world_size / self.largest))
        known = sum(c * shape(world_size) for c, shape in zip(self.coefficients, SHAPES, strict=True))
        return known + self.rise * doublings


def noise(eps: Mapping[int, float]) -> float:
    """Return the standard deviation that measured overheads are taken to have."""
    return _NOISE + _NOISE_SHARE * sum(max(value, 0.0) for value in eps.values()) / len(eps)


def mixed(eps: Mapping[int, float], prior: Prior) -> Mix:
    """Return the mix of shapes for overheads by N, none of them counted below zero."""
    ranks = sorted(eps)
    seen = np.array([max(eps[n], 0.0) for n in ranks])
    shapes: Floats = np.array([[shape(n) for shape in SHAPES] for n in ranks])
    shares: Floats = np.array(prior.shares)
    typical = shapes @ shares
    amount = float(typical @ seen / (typical @ typical))
    found = (
        shares * amount if len(ranks) == 1 else _bent(shapes, seen, shares * amount, noise(eps), prior.bend * (amount + 0.002))
    )
    a, r, further = (float(value) for value in found)
    return Mix(coefficients=(a, r, further), rise=prior.rise, largest=ranks[-1])


def jump(eps: Mapping[int, float]) -> tuple[int, int] | None:
    """Return the neighbours between which the overhead grows faster than N - 1, the steepest shape of the mix, noise apart."""
    ranks = sorted(eps)
    return next(((a, b) for a, b in itertools.pairwise(ranks) if eps[b] > _most(eps[a], a, b)), None)


def spread(overhead: float, doublings: float) -> float:
    """Return the unit of the intervals: log(1 + eps) is off by more for a large eps, and far beyond the points."""
    return (0.01 + 0.3 * math.log1p(overhead)) * max(doublings, 0.5)


def reach(interconnect: Interconnect) -> Reach:
    """Return whose errors an estimate has; a link of unknown kind counts as PCIe, where they are larger."""
    return "nvlink" if interconnect == "nvlink" else "pcie"


def _bent(shapes: Floats, seen: Floats, typical: Floats, noise: float, freedom: float) -> Floats:
    """Least squares on the points, with `typical` as further equations of standard deviation `freedom`."""
    equations = np.vstack([shapes / noise, np.eye(len(typical)) / freedom])
    found, _ = nnls(equations, np.concatenate([seen / noise, typical / freedom]))
    return np.asarray(found, dtype=np.float64)


def _most(overhead: float, before: int, after: int) -> float:
    return (max(overhead, 0.0) + _JUMP_NOISE) * further_ranks(after) / further_ranks(before) + _JUMP_NOISE
