"""Where did a step's wall time go? Eight parts that add up to it, to the nanosecond.

A collective is *waiting* until the last rank of its group has arrived, and *transfer* from then on. It is *hidden* while this
rank computes and *exposed* while it does not. An instant belongs to the first of these that holds:

    transfer_hidden    computing while something is transferred
    waiting_hidden     computing while a collective of this rank waits for another rank
    compute            computing, nothing else
    transfer_exposed   a transfer, and no computation
    waiting_exposed    a collective that waits for another rank, and no computation
    memory             copies and fills alone
    launch_idle        nothing at all, because the host had not launched the GPU's next work yet
    other              nothing at all, for another reason; without a GPU: Python between operators, data loading, sleep

All computing is compute + transfer_hidden + waiting_hidden. With one rank's trace waiting and transfer cannot be told
apart: all of it counts as transfer, waiting is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import Intervals, common, length_ns, merged, union, without
from commprof.analysis.traces.one_rank.spans import window as one_interval
from commprof.analysis.traces.one_rank.steps import StepWindow

PARTS = (
    "compute",
    "transfer_hidden",
    "transfer_exposed",
    "waiting_hidden",
    "waiting_exposed",
    "memory",
    "launch_idle",
    "other",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBudget:
    """One step of one rank. The eight parts add up to `wall_ns`, and none is below 0."""

    rank: int
    step: int
    wall_ns: int
    compute_ns: int
    transfer_hidden_ns: int
    transfer_exposed_ns: int
    waiting_hidden_ns: int
    waiting_exposed_ns: int
    memory_ns: int
    launch_idle_ns: int
    other_ns: int

    def parts_ns(self) -> dict[str, int]:
        """Return the parts by name, in the order of PARTS."""
        return {name: getattr(self, f"{name}_ns") for name in PARTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """When a rank's collectives transferred and when all that ran waited, on the rank's own clock."""

    transfer: Intervals
    waiting: Intervals


def split_communication(trace: RankTrace, ready_ns: Mapping[int, int]) -> Communication:
    """Tell waiting from transfer.

    `ready_ns` says by position in `trace.collectives` when, on this rank's clock, the last rank of the group had arrived; what
    is missing there counts as transfer from its start.
    """
    own = trace.collectives
    ready = [min(max(ready_ns.get(index, one.start_ns), one.start_ns), one.end_ns) for index, one in enumerate(own)]
    transfer = union(ready, [one.end_ns for one in own])
    return Communication(transfer=transfer, waiting=without(union([one.start_ns for one in own], ready), transfer))


def rank_budgets(rank: int, trace: RankTrace, communication: Communication) -> list[StepBudget]:
    """Return the budget of each step of a rank."""
    return [_budget(rank, window, trace, communication) for window in trace.windows]


def _budget(rank: int, window: StepWindow, trace: RankTrace, own: Communication) -> StepBudget:
    inside = one_interval(window.start_ns, window.end_ns)
    compute, memory, launch = (common(inside, part) for part in (trace.compute, trace.memory, trace.launch_idle))
    transfer, waiting = common(inside, own.transfer), common(inside, own.waiting)
    communication = merged(transfer, waiting)
    busy = merged(compute, communication)
    parts = {
        "compute_ns": without(compute, communication),
        "transfer_hidden_ns": common(compute, transfer),
        "transfer_exposed_ns": without(transfer, compute),
        "waiting_hidden_ns": common(compute, waiting),
        "waiting_exposed_ns": without(waiting, compute),
        "memory_ns": without(memory, busy),
        "launch_idle_ns": without(launch, merged(busy, memory)),
    }
    lengths = {name: length_ns(intervals) for name, intervals in parts.items()}
    other = window.wall_ns - sum(lengths.values())
    assert other >= 0
    return StepBudget(rank=rank, step=window.number, wall_ns=window.wall_ns, other_ns=other, **lengths)


def typical(budgets: list[StepBudget]) -> StepBudget:
    """Return the step of median wall time (the shorter of two in the middle): a real step, so its parts add up."""
    return sorted(budgets, key=lambda own: own.wall_ns)[(len(budgets) - 1) // 2]
