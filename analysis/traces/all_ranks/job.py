"""What do the traces of some ranks say together? Findings, budgets, collectives, clocks, stragglers: one value, no text.

Bandwidths come from the shortest time that any rank of the whole group spent in the collective, for the others waited; where a
rank of the group is missing there is none, rather than one that holds waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from commprof.analysis.traces.all_ranks.buckets import BucketStep, rank_buckets
from commprof.analysis.traces.all_ranks.budget import Communication, StepBudget, rank_budgets, split_communication
from commprof.analysis.traces.all_ranks.cost import TraceCost, trace_costs
from commprof.analysis.traces.all_ranks.doctor import Finding, assign_ranks, examine
from commprof.analysis.traces.all_ranks.matched.arrivals import Arrivals, Int64s, groups
from commprof.analysis.traces.all_ranks.matched.clocks import RankClock, align_clocks, ready_ns
from commprof.analysis.traces.all_ranks.matched.groups import NO_GROUP, GroupStep, kinds_of_ranks
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective, Matching, by_kind, match_collectives
from commprof.analysis.traces.all_ranks.pipeline import StageTime, find_stages, stage_times
from commprof.analysis.traces.all_ranks.stragglers import Stragglers, find_stragglers
from commprof.analysis.traces.all_ranks.units import UnitStep, rank_units
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import merged
from commprof.commbench.records.operations import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveSummary:
    """All collectives of one operation, size and kind of group: medians over them, and which share of ranks' time is waiting.

    `time_s` is what a rank spends in one, waiting included, `transfer_s` the shortest that any rank did. A rank waits until the
    last one has arrived. Without every rank of the group, transfer, bandwidths and waiting are None: they cannot be told apart.
    `words` are what the trace calls one whose operation is unknown.
    """

    op: str
    message_bytes: int | None
    num_ranks: int
    count: int
    time_s: float
    transfer_s: float | None
    waiting_share: float | None
    algbw_bytes_per_s: float | None
    busbw_bytes_per_s: float | None
    group: str = NO_GROUP
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnalysis:
    """Everything that `commprof trace` knows. `world_size` is the job's, None where no trace names it."""

    by_rank: dict[int, RankTrace]
    world_size: int | None
    findings: tuple[Finding, ...]
    communication: dict[int, Communication]
    budgets: tuple[StepBudget, ...]
    matching: Matching
    collectives: tuple[CollectiveSummary, ...]
    clocks: dict[int, RankClock]
    stragglers: Stragglers
    buckets: tuple[BucketStep, ...]
    costs: tuple[TraceCost, ...]
    waiting_share: float | None
    groups: tuple[GroupStep, ...] = ()
    stages: tuple[StageTime, ...] = ()
    units: tuple[UnitStep, ...] = ()


def analyse_traces(
    traces: Sequence[RankTrace], *, untraced_s: float | None = None, known: Sequence[Finding] = ()
) -> TraceAnalysis:
    """Analyse reduced traces of the ranks of one job.

    `untraced_s` is how long its steps are without the profiler, if known; `known` are findings of who chose the traces.
    """
    by_rank, findings = assign_ranks(traces)
    named = [own.header.world_size for own in by_rank.values() if own.header.world_size is not None]
    world_size = max(named, default=None)
    matching = match_collectives(
        {rank: own.collectives for rank, own in by_rank.items()},
        world_size or len(by_rank),
        has_subgroups=any(own.header.has_subgroups for own in by_rank.values()),
    )
    clocks = align_clocks({rank: own.header.host_name for rank, own in by_rank.items()}, matching.matched)
    arrivals = Arrivals.of(matching.matched)
    ready_times_ns = ready_ns(arrivals, clocks)
    ready = _ready(by_rank, matching.matched, arrivals, ready_times_ns)
    waited_ns = _waited_ns(matching.matched, arrivals, ready_times_ns)
    split = {rank: split_communication(own, ready[rank]) for rank, own in by_rank.items()}
    budgets = [step for rank, own in by_rank.items() for step in rank_budgets(rank, own, split[rank])]
    stage_of = find_stages(by_rank)
    busy = {rank: merged(own.compute, split[rank].transfer) for rank, own in by_rank.items()}
    return TraceAnalysis(
        by_rank=by_rank,
        world_size=world_size,
        findings=(*known, *findings, *examine(by_rank, world_size, matching, clocks)),
        communication=split,
        budgets=tuple(budgets),
        matching=matching,
        collectives=tuple(_summaries(by_rank, matching, waited_ns, world_size)),
        clocks=clocks,
        stragglers=find_stragglers(matching.matched, clocks, busy, budgets, untraced_s, stage_of),
        buckets=tuple(bucket for rank, own in by_rank.items() for bucket in rank_buckets(rank, own, ready[rank], world_size)),
        costs=tuple(trace_costs(matching.matched, (one for own in by_rank.values() for one in own.collectives))),
        waiting_share=_waiting_share([one for one in matching.matched if one.complete], waited_ns),
        groups=tuple(kinds_of_ranks(by_rank, world_size)),
        stages=tuple(stage_times(by_rank, stage_of, clocks)),
        units=tuple(unit for rank, own in by_rank.items() for unit in rank_units(rank, own, ready[rank])),
    )


def _ready(
    by_rank: Mapping[int, RankTrace], matched: Sequence[MatchedCollective], arrivals: Arrivals, times_ns: Int64s
) -> dict[int, dict[int, int]]:
    """Return by rank and position when, on that rank's clock, the last rank had arrived."""
    position = {id(one): index for own in by_rank.values() for index, one in enumerate(own.collectives)}
    positions = np.fromiter((position[id(part)] for one in matched for part in one.parts.values()), np.int64, len(times_ns))
    ready = {
        rank: dict(zip(positions[rows].tolist(), times_ns[rows].tolist(), strict=True)) for rank, rows in groups(arrivals.rank)
    }
    return {rank: ready.get(rank, {}) for rank in by_rank}


def _waited_ns(matched: Sequence[MatchedCollective], arrivals: Arrivals, times_ns: Int64s) -> dict[int, int]:
    """Return by identity of each matched collective how long its ranks waited for the last one, added up."""
    waits_ns = np.clip(times_ns - arrivals.start_ns, 0, np.maximum(arrivals.end_ns - arrivals.start_ns, 0))
    sums_ns = np.bincount(arrivals.collective, weights=waits_ns, minlength=len(matched))
    return dict(zip(map(id, matched), np.rint(sums_ns).astype(np.int64).tolist(), strict=True))


def _waiting_share(together: Sequence[MatchedCollective], waited_ns: Mapping[int, int]) -> float | None:
    """Return which share of the time that ranks spent in these collectives is waiting; None where they spent none."""
    spent_ns = sum(part.end_ns - part.start_ns for one in together for part in one.parts.values())
    return sum(waited_ns[id(one)] for one in together) / spent_ns if spent_ns > 0 else None


def _summaries(
    by_rank: Mapping[int, RankTrace], matching: Matching, waited_ns: Mapping[int, int], world_size: int | None
) -> Iterable[CollectiveSummary]:
    seen = {id(part) for one in matching.matched for part in one.parts.values()}
    alone = [
        MatchedCollective(parts={rank: one}, num_expected=one.group_size, by_sequence=False)
        for rank, own in by_rank.items()
        for one in own.collectives
        if id(one) not in seen
    ]
    for found in (matching.matched, alone):
        for (op, size, group), together in by_kind(found, world_size).items():
            yield _summary(op, None if size < 0 else size, group, together, waited_ns)


def _summary(
    op: str, size: int | None, group: str, together: Sequence[MatchedCollective], waited_ns: Mapping[int, int]
) -> CollectiveSummary:
    spent_ns = [part.end_ns - part.start_ns for one in together for part in one.parts.values()]
    known = all(one.complete and len(one.parts) > 1 for one in together)
    transfer_s = median(one.transfer_ns for one in together) / 1e9 if known else None
    num_ranks = len(together[0].parts)
    algbw = size / transfer_s if size and transfer_s else None
    return CollectiveSummary(
        op=op,
        message_bytes=size,
        num_ranks=num_ranks,
        count=len(together),
        time_s=median(spent_ns) / 1e9,
        transfer_s=transfer_s,
        waiting_share=_waiting_share(together, waited_ns) if known else None,
        algbw_bytes_per_s=algbw,
        busbw_bytes_per_s=algbw * OPERATIONS[op].bus_factor(num_ranks) if algbw and op in OPERATIONS else None,
        group=group,
        words=together[0].first.words,
    )


def all_collectives(analysis: TraceAnalysis) -> Iterable[tuple[int, Collective]]:
    """Yield every rank's collectives."""
    for rank, own in analysis.by_rank.items():
        for one in own.collectives:
            yield rank, one
