"""Which measurement is worth buying next? The N whose row would narrow the interval of the farthest answer most.

Each candidate, a doubling of the smallest row or of the node below the farthest N, is added with the throughput that is
expected there (a withheld one: that of perfect scaling), and everything is told again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from commprof.analysis.scaling.results import Extrapolated, NextRow
from commprof.analysis.scaling.series import Series
from commprof.analysis.scaling.speedup import ScalingKind

Predict = Callable[[Series, int], Extrapolated]
_WORTH = 0.9  # of the width: a row that narrows it by less than a tenth is not worth its ranks


def best_next(
    series: Series, used: Sequence[int], predictions: Sequence[Extrapolated], scaling: ScalingKind, predict: Predict
) -> NextRow | None:
    """Return the best row to add below the farthest N; None where none narrows its interval by a tenth."""
    farthest = max(predictions, key=lambda one: one.world_size)
    known = replace(series, values={n: series.values[n] for n in used})
    now, found = _half_width(farthest), []
    for candidate in _candidates(known, farthest.world_size):
        row = predict(known, candidate).value or series.scaled(max(used), candidate, scaling)
        then = predict(replace(known, values=dict(sorted({**known.values, candidate: row}.items()))), farthest.world_size)
        if (width := _half_width(then)) is not None and (now is None or width < _WORTH * now):
            found.append((width, candidate))
    if not found:
        return None
    width, candidate = min(found)
    return NextRow(world_size=candidate, target=farthest.world_size, half_width=now, half_width_then=width)


def _candidates(series: Series, below: int) -> Iterator[int]:
    starts = {min(series.values), series.ranks_per_node or min(series.values)}
    doublings = {start << power for start in starts for power in range(below.bit_length())}
    yield from sorted(n for n in doublings if 1 < n < below and n not in series.values)


def _half_width(one: Extrapolated) -> float | None:
    if one.value is None or one.low is None or one.high is None:
        return None
    return (one.high - one.low) / 2 / one.value
