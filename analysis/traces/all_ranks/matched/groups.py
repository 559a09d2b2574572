"""Which group of ranks does each collective belong to, and how much of a step does each kind of group take?

A kind of group is its description (`mesh_tp`, `dp`, `default_pg`), the same for all groups of tensor parallelism, say. Where
the trace describes none, it is what the ranks tell: how many and how far apart (tensor-parallel ranks are neighbours,
data-parallel ones a stride apart).

An instant at which collectives of one group alone run is that group's, hidden while the rank computes and exposed while it
does not; one at which several groups' run is nobody's alone: SEVERAL. These add up to the budget's transfer and waiting, hidden
and exposed. The hidden share is of all time in which the group's collectives ran, whatever else did.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import Intervals, common, lengths_within_ns, merged, union, without

SEVERAL = "several at once"
NO_GROUP = ""
_MAX_LISTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStep:
    """One kind of group in one step of one rank: `count` collectives; hidden and exposed are while no other kind's ran.

    `total_ns` is all time in which its collectives ran, `total_hidden_ns` the part of it in which the rank computed.
    """

    rank: int
    step: int
    group: str
    num_ranks: int | None
    count: int
    hidden_ns: int
    exposed_ns: int
    total_ns: int
    total_hidden_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """One kind of group: medians over steps of the mean over the ranks that have it, in seconds a step."""

    group: str
    num_ranks: int | None
    count: float
    total_s: float
    hidden_s: float
    exposed_s: float
    hidden_share: float | None


def group_kind(one: Collective, world_size: int | None) -> str:
    """Return which kind of group a collective ran in, or NO_GROUP where the trace does not tell."""
    if one.group_description:
        return one.group_description
    ranks = one.group_ranks
    if ranks:
        if len(ranks) == world_size:
            return "all ranks"
        strides = set(np.diff(ranks).tolist())
        if len(ranks) > 1 and len(strides) == 1:
            return f"{len(ranks)} ranks {strides.pop()} apart"
        shown = ", ".join(map(str, ranks[:_MAX_LISTED]))
        return f"ranks {shown}{', ...' if len(ranks) > _MAX_LISTED else ''}"
    if one.group_size is None:
        return NO_GROUP
    return "all ranks" if one.group_size == world_size else f"{one.group_size} ranks"


def rank_groups(rank: int, trace: RankTrace, world_size: int | None) -> list[GroupStep]:
    """Return what each kind of group took of each step of a rank, SEVERAL behind them where there are several."""
    members: dict[str, list[Collective]] = defaultdict(list)
    for one in trace.collectives:
        members[group_kind(one, world_size)].append(one)
    ran = {kind: union([one.start_ns for one in own], [one.end_ns for one in own]) for kind, own in members.items()}
    found: list[GroupStep] = []
    shared = _shared(list(ran.values()))
    for kind, own in members.items():
        size = next((one.group_size for one in own if one.group_size), None)
        found += _steps(rank, trace, kind, size, own, ran[kind], without(ran[kind], shared))
    return found + (_steps(rank, trace, SEVERAL, None, [], shared, shared) if len(shared) else [])


def _shared(sets: Sequence[Intervals]) -> Intervals:
    """Return what two or more of the sets cover."""
    covered, shared = union([], []), union([], [])
    for own in sets:
        shared = merged(shared, common(covered, own))
        covered = merged(covered, own)
    return shared


def _steps(
    rank: int,
    trace: RankTrace,
    kind: str,
    num_ranks: int | None,
    members: Iterable[Collective],
    ran: Intervals,
    alone: Intervals,
) -> list[GroupStep]:
    start_ns = np.array([window.start_ns for window in trace.windows], dtype=np.int64)
    end_ns = np.array([window.end_ns for window in trace.windows], dtype=np.int64)
    sets = (common(alone, trace.compute), without(alone, trace.compute), ran, common(ran, trace.compute))
    lengths = [lengths_within_ns(own, start_ns, end_ns).tolist() for own in sets]
    counts: dict[int, int] = defaultdict(int)
    for one in members:
        counts[one.step] += 1
    return [
        GroupStep(
            rank=rank,
            step=window.number,
            group=kind,
            num_ranks=num_ranks,
            count=counts[window.number],
            hidden_ns=hidden,
            exposed_ns=exposed,
            total_ns=total,
            total_hidden_ns=total_hidden,
        )
        for window, hidden, exposed, total, total_hidden in zip(trace.windows, *lengths, strict=True)
    ]


def summarise_groups(steps: Iterable[GroupStep]) -> list[GroupSummary]:
    """Return each kind of group, the one that is exposed longest first, SEVERAL last."""
    kinds: dict[str, list[GroupStep]] = defaultdict(list)
    for own in steps:
        kinds[own.group].append(own)
    found = [_summary(kind, own) for kind, own in kinds.items()]
    return sorted(found, key=lambda own: (own.group == SEVERAL, -own.exposed_s, -own.total_s))


def _summary(kind: str, own: Sequence[GroupStep]) -> GroupSummary:
    by_step: dict[int, list[GroupStep]] = defaultdict(list)
    for one in own:
        by_step[one.step].append(one)
    means = {name: median(_mean(ranks, name) for ranks in by_step.values()) for name in _MEANS}
    total_ns, hidden_ns = sum(one.total_ns for one in own), sum(one.total_hidden_ns for one in own)
    return GroupSummary(
        group=kind,
        num_ranks=next((one.num_ranks for one in own if one.num_ranks), None),
        count=means["count"],
        total_s=means["total_ns"] / 1e9,
        hidden_s=means["hidden_ns"] / 1e9,
        exposed_s=means["exposed_ns"] / 1e9,
        hidden_share=hidden_ns / total_ns if total_ns else None,
    )


_MEANS = ("count", "total_ns", "hidden_ns", "exposed_ns")


def _mean(ranks: Iterable[GroupStep], name: str) -> float:
    return fmean(getattr(own, name) for own in ranks)


def kinds_of_ranks(by_rank: Mapping[int, RankTrace], world_size: int | None) -> list[GroupStep]:
    """Return the groups of every rank's steps."""
    return [own for rank, trace in by_rank.items() for own in rank_groups(rank, trace, world_size)]
