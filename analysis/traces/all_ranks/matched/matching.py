"""Which collective on this rank is which on the others?

By sequence number within a process group where all ranks' traces have it (Kineto since March 2026). Else by order: the k-th
collective of the same operation, size, data type and group in the same profiler step is one and the same. Where ranks disagree
how many of a kind a step has, none of that kind in that step is matched: a wrong match would invent waiting. Nor is one whose
group the trace does not name (gloo's never do) where there are groups of some ranks only.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from commprof.analysis.traces.all_ranks.matched.groups import group_kind
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.steps import NO_STEP

_ANY_GROUP = "there are groups of some ranks only, and the trace does not say in which group it ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedCollective:
    """One collective seen by several ranks: `parts` by rank. `num_expected` is how many ranks its group has, if known."""

    parts: dict[int, Collective]
    num_expected: int | None
    by_sequence: bool

    @property
    def first(self) -> Collective:
        return next(iter(self.parts.values()))

    @property
    def complete(self) -> bool:
        """Whether every rank of the group is there: only then is the last arrival known to be the last."""
        return self.num_expected is not None and len(self.parts) >= self.num_expected

    @property
    def transfer_ns(self) -> int:
        """The shortest time any rank spent: the last to arrive waited for nobody. An upper bound of pure transfer."""
        return min(part.end_ns - part.start_ns for part in self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """Collectives of one kind that have no partner on another rank, and why not."""

    op: str
    message_bytes: int | None
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What was matched, in the order of the first rank's clock, and what was not."""

    matched: tuple[MatchedCollective, ...]
    unmatched: tuple[Unmatched, ...]

    @property
    def num_by_sequence(self) -> int:
        return sum(one.by_sequence for one in self.matched)


def match_collectives(
    by_rank: Mapping[int, Iterable[Collective]], world_size: int | None, *, has_subgroups: bool = False
) -> Matching:
    """Match the collectives of these ranks; one that names no group is of all `world_size` ranks, unless it has subgroups."""
    groups: dict[str, dict[int, list[Collective]]] = defaultdict(lambda: defaultdict(list))
    for rank, collectives in by_rank.items():
        for own in collectives:
            groups[own.group][rank].append(own)
    matched: list[MatchedCollective] = []
    left: Counter[tuple[str, int | None, str]] = Counter()
    for group, members in groups.items():
        if has_subgroups and not group:
            left.update((own.op, own.message_bytes, _ANY_GROUP) for collectives in members.values() for own in collectives)
        else:
            _match_group(members, len(by_rank), world_size, matched, left)
    matched.sort(key=lambda one: one.first.start_ns)
    unmatched = tuple(
        Unmatched(op=op, message_bytes=size, count=count, reason=reason) for (op, size, reason), count in left.most_common()
    )
    return Matching(matched=tuple(matched), unmatched=unmatched)


def _match_group(
    members: Mapping[int, list[Collective]],
    num_traces: int,
    world_size: int | None,
    matched: list[MatchedCollective],
    left: Counter[tuple[str, int | None, str]],
) -> None:
    everything = [own for collectives in members.values() for own in collectives]
    size = next((own.group_size for own in everything if own.group_size), world_size)
    by_sequence = all(own.sequence is not None for own in everything)
    if len(members) < 2:
        reason = "there is one rank's trace only" if num_traces < 2 else "no other rank's trace has its process group"
        left.update((own.op, own.message_bytes, reason) for own in everything)
        return
    for key, parts in _by_key(members, by_sequence=by_sequence).items():
        counts = {len(parts[rank]) for rank in members}
        if len(counts) == 1 and key[0] is not None:
            together = zip(*(parts[rank] for rank in members), strict=True)
            matched += [
                MatchedCollective(parts=dict(zip(members, row, strict=True)), num_expected=size, by_sequence=by_sequence)
                for row in together
            ]
        else:
            reason = "launched in no recorded step" if key[0] is None else "not as many of its kind on every rank"
            left.update((own.op, own.message_bytes, reason) for rank in parts for own in parts[rank])


def _by_key(
    members: Mapping[int, list[Collective]], *, by_sequence: bool
) -> dict[tuple[Hashable, ...], dict[int, list[Collective]]]:
    """Sort collectives into kinds; the first item of a key is None for those that nothing places in time."""
    has_steps = any(own.step != NO_STEP for collectives in members.values() for own in collectives)
    keyed: dict[tuple[Hashable, ...], dict[int, list[Collective]]] = defaultdict(lambda: defaultdict(list))
    for rank, collectives in members.items():
        for own in collectives:
            place = own.sequence if by_sequence else None if has_steps and own.step == NO_STEP else own.step
            keyed[(place, own.op, own.message_bytes, own.dtype)][rank].append(own)
    return keyed


def by_kind(
    matched: Iterable[MatchedCollective], world_size: int | None
) -> dict[tuple[str, int, str], list[MatchedCollective]]:
    """Return matched collectives by operation, size (-1: unknown) and kind of group, in that order."""

    def kind(one: MatchedCollective) -> tuple[str, int, str]:
        size = one.first.message_bytes
        return one.first.op, -1 if size is None else size, group_kind(one.first, world_size)

    return {key: list(found) for key, found in groupby(sorted(matched, key=kind), key=kind)}
