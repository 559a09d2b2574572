"""Are these ranks the stages of a pipeline, and how much of a step is each stage's bubble?

Ranks that send to each other point to point are stages: those of one process group, or joined by pairs, in the order of their
ranks. They are not where the group is described as a ring (context parallelism), nor where collectives among them move more
than the sends do: then the ranks are replicas that also send something.

A stage's bubble is the time of its step in which it does not compute and only sends, receives or waits for another stage:
exposed point-to-point, and idle time for which the host is not to blame. It falls into

    warm-up   until every stage has ended its first send or receive
    steady    between
    drain     from the end of the first stage's last send or receive on

on the reference clock. Stages are not replicas of each other: one that waits is not late, it is a stage.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from commprof.analysis.traces.all_ranks.matched.clocks import RankClock
from commprof.analysis.traces.all_ranks.stragglers import POINT_TO_POINT
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import Intervals, common, complement, length_ns, merged, union, window
from commprof.analysis.traces.one_rank.steps import StepWindow

_RING = re.compile(r"(?:^|[_\W])(?:cp|sp|context|sequence|ring|ulysses)(?:$|[_\W])", re.IGNORECASE)
_PIPELINE = re.compile(r"(?:^|[_\W])(?:pp|pipe|pipeline|stage)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage of a pipeline: medians over steps of the mean over its replicas (`ranks`), in seconds."""

    stage: int
    ranks: tuple[int, ...]
    num_steps: int
    step_s: float
    bubble_s: float
    warm_up_s: float
    steady_s: float
    drain_s: float

    @property
    def bubble_share(self) -> float:
        return self.bubble_s / self.step_s if self.step_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageStep:
    """One step of one rank: its length, and the bubble in its three phases, in nanoseconds."""

    rank: int
    step: int
    wall_ns: int
    phases_ns: tuple[int, int, int]


def find_stages(by_rank: Mapping[int, RankTrace]) -> dict[int, int]:
    """Return by rank which stage of a pipeline it is; nothing where the ranks are none."""
    found: dict[int, int] = {}
    for ranks in _components(_sending_groups(by_rank)):
        if _is_pipeline(ranks, by_rank):
            found |= {rank: stage for stage, rank in enumerate(sorted(ranks))}
    return found


def _sending_groups(by_rank: Mapping[int, RankTrace]) -> Iterator[frozenset[int]]:
    """Yield the ranks of each group in which something is sent; where none names them, all that send are one group's."""
    unnamed = set()
    for rank, trace in by_rank.items():
        for one in trace.collectives:
            if one.op == POINT_TO_POINT and not _RING.search(one.group_description):
                if one.group_ranks:
                    yield frozenset(one.group_ranks)
                else:
                    unnamed.add(rank)
    yield frozenset(unnamed)


def _components(groups: Iterable[frozenset[int]]) -> list[set[int]]:
    found: list[set[int]] = []
    for group in dict.fromkeys(groups):
        joined = set(group).union(*(own for own in found if own & group))
        found = [own for own in found if not own & group] + [joined]
    return [own for own in found if len(own) > 1]


def _is_pipeline(ranks: set[int], by_rank: Mapping[int, RankTrace]) -> bool:
    """Say whether these ranks mostly send: described so, or more bytes (else time) than their collectives together move."""
    inside = [one for rank in ranks & by_rank.keys() for one in by_rank[rank].collectives]
    sent = [one for one in inside if one.op == POINT_TO_POINT]
    if any(_PIPELINE.search(one.group_description) for one in sent):
        return True
    together = [one for one in inside if one.op != POINT_TO_POINT and _joins(one, ranks)]
    sized = all(one.message_bytes is not None for one in (*sent, *together))
    return sum(_weight(one, sized=sized) for one in sent) > sum(_weight(one, sized=sized) for one in together)


def _joins(one: Collective, ranks: set[int]) -> bool:
    return one.group_ranks is None or len(ranks.intersection(one.group_ranks)) > 1


def _weight(one: Collective, *, sized: bool) -> int:
    return (one.message_bytes or 0) if sized else one.end_ns - one.start_ns


def stage_times(
    by_rank: Mapping[int, RankTrace], stage_of: Mapping[int, int], clocks: Mapping[int, RankClock]
) -> list[StageTime]:
    """Return each stage's step and bubble, over the steps in which it sends or receives."""
    sends = {rank: _sends_by_step(by_rank[rank].collectives) for rank in stage_of if rank in by_rank}
    steps: list[_StageStep] = []
    for number in sorted(set().union(*sends.values())) if sends else ():
        firsts = [clocks[rank].to_reference(min(own[number])) for rank, own in sends.items() if number in own]
        lasts = [clocks[rank].to_reference(max(own[number])) for rank, own in sends.items() if number in own]
        full_ns, drains_ns = max(firsts), max(*firsts, min(lasts))
        for rank, own in sends.items():
            windows = [one for one in by_rank[rank].windows if one.number == number and number in own]
            edges = (clocks[rank].from_reference(full_ns), clocks[rank].from_reference(drains_ns))
            steps += [_stage_step(rank, by_rank[rank], one, edges) for one in windows]
    return [
        _summary(stage, [own for own in steps if stage_of[own.rank] == stage])
        for stage in sorted({stage_of[own.rank] for own in steps})
    ]


def _sends_by_step(collectives: Iterable[Collective]) -> dict[int, list[int]]:
    """Return by step when each send or receive ended."""
    ends: dict[int, list[int]] = defaultdict(list)
    for one in collectives:
        if one.op == POINT_TO_POINT:
            ends[one.step].append(one.end_ns)
    return ends


def _stage_step(rank: int, trace: RankTrace, own: StepWindow, edges_ns: tuple[int, int]) -> _StageStep:
    others = [one for one in trace.collectives if one.op != POINT_TO_POINT]
    working = merged(
        trace.compute, trace.memory, trace.launch_idle, union([one.start_ns for one in others], [one.end_ns for one in others])
    )
    bubble = complement(working, own.start_ns, own.end_ns)
    full_ns, drains_ns = (min(max(edge, own.start_ns), own.end_ns) for edge in edges_ns)
    return _StageStep(
        rank=rank,
        step=own.number,
        wall_ns=own.wall_ns,
        phases_ns=(
            _within_ns(bubble, own.start_ns, full_ns),
            _within_ns(bubble, full_ns, drains_ns),
            _within_ns(bubble, drains_ns, own.end_ns),
        ),
    )


def _within_ns(bubble: Intervals, start_ns: int, end_ns: int) -> int:
    return length_ns(common(bubble, window(start_ns, end_ns)))


def _summary(stage: int, steps: Sequence[_StageStep]) -> StageTime:
    by_step: dict[int, list[_StageStep]] = defaultdict(list)
    for own in steps:
        by_step[own.step].append(own)
    warm_up, steady, drain = (
        median(fmean(own.phases_ns[phase] for own in ranks) for ranks in by_step.values()) / 1e9 for phase in range(3)
    )
    return StageTime(
        stage=stage,
        ranks=tuple(sorted({own.rank for own in steps})),
        num_steps=len(by_step),
        step_s=median(fmean(own.wall_ns for own in ranks) for ranks in by_step.values()) / 1e9,
        bubble_s=median(fmean(sum(own.phases_ns) for own in ranks) for ranks in by_step.values()) / 1e9,
        warm_up_s=warm_up,
        steady_s=steady,
        drain_s=drain,
    )
