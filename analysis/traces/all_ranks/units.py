"""What of each sharded unit's collectives is hidden behind computation, by unit, operation and pass?

A transfer is hidden while its rank computes, exposed while it does not, as of DDP's buckets (buckets.py). Seconds count from
the beginning of the step on the same rank. With one rank's trace waiting is 0, and transfer holds both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import lengths_within_ns
from commprof.analysis.traces.one_rank.unit_exchanges import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStep:
    """One collective of a unit in one step of one rank. The share is None for a transfer that took no time."""

    rank: int
    step: int
    unit: str
    op: str
    direction: Direction
    prefetched: bool
    message_bytes: int | None
    start_s: float
    waiting_s: float
    transfer_s: float
    hidden_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSummary:
    """One unit's collective of one kind: medians over steps of the mean over ranks; `count` ranks and steps in all."""

    unit: str
    op: str
    direction: Direction
    prefetched: bool
    message_bytes: int | None
    count: int
    start_s: float
    waiting_s: float
    transfer_s: float
    hidden_share: float | None


def rank_units(rank: int, trace: RankTrace, ready_ns: Mapping[int, int]) -> list[UnitStep]:
    """Return the units' collectives in each step of a rank; `ready_ns` as of its buckets (`rank_buckets`)."""
    parts = [trace.collectives[own.collective] for own in trace.units]
    arrived = [
        min(max(ready_ns.get(own.collective, part.start_ns), part.start_ns), part.end_ns)
        for own, part in zip(trace.units, parts, strict=True)
    ]
    ends = np.array([part.end_ns for part in parts], dtype=np.int64)
    hidden = lengths_within_ns(trace.compute, np.array(arrived, dtype=np.int64), ends).tolist()
    begin_ns = {window.number: window.start_ns for window in trace.windows}
    return [
        UnitStep(
            rank=rank,
            step=own.step,
            unit=own.unit,
            op=part.op,
            direction=own.direction,
            prefetched=own.prefetched,
            message_bytes=part.message_bytes,
            start_s=(part.start_ns - begin_ns[own.step]) / 1e9,
            waiting_s=(since_ns - part.start_ns) / 1e9,
            transfer_s=(part.end_ns - since_ns) / 1e9,
            hidden_share=hidden_ns / (part.end_ns - since_ns) if part.end_ns > since_ns else None,
        )
        for own, part, since_ns, hidden_ns in zip(trace.units, parts, arrived, hidden, strict=True)
        if own.step in begin_ns
    ]


def summarise_units(steps: Iterable[UnitStep]) -> list[UnitSummary]:
    """Return the medians of each unit's collectives, in the order in which a step has them."""
    kinds: dict[tuple[str, str, str, bool, int], list[UnitStep]] = defaultdict(list)
    for own in steps:
        size = -1 if own.message_bytes is None else own.message_bytes
        kinds[own.unit, own.op, own.direction, own.prefetched, size].append(own)
    return sorted(map(_summary, kinds.values()), key=lambda own: own.start_s)


def _summary(steps: Sequence[UnitStep]) -> UnitSummary:
    by_step: dict[int, list[UnitStep]] = defaultdict(list)
    for own in steps:
        by_step[own.step].append(own)
    most = max(map(len, by_step.values()))
    together = [own for own in by_step.values() if len(own) == most]
    start_s, waiting_s, transfer_s = (
        median(fmean(getattr(own, name) for own in ranks) for ranks in together)
        for name in ("start_s", "waiting_s", "transfer_s")
    )
    hidden_s = median(fmean(own.transfer_s * (own.hidden_share or 0.0) for own in ranks) for ranks in together)
    first = steps[0]
    return UnitSummary(
        unit=first.unit,
        op=first.op,
        direction=first.direction,
        prefetched=first.prefetched,
        message_bytes=first.message_bytes,
        count=len(steps),
        start_s=start_s,
        waiting_s=waiting_s,
        transfer_s=transfer_s,
        hidden_share=min(1.0, hidden_s / transfer_s) if transfer_s else None,
    )
