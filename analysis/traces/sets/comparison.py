"""What did a change do to the step? Two trace sets, part by part, with the noise of their steps.

A set's part is that of parts.py: the median, over the steps that every rank has, of the mean over ranks. Each median has a
distribution-free 95 % interval (two order statistics), and a difference reaches from end to end:

    low = low(after) - high(before)        high = high(after) - low(before)

That is wider than one difference needs and about right for nine at once: of two sets that do not differ, one in ten at most
showed a change in any of nine independent parts (simulated: 6 to 50 independent steps; normal, exponential, Cauchy). Below
six steps there is no such interval, and no part is judged. The noise is that of steps: what differs from run to run without any
change (clocks, placement, neighbours) is not in it.

Times are seconds. Medians of parts do not add up to the median step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from commprof.analysis.runs.interval import Interval
from commprof.analysis.traces.all_ranks.budget import StepBudget
from commprof.analysis.traces.all_ranks.chance import ENOUGH_STEPS, MIN_STEPS
from commprof.analysis.traces.all_ranks.job import CollectiveSummary, TraceAnalysis
from commprof.analysis.traces.all_ranks.kernel_kinds import kind_series_ns
from commprof.analysis.traces.all_ranks.parts import common_steps, part_series_ns
from commprof.analysis.traces.one_rank.steps import NO_STEP
from commprof.analysis.traces.one_rank.work.kinds import KINDS
from commprof.commbench.errors import BadInput
from commprof.commbench.spread import median_interval

_TOGETHER = {  # where one set cannot tell waiting from transfer, only their sum can be compared
    "transfer_hidden": "communication_hidden",
    "waiting_hidden": "communication_hidden",
    "transfer_exposed": "communication_exposed",
    "waiting_exposed": "communication_exposed",
}

_MAX_RANKS_NAMED = 8

Judgement = Literal["longer", "shorter", "noise", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDifference:
    """One part of the step, or the whole step: medians, and after - before with its interval; None below six steps."""

    part: str
    before_s: float
    after_s: float
    difference_s: float
    interval_s: Interval | None
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectivePair:
    """All collectives of one operation, size and kind of group, before and after; None where a set has none of them."""

    op: str
    message_bytes: int | None
    group: str
    before: CollectiveSummary | None
    after: CollectiveSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDifference:
    """Kernels of one kind, durations added up: medians over steps of the mean over ranks, and after - before; not judged."""

    kind: str
    before_s: float
    after_s: float
    difference_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSet:
    """What was compared: how many ranks of the job's have a trace, and the steps that all of these have."""

    num_ranks: int
    world_size: int | None
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceComparison:
    """Two sets side by side, the whole step first; `notes` say what limits the comparison."""

    before: TraceSet
    after: TraceSet
    notes: tuple[str, ...]
    differences: tuple[PartDifference, ...]
    kernels: tuple[KindDifference, ...]
    collectives: tuple[CollectivePair, ...]


def compare_traces(before: TraceAnalysis, after: TraceAnalysis, *, disturbed: str | None = None) -> TraceComparison:
    """Compare two sets; raise BadInput where their steps are not known or their parts do not mean the same.

    Of runs that others `disturbed` no part is judged: what differs may be their work.
    """
    steps = {"before": _common_steps(before, "before"), "after": _common_steps(after, "after")}
    kinds = [{own.on_gpu for own in one.by_rank.values()} for one in (before, after)]
    if kinds[0] != kinds[1]:
        raise BadInput(
            "one set has GPU work and the other has none: computing means kernels in one and operators in the other, so no "
            "part can be compared; name two sets of one kind"
        )
    together = {} if _tells_waiting(before) and _tells_waiting(after) else _TOGETHER
    series = {when: part_series_ns(own.values(), together) for when, own in steps.items()}
    differences = [_difference(part, series["before"][part], series["after"][part]) for part in series["before"]]
    return TraceComparison(
        before=TraceSet(num_ranks=len(before.by_rank), world_size=before.world_size, steps=tuple(steps["before"])),
        after=TraceSet(num_ranks=len(after.by_rank), world_size=after.world_size, steps=tuple(steps["after"])),
        notes=(*([] if disturbed is None else [f"nothing is judged: {disturbed}"]), *_notes(before, after, steps, together)),
        differences=tuple(differences if disturbed is None else (replace(own, judgement="unknown") for own in differences)),
        kernels=tuple(_kinds(before, after, steps)),
        collectives=_pairs(before.collectives, after.collectives),
    )


def _kinds(before: TraceAnalysis, after: TraceAnalysis, steps: Mapping[str, Mapping[int, object]]) -> Iterator[KindDifference]:
    series = [kind_series_ns(one.by_rank, list(steps[when])) for when, one in (("before", before), ("after", after))]
    for kind in KINDS:
        if any(any(own.get(kind, ())) for own in series):
            first, second = (median(own.get(kind, [0.0])) / 1e9 for own in series)
            yield KindDifference(kind=kind, before_s=first, after_s=second, difference_s=second - first)


def _common_steps(analysis: TraceAnalysis, when: str) -> dict[int, list[StepBudget]]:
    """Return the budgets of the steps that every rank has, by step."""
    first = next(iter(analysis.by_rank.values())).path
    if any(own.step == NO_STEP for own in analysis.budgets):
        raise BadInput(
            f"the set {when} the change ({first}) has a trace that marks no steps, so nothing tells how many it holds; call "
            "profiler.step() after each step"
        )
    common = common_steps(analysis.budgets, len(analysis.by_rank))
    if not common:
        raise BadInput(f"the set {when} the change ({first}) has no step that all its ranks have; trace the same steps on all")
    return common


def _tells_waiting(analysis: TraceAnalysis) -> bool:
    return analysis.waiting_share is not None or not any(own.collectives for own in analysis.by_rank.values())


def _difference(part: str, before_ns: Sequence[int], after_ns: Sequence[int]) -> PartDifference:
    """Subtract whole nanoseconds: seconds as fractions would make differences of their own rounding."""
    interval = None
    if min(len(before_ns), len(after_ns)) >= MIN_STEPS:
        (low, high), (low_after, high_after) = median_interval(before_ns), median_interval(after_ns)
        interval = Interval(low=(low_after - high) / 1e9, high=(high_after - low) / 1e9)
    middle, middle_after = median(before_ns), median(after_ns)
    return PartDifference(
        part=part,
        before_s=middle / 1e9,
        after_s=middle_after / 1e9,
        difference_s=(middle_after - middle) / 1e9,
        interval_s=interval,
        judgement=_judgement(interval),
    )


def _judgement(interval: Interval | None) -> Judgement:
    if interval is None:
        return "unknown"
    return "longer" if interval.low > 0 else "shorter" if interval.high < 0 else "noise"


def _pairs(before: Sequence[CollectiveSummary], after: Sequence[CollectiveSummary]) -> tuple[CollectivePair, ...]:
    """Pair the summaries by kind; what is known from all ranks goes before what is known from one."""
    sides = [{(own.op, own.message_bytes, own.group): own for own in reversed(side)} for side in (before, after)]
    kinds = sorted(sides[0].keys() | sides[1].keys(), key=lambda kind: (kind[0], kind[1] or -1, kind[2]))
    return tuple(
        CollectivePair(op=kind[0], message_bytes=kind[1], group=kind[2], before=sides[0].get(kind), after=sides[1].get(kind))
        for kind in kinds
    )


def _notes(
    before: TraceAnalysis, after: TraceAnalysis, steps: Mapping[str, Mapping[int, object]], together: Mapping[str, str]
) -> Iterator[str]:
    counts = [len(own) for own in steps.values()]
    if min(counts) < MIN_STEPS:
        yield (
            f"{counts[0]} step{'s' * (counts[0] != 1)} before and {counts[1]} after: noise is told from a change with "
            f"{MIN_STEPS} or more in each, so nothing is judged; trace more (ours: profiling.trace_steps={ENOUGH_STEPS})"
        )
    yield from _set_up(before, after)
    if together:
        yield "one set cannot tell waiting from transfer, so their sum is compared as communication"
    if before.findings or after.findings:
        yield f"findings: {len(before.findings)} before, {len(after.findings)} after; commprof trace on each names them"


def _set_up(before: TraceAnalysis, after: TraceAnalysis) -> Iterator[str]:
    """Say what differs between the two beside the steps: it may be all that the change is."""
    worlds = (before.world_size, after.world_size)
    if worlds[0] != worlds[1]:
        numbers = " and ".join("an unknown number of" if own is None else str(own) for own in worlds)
        yield f"the jobs have {numbers} ranks, before and after: communication differs for that alone"
    ranks = [tuple(one.by_rank) for one in (before, after)]
    if ranks[0] != ranks[1]:
        yield f"traced are {_ranks(ranks[0])} before and {_ranks(ranks[1])} after: other ranks may do other work"
    for what, field in (("backends", "backend"), ("accelerators", "device")):
        named = [{getattr(own.header, field) for own in one.by_rank.values()} - {None} for one in (before, after)]
        if named[0] != named[1]:
            yield f"the {what} differ: {_listed(named[0])} before, {_listed(named[1])} after"
    found = [{own.steps_from for own in one.by_rank.values()} for one in (before, after)]
    if found[0] != found[1]:
        yield "steps are the profiler's in one set and found in the other: they may begin at other places"
    kinds = [{own.group for own in one.groups} for one in (before, after)]
    if kinds[0] != kinds[1] and all(kinds):
        yield f"the groups differ: {_listed(kinds[0])} before, {_listed(kinds[1])} after"


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:_MAX_RANKS_NAMED]))
    return f"{'rank' if len(ranks) == 1 else f'{len(ranks)} ranks:'} {shown}{', ...' if len(ranks) > _MAX_RANKS_NAMED else ''}"


def _listed(names: set[Any]) -> str:
    return " and ".join(sorted(str(name) or "of unknown groups" for name in names)) or "unknown"
