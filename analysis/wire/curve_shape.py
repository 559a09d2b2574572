"""May a measured curve be believed, where was it disturbed, and where does it change its course?

A curve is one time per message size. A size's neighbours say what to expect there: the line through the two around it, or
the line through the two on one side, continued. What a curve shows is believed where a second observation shows it too:

    a log with one mean a size      the other placement (in place, out of place), set against it by their median ratio
    a bench with repeated samples   the standard error of each median, by bootstrap

A size that is slow in one placement alone was disturbed and is set aside. A course that changes in both, by more than the
sweep's own noise, is a property of the library: NCCL takes another protocol or algorithm from some size on. With one placement
alone no such change can be told. Times in seconds, sizes in bytes, all factors > 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.wire.results import SetAside, Switch
from commprof.commbench.units import format_bytes

Floats = NDArray[np.float64]

MATTERS_BYTES = 256 * 2**10  # below it latency rules, and DDP sends little
_DISTURBED = 1.25  # in one placement and not in the other
_STANDS_OUT = 1.5  # against both neighbours' lines, where nothing else was measured
_SWITCH = 1.2  # a course is left by this factor in both placements
_SIGMAS = 3.0  # ... and by so many times the noise
_NORMAL = 1.4826  # standard deviation over median absolute deviation
_FALL = 0.2
_FEWEST = 4  # sizes, below which neighbours say nothing
_APART, _APART_SHARE = 1.1, 0.25
_SCATTER = 0.04  # a log whose own observations are that far apart cannot be predicted any better
_STANDARD_ERROR = 0.1  # of repeated samples' medians: one is known to 20 %, the fall that is called noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Medians by size, with the second observation of each: `other_s` (NaN where there is none) or `relative_error`.

    `repeated`: sizes have several samples, whose medians' relative errors count; else those are zero, and `other_s` counts.
    """

    message_bytes: Floats
    median_s: Floats
    other_s: Floats
    relative_error: Floats
    repeated: bool

    @property
    def witnessed(self) -> bool:
        """Whether the other placement has to speak for single samples."""
        return not self.repeated and bool(np.isfinite(self.other_s).any())

    @property
    def apart(self) -> Floats:
        """Each size's log ratio of the two placements, less the median ratio."""
        ratio: Floats = np.log(self.median_s / self.other_s)
        return ratio - np.nanmedian(ratio)

    def without(self, sizes: set[int]) -> "Curve":
        """Return the curve with these sizes left out."""
        kept = np.array([int(size) not in sizes for size in self.message_bytes])
        return Curve(
            message_bytes=self.message_bytes[kept],
            median_s=self.median_s[kept],
            other_s=self.other_s[kept],
            relative_error=self.relative_error[kept],
            repeated=self.repeated,
        )


def disturbed(curve: Curve) -> tuple[SetAside, ...]:
    """Return the sizes that do not belong in the curve. Repeated samples are believed: nothing disturbs their median."""
    if curve.repeated or len(curve.median_s) < _FEWEST:
        return ()
    return _slow_in_one_placement(curve) if curve.witnessed else _standing_out(curve)


def switches(curve: Curve) -> tuple[Switch, ...]:
    """Return where time falls or jumps against both neighbours' lines, in both placements and beyond the sweep's own noise.

    Beside a larger change the lines run across that one and tell nothing, so of neighbouring changes the largest counts.
    """
    strengths = [_strength(curve, left) for left in range(1, len(curve.median_s) - 2)]
    found = []
    for left, around in enumerate(zip([0.0, *strengths], strengths, [*strengths[1:], 0.0], strict=False), start=1):
        if around[1] > 0 and around[1] == max(around):
            previous, here = (int(size) for size in curve.message_bytes[left : left + 2])
            factor, _ = _departures(curve.message_bytes, curve.median_s, left)
            found.append(Switch(previous_bytes=previous, message_bytes=here, factor=factor))
    return tuple(found)


def scatter(curve: Curve) -> float | None:
    """Return how far a size's observations are apart, relative, mean from 256 KiB up; None where each has only one."""
    if curve.repeated:
        return float(curve.relative_error[_that_matter(curve)].mean())
    if not curve.witnessed:
        return None
    apart = np.abs(curve.apart[_that_matter(curve)])
    alike = apart[apart <= np.log(_DISTURBED)]
    return float(np.expm1(alike.mean())) if alike.size else None


def doubt(curve: Curve, set_aside: tuple[SetAside, ...]) -> str | None:
    """Say why the curve is noisy, None where it is sound. What was set aside counts as disagreement, not as a fall."""
    kept = curve.without({size.message_bytes for size in set_aside})
    falls = sum(_unexplained_fall(kept, step) for step in range(len(kept.median_s) - 1))
    if falls:
        return f"time falls by over {_FALL * 100:.0f} % at {falls} of {len(kept.median_s) - 1} steps to a larger size"
    where = f"from {format_bytes(MATTERS_BYTES)} up"
    if curve.witnessed:
        apart = np.abs(curve.apart[_that_matter(curve)]) > np.log(_APART)
        if apart.mean() > _APART_SHARE:
            return f"in and out of place are over {_APART:g}x apart at {apart.sum()} of {apart.size} sizes {where}"
    known = scatter(kept)
    if known is not None and known > (_STANDARD_ERROR if curve.repeated else _SCATTER):
        what = "a median is known" if curve.repeated else "in and out of place agree"
        return f"{what} to {known * 100:.2g} % only {where}"
    return None


def leave_one_out(sizes: Floats, times: Floats) -> dict[int, float]:
    """Predict each inner size by the line through its neighbours; return relative errors by size in bytes."""
    return {int(sizes[i]): float(_between(sizes, times, i) / times[i] - 1) for i in range(1, len(sizes) - 1)}


def _slow_in_one_placement(curve: Curve) -> tuple[SetAside, ...]:
    found = []
    for i, apart in enumerate(curve.apart):
        if apart > np.log(_DISTURBED) and curve.median_s[i] > _DISTURBED * _expected(curve, i):
            factor = float(np.exp(apart))
            found.append(_set_aside(curve, i, factor, "the other placement's time, and slower than its neighbours"))
    return tuple(found)


def _standing_out(curve: Curve) -> tuple[SetAside, ...]:
    found = []
    sizes, times = curve.message_bytes, curve.median_s
    for i in range(1, len(times) - 1):
        before = _continued(sizes, times, max(0, i - 2), i - 1, i)
        after = _continued(sizes, times, min(len(times) - 1, i + 2), i + 1, i)
        factor = float(times[i] / max(before, after, _between(sizes, times, i)))
        if factor > _STANDS_OUT:
            found.append(_set_aside(curve, i, factor, "what the sizes on either side lead to"))
    return tuple(found)


def _set_aside(curve: Curve, index: int, factor: float, reason: str) -> SetAside:
    return SetAside(message_bytes=int(curve.message_bytes[index]), factor=factor, reason=reason)


def _expected(curve: Curve, index: int) -> float:
    """Return what the neighbours lead to: between them, or at the ends the nearest one or the line that goes on."""
    sizes, times = curve.message_bytes, curve.median_s
    if index == 0:
        return float(times[1])
    if index == len(times) - 1:
        return _continued(sizes, times, index - 2, index - 1, index) if index >= 2 else float("inf")
    return _between(sizes, times, index)


def _between(sizes: Floats, times: Floats, index: int) -> float:
    share = (sizes[index] - sizes[index - 1]) / (sizes[index + 1] - sizes[index - 1])
    return float(times[index - 1] + share * (times[index + 1] - times[index - 1]))


def _continued(sizes: Floats, times: Floats, far: int, near: int, here: int) -> float:
    """Continue the line through two sizes to a third; it never falls with size, and may end below zero."""
    slope = max(0.0, (times[near] - times[far]) / (sizes[near] - sizes[far])) if far != near else 0.0
    return float(times[near] + slope * (sizes[here] - sizes[near]))


def _departures(sizes: Floats, times: Floats, left: int) -> tuple[float, float]:
    """Return the new course over the old one at either end of the step that begins at `left`."""
    right = left + 1
    ahead = times[right] / _continued(sizes, times, left - 1, left, right)
    back = _continued(sizes, times, right + 1, right, left) / times[left]
    return float(ahead), float(back)


def _strength(curve: Curve, left: int) -> float:
    """Return by how much (log) the course changes at least, seen from either end in either placement; 0 where it does not."""
    ends = np.array([_departures(curve.message_bytes, times, left) for times in (curve.median_s, curve.other_s)])
    if not (ends > 0).all():  # a line that leads below zero is no course; no other placement is NaN
        return 0.0
    logs = np.log(ends)
    least = float(np.abs(logs).min())
    alike = bool((logs > 0).all() or (logs < 0).all())
    return least if alike and least > max(np.log(_SWITCH), _SIGMAS * _noise(curve, left)) else 0.0


def _noise(curve: Curve, left: int) -> float:
    """Return how far the four sizes about a step are known: as the whole sweep is, or as the worst of them."""
    apart, here = np.abs(curve.apart), slice(left - 1, left + 3)
    return float(max(_NORMAL * np.nanmedian(apart), apart[here].max(), curve.relative_error[here].max()))


def _unexplained_fall(curve: Curve, step: int) -> bool:
    """Whether time falls at a step that matters, and the other placement does not fall with it."""
    before, after = curve.median_s[step : step + 2]
    other_before, other_after = curve.other_s[step : step + 2]
    fell_too = curve.witnessed and other_after < (1 - _FALL / 2) * other_before
    return bool(curve.message_bytes[step] >= MATTERS_BYTES and after < (1 - _FALL) * before and not fell_too)


def _that_matter(curve: Curve) -> NDArray[np.bool_]:
    large = curve.message_bytes >= MATTERS_BYTES
    return large if large.sum() > 2 else np.ones_like(large)
