"""How long does a collective of S bytes take, as far as the traces can tell?

    t = latency + S / bandwidth

The same line as `commprof fit` draws through a bench, on relative error. Its times are the shortest that any rank of a whole
group spent in each collective, the others' hold waiting: one rank's trace cannot give it. A job has few sizes, so the line is
refused unless there are three at least, a factor of four between them, and times that grow with size beyond their noise.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.units import format_bytes, format_rate

if TYPE_CHECKING:
    from commprof.analysis.wire.line import LineFit

_MIN_SIZES = 3
_MIN_FACTOR = 4
_MAX_SPREAD = 2  # between the ends of the bandwidth's interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCost:
    """The cost of one operation over groups of `num_ranks` whole ranks: a line, or why there is none (`refusal`).

    `transfer_s` are medians by size. `busbw_bytes_per_s` is the line's bandwidth, counted as nccl-tests does.
    """

    op: str
    num_ranks: int
    message_bytes: tuple[int, ...]
    transfer_s: tuple[float, ...]
    num_samples: int
    line: "LineFit | None"
    busbw_bytes_per_s: float | None
    refusal: str


def trace_costs(matched: Iterable[MatchedCollective], everything: Iterable[Collective]) -> list[TraceCost]:
    """Return the cost of each operation that carries sizes, by the number of ranks in its group."""
    found: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in matched:
        size = one.first.message_bytes
        if one.complete and len(one.parts) > 1 and size and one.transfer_ns:
            found[one.first.op, len(one.parts)][size].append(one.transfer_ns / 1e9)
    partial = sorted({own.op for own in everything if own.message_bytes} - {op for op, _ in found})
    missing = "no collective of it is known from all ranks of its group, and one rank's time holds its waiting"
    return [_cost(op, num_ranks, dict(sorted(own.items()))) for (op, num_ranks), own in sorted(found.items())] + [
        _refused(op, 1, {}, f"{missing}; trace every rank") for op in partial
    ]


def _cost(op: str, num_ranks: int, samples: dict[int, list[float]]) -> TraceCost:
    sizes = list(samples)
    if len(sizes) < _MIN_SIZES:
        few = f"it has {len(sizes)} size{'s' * (len(sizes) > 1)} ({', '.join(map(format_bytes, sizes))})"
        return _refused(op, num_ranks, samples, f"{few}, a line needs {_MIN_SIZES}")
    if sizes[-1] < _MIN_FACTOR * sizes[0]:
        near = f"its sizes differ by a factor of {sizes[-1] / sizes[0]:.2g} only"
        return _refused(op, num_ranks, samples, f"{near} ({format_bytes(sizes[0])} to {format_bytes(sizes[-1])})")
    from commprof.analysis.wire.line import fit_samples  # scipy takes half a second to load, and most traces need no line

    try:
        line = fit_samples(np.array(sizes, dtype=float), [np.array(own) for own in samples.values()])
    except UnusableData:
        return _refused(op, num_ranks, samples, "its time does not grow with size: noise, or the wire is not what limits it")
    low, high = line.bandwidth_interval.low, line.bandwidth_interval.high
    if line.verdict == "sound" and high > _MAX_SPREAD * low:
        noise = f"noisy: its bandwidth may be anything from {format_rate(low)} to {format_rate(high)}"
        return _refused(op, num_ranks, samples, f"{noise}; trace more steps")
    if line.verdict != "sound":
        return _refused(op, num_ranks, samples, f"{line.verdict}; trace more steps")
    if max(map(len, samples.values())) == 1:
        return _refused(op, num_ranks, samples, "each size was seen once, so nothing tells noise from size; trace more steps")
    factor = OPERATIONS[op].bus_factor(num_ranks) if op in OPERATIONS else None
    busbw = None if factor is None else line.bandwidth_bytes_per_s * factor
    return _described(op, num_ranks, samples, line, busbw, "")


def _refused(op: str, num_ranks: int, samples: dict[int, list[float]], refusal: str) -> TraceCost:
    return _described(op, num_ranks, samples, None, None, refusal)


def _described(
    op: str, num_ranks: int, samples: dict[int, list[float]], line: "LineFit | None", busbw: float | None, refusal: str
) -> TraceCost:
    return TraceCost(
        op=op,
        num_ranks=num_ranks,
        message_bytes=tuple(samples),
        transfer_s=tuple(float(np.median(own)) for own in samples.values()),
        num_samples=sum(map(len, samples.values())),
        line=line,
        busbw_bytes_per_s=busbw,
        refusal=refusal,
    )
