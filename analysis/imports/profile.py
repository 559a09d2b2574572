"""What did one rank of a traced DDP run compute in each step, and when did it hand over each of DDP's buckets?

    computed(t) = t - communication until t that no computation hid

Exposed communication, transfer and waiting alike, is taken out of the step's wall time (all_ranks/budget.py); what is left
falls apart where backward begins and where the last bucket is handed over:

    before      data, forward, and backward passes that send nothing
    backward    from its first operator to the last bucket
    after       the end of autograd, copies out of buckets, the optimizer

**On a GPU** the host hands buckets over ahead of time: work launched until an instant is done when the last of it ends, but not
before that instant. **Without one** the host's instants are the computation's own. Times in nanoseconds, but where a name says
seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank import reduced
from commprof.analysis.traces.one_rank.bucket_launches import BucketLaunch
from commprof.analysis.traces.one_rank.collectives import Collective, Launches
from commprof.analysis.traces.one_rank.columns import Columns
from commprof.analysis.traces.one_rank.kernels import KERNEL_CATEGORIES, MEMORY_CATEGORIES
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, communicating, reduce_trace
from commprof.analysis.traces.one_rank.spans import Intervals, common, length_ns, union, window, without
from commprof.analysis.traces.one_rank.steps import StepWindow
from commprof.commbench.errors import BadInput, UnusableData

DoneBy = Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedStep:
    """One step of one rank without its exposed communication: before + backward + after = wall - exposed.

    `ready_s` is when each bucket was handed over, in seconds of computation after backward began; the last one ends
    `backward_s`. `bucket_bytes` are None where the trace does not tell. `marked`: the trace marks when buckets were ready.
    """

    number: int
    wall_s: float
    before_s: float
    backward_s: float
    after_s: float
    ready_s: tuple[float, ...]
    bucket_bytes: tuple[int | None, ...]
    dtypes: frozenset[str | None]
    marked: bool

    @property
    def step_s(self) -> float:
        return self.before_s + self.backward_s + self.after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RankProfile:
    """One rank's trace, reduced, and those of its steps that sent buckets."""

    trace: RankTrace
    steps: tuple[ComputedStep, ...]


def read_profile(path: Path) -> RankProfile:
    """Read one rank's trace. Raises BadInput for what is no trace of one, UnusableData where a step cannot be taken apart."""
    if reduced.is_reduced(path):
        raise BadInput(f"{path} is a reduced trace, without the launches that date a bucket; import the trace it was made from")
    trace = read_trace(path)
    own = reduce_trace(trace)
    return RankProfile(trace=own, steps=computed_steps(trace.events, own))


def computed_steps(events: Columns, trace: RankTrace) -> tuple[ComputedStep, ...]:
    """Return the steps in which a rank sent buckets; raises UnusableData where one has several backward passes that do."""
    communication = union([one.start_ns for one in trace.collectives], [one.end_ns for one in trace.collectives])
    exposed = without(communication, trace.compute)
    done_by = gpu_done_by(events) if trace.on_gpu else int
    found = []
    for own in trace.windows:
        buckets = [bucket for bucket in trace.buckets if bucket.step == own.number]
        if len({bucket.backward_ns for bucket in buckets}) > 1:
            raise UnusableData(f"{trace.path}: step {own.number} sends buckets from several backward passes, DDP does from one")
        if buckets:
            found.append(_computed(trace, own, buckets, exposed, done_by))
    return tuple(found)


def _computed(
    trace: RankTrace, own: StepWindow, buckets: list[BucketLaunch], exposed: Intervals, done_by: DoneBy
) -> ComputedStep:
    def computed_s(until_ns: int) -> float:
        """Seconds of the step that are not exposed communication, up to the end of what was launched until then."""
        until_ns = min(max(until_ns, own.start_ns), own.end_ns)
        return (until_ns - own.start_ns - length_ns(common(window(own.start_ns, until_ns), exposed))) / 1e9

    begin_s = computed_s(done_by(buckets[0].backward_ns))
    ready_s = tuple(computed_s(done_by(bucket.ready_ns)) - begin_s for bucket in buckets)
    end_s = computed_s(own.end_ns)
    sent = [[trace.collectives[position] for position in bucket.collectives] for bucket in buckets]
    return ComputedStep(
        number=own.number,
        wall_s=own.wall_ns / 1e9,
        before_s=begin_s,
        backward_s=ready_s[-1],
        after_s=end_s - begin_s - ready_s[-1],
        ready_s=ready_s,
        bucket_bytes=tuple(_total_bytes(together) for together in sent),
        dtypes=frozenset(one.dtype for together in sent for one in together),
        marked=all(bucket.named for bucket in buckets),
    )


def _total_bytes(together: list[Collective]) -> int | None:
    sizes = [one.message_bytes for one in together if one.message_bytes]
    return sum(sizes) if len(sizes) == len(together) else None


def gpu_done_by(events: Columns) -> DoneBy:
    """Return when the GPU has done, but for communication, what the host had launched before an instant."""
    rows = np.flatnonzero(events.in_category(*KERNEL_CATEGORIES, *MEMORY_CATEGORIES) & ~communicating(events))
    launch = Launches.of(events).of_correlations(events.correlation[rows])
    order = np.flatnonzero(launch.known)[np.argsort(launch.start_ns[launch.known], kind="stable")]
    launched_ns: NDArray[np.int64] = launch.start_ns[order]
    ends_ns: NDArray[np.int64] = np.maximum.accumulate(events.end_ns(rows[order])) if len(order) else launched_ns

    def done_by(instant_ns: int) -> int:
        count = int(np.searchsorted(launched_ns, instant_ns, side="left"))
        return max(instant_ns, int(ends_ns[count - 1])) if count else instant_ns

    return done_by
