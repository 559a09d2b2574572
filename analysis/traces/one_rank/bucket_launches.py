"""Which of a rank's all-reduces are DDP's buckets, and when was each ready and launched?

commprof's own trainings mark each bucket in the autograd thread: the range `bucket K` begins when DDP hands the bucket over,
all of its gradients there and the buckets before it gone, and its all-reduce is launched within. A hook that holds all
buckets back launches all of them in the last one's range: where a step has as many launches as ranges, the k-th belongs to
the k-th.

Other jobs' buckets are the all-reduces whose CPU call (`c10d::allreduce_`, else `nccl:all_reduce`) lies between the first and
the last autograd operator of a step, in the same thread, and not in an operator's own backward (a tensor-parallel layer's
all-reduce, SyncBatchNorm's): DDP launches from the hook of a gradient's AccumulateGrad, a compiled backward within itself.
When such a bucket was ready the trace does not tell; its launch stands for it.

A GPU's kernel is found by its launch call within the CPU's call; gloo's collectives by order among those of the same shape.
Times are nanoseconds of the rank's own clock.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.collectives import Collective, Launch
from commprof.analysis.traces.one_rank.columns import Columns, distinct

Int64s = NDArray[np.int64]

_RANGE = re.compile(r"bucket (\d{1,6})")
_CALLS = ("c10d::allreduce_", "nccl:all_reduce")
_FORWARD = "DistributedDataParallel.forward"
_AUTOGRAD = "autograd::engine::evaluate_function: "
_LAUNCHING = (_AUTOGRAD + "torch::autograd::AccumulateGrad", _AUTOGRAD + "CompiledFunctionBackward")
_ON_GPU = ("kernel", "gpu_user_annotation")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLaunch:
    """One bucket of one step: when backward began, when the bucket was ready and when its all-reduce was launched.

    `collectives` are positions among the rank's collectives. `named`: the trace marks the bucket; else `ready_ns` is
    `launch_ns` again, for nothing better is known.
    """

    step: int
    index: int
    backward_ns: int
    ready_ns: int
    launch_ns: int
    collectives: tuple[int, ...]
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Events of one kind and one thread, in order of time."""

    row: Int64s
    start_ns: Int64s
    end_ns: Int64s

    def at(self, time_ns: int) -> int | None:
        """Return the last one that began by then, if it had not ended: the innermost, where they nest."""
        index = int(np.searchsorted(self.start_ns, time_ns, side="right")) - 1
        return index if index >= 0 and time_ns <= self.end_ns[index] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A CPU call that launched all-reduces: of a step, in a thread."""

    step: int
    thread: int
    start_ns: int
    collectives: tuple[int, ...]


StepAt = Callable[[Int64s], Int64s]


def bucket_launches(
    events: Columns, step_at: StepAt, rows: Int64s, collectives: Sequence[Collective], launched: Launch | None
) -> tuple[BucketLaunch, ...]:
    """Return a rank's buckets in order of launch.

    `rows` are the collectives' events and `launched` their launch calls, both in the collectives' order; None for gloo.
    """
    spans = next((own for name in _CALLS if (own := cpu_spans(events, name.__eq__))), {})
    positions = [index for index, own in enumerate(collectives) if own.op == "all_reduce"]
    of_row = _by_shape(events, spans, rows, positions) if launched is None else _by_launch(events, spans, launched, positions)
    by_step: dict[int, list[_Call]] = defaultdict(list)
    for call in _calls(events, step_at, of_row):
        by_step[call.step].append(call)
    if not by_step:
        return ()
    ranges = _ranges(events, step_at)
    backward = _Backward.of(events, step_at)
    return tuple(
        bucket
        for step, calls in by_step.items()
        for bucket in (_named(ranges[step], calls, backward) if step in ranges else _unnamed(calls, backward))
    )


def _calls(events: Columns, step_at: StepAt, of_row: Mapping[int, Sequence[int]]) -> Iterator[_Call]:
    rows = np.array(sorted(of_row, key=lambda row: int(events.start_ns[row])), dtype=np.int64)
    for row, step in zip(rows.tolist(), step_at(events.start_ns[rows]).tolist(), strict=True):
        yield _Call(step=step, thread=int(events.thread[row]), start_ns=events.span_ns(row)[0], collectives=tuple(of_row[row]))


def _by_launch(events: Columns, spans: Mapping[int, Spans], launched: Launch, positions: Sequence[int]) -> dict[int, list[int]]:
    """Return by a call's row the collectives whose kernels were launched within it."""
    found: dict[int, list[int]] = defaultdict(list)
    for index in positions:
        own = spans.get(int(events.thread[launched.row[index]])) if launched.known[index] else None
        at = None if own is None else own.at(int(launched.start_ns[index]))
        if own is not None and at is not None:
            found[int(own.row[at])].append(index)
    return found


def _by_shape(events: Columns, spans: Mapping[int, Spans], rows: Int64s, positions: Sequence[int]) -> dict[int, list[int]]:
    """Return by a call's row the one collective that it launched; none of a shape that has not as many of both."""
    calls = np.sort(np.concatenate([own.row for own in spans.values()])) if spans else rows[:0]
    called: dict[str, list[int]] = defaultdict(list)
    for row in calls[np.argsort(events.start_ns[calls], kind="stable")].tolist():
        tensors = _shapes(events, row)
        called[str(tensors[0] if isinstance(tensors, list) and tensors else None)].append(row)  # a call's first input is a list
    ran: dict[str, list[int]] = defaultdict(list)
    for index in positions:
        ran[str(_shapes(events, int(rows[index])))].append(index)
    return {
        row: [index]
        for shape, own in called.items()
        if len(own) == len(ran[shape])
        for row, index in zip(own, ran[shape], strict=True)
        if events.start_ns[row] <= events.start_ns[rows[index]]
    }


def _shapes(events: Columns, row: int) -> object:
    details = events.details.get(row)
    return None if details is None else details.input_shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """One marked bucket of a step."""

    index: int
    thread: int
    start_ns: int
    end_ns: int


def _ranges(events: Columns, step_at: StepAt) -> dict[int, list[_Range]]:
    """Return the marked buckets by step, in order of time."""
    found: dict[int, list[_Range]] = defaultdict(list)
    for thread, own in cpu_spans(events, lambda word: _RANGE.fullmatch(word) is not None).items():
        for row, step in zip(own.row.tolist(), step_at(own.start_ns).tolist(), strict=True):
            start_ns, end_ns = events.span_ns(row)
            marked = _RANGE.fullmatch(events.names[events.name[row]])
            assert marked is not None
            found[step].append(_Range(index=int(marked[1]), thread=thread, start_ns=start_ns, end_ns=end_ns))
    return {step: sorted(own, key=lambda one: one.start_ns) for step, own in found.items()}


def _named(ranges: Sequence[_Range], calls: Sequence[_Call], backward: "_Backward") -> Iterator[BucketLaunch]:
    """Give each marked bucket the calls in its range, or the k-th of all that are in any where there are as many."""
    starts_ns = [call.start_ns for call in calls]
    inside = []
    for own in ranges:
        during = calls[bisect_left(starts_ns, own.start_ns) : bisect_right(starts_ns, own.end_ns)]
        inside.append([call for call in during if call.thread == own.thread])
    together = [call for own in inside for call in own]
    if len(together) == len(ranges):
        inside = [[call] for call in together]
    for own, launched in zip(ranges, inside, strict=True):
        if launched:
            yield BucketLaunch(
                step=launched[0].step,
                index=own.index,
                backward_ns=backward.start_ns(own.thread, launched[0].step, own.start_ns),
                ready_ns=own.start_ns,
                launch_ns=launched[0].start_ns,
                collectives=tuple(position for call in launched for position in call.collectives),
                named=True,
            )


def _unnamed(calls: Sequence[_Call], backward: "_Backward") -> Iterator[BucketLaunch]:
    """Take the calls within backward for buckets, numbered anew in each backward pass."""
    counts: Counter[int] = Counter()
    for call in calls:
        if backward.launches_bucket(call):
            since_ns = backward.start_ns(call.thread, call.step, call.start_ns)
            yield BucketLaunch(
                step=call.step,
                index=counts[since_ns],
                backward_ns=since_ns,
                ready_ns=call.start_ns,
                launch_ns=call.start_ns,
                collectives=call.collectives,
                named=False,
            )
            counts[since_ns] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backward:
    """Autograd's operators by thread with their steps and where each step begins, and when each forward pass of DDP ended."""

    events: Columns
    operators: Mapping[int, Spans]
    steps: Mapping[int, Int64s]
    first: Mapping[int, Mapping[int, int]]
    forward_ends_ns: Int64s

    @classmethod
    def of(cls, events: Columns, step_at: StepAt) -> "_Backward":
        operators = cpu_spans(events, lambda word: word.startswith(_AUTOGRAD))
        steps = {thread: step_at(own.start_ns) for thread, own in operators.items()}
        ends = [own.end_ns for own in cpu_spans(events, lambda word: word == _FORWARD).values()]
        return cls(
            events=events,
            operators=operators,
            steps=steps,
            first={thread: _first_positions(own) for thread, own in steps.items()},
            forward_ends_ns=np.sort(np.concatenate(ends)) if ends else np.empty(0, dtype=np.int64),
        )

    def launches_bucket(self, call: _Call) -> bool:
        """Say whether a call lies within a backward pass of its step, and not in an operator's own backward."""
        if (own := self.operators.get(call.thread)) is None:
            return False
        at = own.at(call.start_ns)
        if at is not None:
            return self.events.names[int(self.events.name[own.row[at]])].startswith(_LAUNCHING)
        behind = int(np.searchsorted(own.start_ns, call.start_ns))
        if not (0 < behind < len(own.start_ns) and (self.steps[call.thread][behind - 1 : behind + 1] == call.step).all()):
            return False
        return self.start_ns(call.thread, call.step, int(own.start_ns[behind])) <= int(own.start_ns[behind - 1])

    def start_ns(self, thread: int, step: int, time_ns: int) -> int:
        """Return when the backward pass around a time of a step began: its first operator since DDP's last forward pass."""
        own = self.operators.get(thread)
        if own is None or step not in self.first[thread]:
            return time_ns
        forward = int(np.searchsorted(self.forward_ends_ns, time_ns, side="right")) - 1
        since = int(np.searchsorted(own.start_ns, self.forward_ends_ns[forward])) if forward >= 0 else 0
        position = max(since, self.first[thread][step])
        return min(int(own.start_ns[position]), time_ns) if position < len(own.start_ns) else time_ns


def _first_positions(steps: Int64s) -> dict[int, int]:
    """Return where each step first occurs."""
    found, first = np.unique(steps, return_index=True)
    return dict(zip(found.tolist(), first.tolist(), strict=True))


def cpu_spans(events: Columns, wanted: Callable[[str], bool]) -> dict[int, Spans]:
    """Return the CPU's events of such names, by thread."""
    telling = np.array([wanted(name) for name in events.names], dtype=bool)
    rows = np.flatnonzero(telling[events.name] & ~events.in_category(*_ON_GPU))
    rows = rows[np.argsort(events.start_ns[rows], kind="stable")]
    own = {thread: rows[events.thread[rows] == thread] for thread in distinct(events.thread[rows])}
    return {thread: Spans(row=mine, start_ns=events.start_ns[mine], end_ns=events.end_ns(mine)) for thread, mine in own.items()}
