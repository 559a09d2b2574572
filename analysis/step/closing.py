"""The parts of a step, written so that what is printed adds up to what is printed."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import floor, log10
from typing import Final

_DIGITS: Final = 5  # of the whole: a part of a hundredth still shows three
_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def closing(parts_s: Sequence[float]) -> tuple[list[str], str]:
    """Return each part and the sum, all in one unit with as many decimals; the sum has its unit behind it.

    Rounded are the sums so far, each part is the difference of two: none is off by more than its last digit.
    """
    sums_s = [0.0, *accumulate(parts_s)]
    largest_s = max(map(abs, sums_s))
    scale, unit = next(((s, u) for s, u in _UNITS if largest_s >= 0.9995 * s), _UNITS[-1])
    whole_digits = floor(log10(largest_s / scale)) + 1 if largest_s > 0 else 1
    decimals = min(_DIGITS, max(0, _DIGITS - whole_digits))
    counts = [round(total / scale * 10**decimals) for total in sums_s]
    shown = [_fixed(right - left, decimals) for left, right in pairwise(counts)]
    return shown, f"{_fixed(counts[-1], decimals)} {unit}"


def _fixed(count: int, decimals: int) -> str:
    return f"{count / 10**decimals:.{decimals}f}"
