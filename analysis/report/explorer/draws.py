"""Some draws of a prediction, so that a page can work out intervals for settings that nobody asked for yet.

Of the bootstrap's draws those are kept that lie evenly over the step as it is; the page plays each of them as the model does
(step/estimate.py). Numbers are rounded to five digits, far below what an interval's ends are known to.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.step.estimate import CARRIED_ERRORS, EXPOSED_ERROR, carried_error, model_error, standard_normal
from commprof.analysis.step.inputs import StepInputs

KEPT = 30
_MOST_SIZES = 12  # message sizes at which a draw's ratio of the wire's time is told

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw: seconds as in StepInputs, factors on computation and on exposed communication, ratios of the wire's times."""

    before_s: float
    backward_s: float
    copy_s: float
    update_s: float
    compute_rate: float
    comm_rate: float
    wait_s: float
    pace: float
    exposed: float
    ratios: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The draws kept; their ratios lie at `log_bytes`, the logarithms of message sizes."""

    log_bytes: tuple[float, ...]
    draws: tuple[Draw, ...]


def draws_of(inputs: StepInputs, kept: Sequence[int], smallest: float, largest: float) -> Draws:
    """Return the `kept` draws for messages of `smallest` to `largest` bytes."""
    own = inputs.computation
    low, high = np.log(smallest), np.log(largest)
    places = _carried_places(inputs.backend, low, high) if inputs.extrapolated else _places(inputs, low, high)
    normal = standard_normal(len(own.before_s))
    pace, exposed = model_error(normal, inputs.drift, hypot(inputs.between, inputs.beside), EXPOSED_ERROR)
    ratios = _ratios(inputs, places, normal[2])
    rates = [np.broadcast_to(rate, len(pace)) for rate in astuple(inputs.contention)]
    return Draws(
        log_bytes=rounded(places),
        draws=tuple(
            Draw(
                before_s=short(own.before_s[i]),
                backward_s=short(own.backward_s[i]),
                copy_s=short(own.copy_s[i]),
                update_s=short(own.update_s[i]),
                compute_rate=short(rates[0][i]),
                comm_rate=short(rates[1][i]),
                wait_s=short(rates[2][i]),
                pace=short(pace[i]),
                exposed=short(exposed[i]),
                ratios=rounded(ratios[i]),
            )
            for i in kept
        ),
    )


def _ratios(inputs: StepInputs, places: Floats, normal: Floats) -> Floats:
    """Return the ratios of the wire's times [draws, places]: the bench's, or the error of a wire that was carried over."""
    if inputs.extrapolated:
        carried: Floats = np.exp(np.outer(normal, [carried_error(size, inputs.backend) for size in np.exp(places)]))
        return carried
    sizes = np.log(inputs.cost.message_bytes)
    return np.array([np.interp(places, sizes, ratios) for ratios in inputs.cost_ratios])


def kept_draws(step_s: Floats) -> list[int]:
    """Return which draws are kept: evenly over the order of their steps, the prediction itself (entry 0) left out."""
    order = 1 + np.argsort(step_s[1:])
    return [int(order[int((i + 0.5) / KEPT * len(order))]) for i in range(KEPT)]


def _carried_places(backend: str, low: float, high: float) -> Floats:
    """Return where ratios of a carried wire are told: evenly and at the error's kinks, but not where it stays the same."""
    kinks = [np.log(size) for size, _ in CARRIED_ERRORS if low < np.log(size) < high]
    places = np.union1d(np.linspace(low, high, _MOST_SIZES), kinks)
    changes = np.diff([carried_error(size, backend) for size in np.exp(places)]) != 0
    kept: Floats = places[np.r_[True, changes[:-1] | changes[1:], True]]
    return kept


def _places(inputs: StepInputs, low: float, high: float) -> Floats:
    """Return where ratios are told: the measured sizes in and next to the range, every n-th of many."""
    sizes = np.log(inputs.cost.message_bytes)
    first = max(0, int(np.searchsorted(sizes, low, side="right")) - 1)
    last = min(len(sizes) - 1, int(np.searchsorted(sizes, high)))
    inside = sizes[first : last + 1]
    if len(inside) <= _MOST_SIZES:
        return inside
    kept: Floats = inside[np.linspace(0, len(inside) - 1, _MOST_SIZES).round().astype(int)]
    return kept


def rounded(values: Floats, digits: int = 5) -> tuple[float, ...]:
    return tuple(short(value, digits) for value in values)


def short(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")
