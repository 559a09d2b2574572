"""What a collective costs, as a page can work it out: cubics in log bytes that give log seconds.

They are taken from `cost_s` wherever a bucket's message can lie, and split until they meet it to 1e-6.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.results import CostModel

_CURVE_ERROR = 1e-6  # relative, of a collective's time
_FEWEST = 1e-4  # of a knot's distance to the next, in log bytes: a jump of the curve is not split further
_THIRDS = np.array([0.0, 1 / 3, 2 / 3, 1.0])
_CUBIC = np.linalg.inv(np.vander(_THIRDS, 4))  # four values at thirds -> coefficients, the highest power first
_BETWEEN = np.array([1 / 6, 1 / 2, 5 / 6])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """log seconds over log bytes: from each knot to the next a cubic in the share of the way, the highest power first."""

    knots: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]


def curve_of(cost: CostModel, smallest: float, largest: float) -> Curve:
    """Return the cost of messages from `smallest` to `largest` bytes, within 1e-6 of `cost_s`."""
    ends = [smallest, *(size for size in cost.message_bytes if smallest < size < largest), largest]
    pieces = [piece for start, stop in pairwise(np.log(ends)) for piece in _pieces(cost, float(start), float(stop))]
    return Curve(
        knots=(*(start for start, _ in pieces), float(np.log(largest))),
        coefficients=tuple(tuple(round(number, 9) for number in cubic) for _, cubic in pieces),
    )


def _pieces(cost: CostModel, start: float, stop: float) -> Iterator[tuple[float, tuple[float, ...]]]:
    """Yield where each cubic begins, and its coefficients."""
    length = stop - start
    cubic = _CUBIC @ _log_cost(cost, start + length * _THIRDS)
    error = np.abs(np.polyval(cubic, _BETWEEN) - _log_cost(cost, start + length * _BETWEEN)).max()
    if error < _CURVE_ERROR or length < _FEWEST:
        yield start, tuple(cubic.tolist())
        return
    for half in (start, start + length / 2):
        yield from _pieces(cost, half, half + length / 2)


def _log_cost(cost: CostModel, log_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log([cost_s(cost, size) for size in np.exp(log_bytes)])
