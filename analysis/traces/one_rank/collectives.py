"""Which collectives did one rank run, when, and how large were they?

On GPUs a collective is a communication kernel; what it moves stands in its own metadata, else in those of the annotation
(`record_param_comms`, `nccl:all_reduce`) in which its launch call lies. gloo has no kernels: a collective is the annotation
`gloo:all_reduce` on one of gloo's own threads, its size the product of its input's shape; that of an all-gather is one rank's
share of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.columns import Columns, Details, distinct
from commprof.analysis.traces.one_rank.kernel_names.libraries import KernelTable, function_name, op_in_words
from commprof.analysis.traces.one_rank.kernel_names.table import UNKNOWN_OP
from commprof.analysis.traces.one_rank.kernels import LAUNCHES, message_bytes, rank_list

_GLOO = "gloo:"
_ANNOTATIONS = ("nccl:", "record_param_comms")
_MAX_TYPE = 400
_MAX_DESCRIPTION = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective on one rank. What the trace does not say is None; `group` and its description are then empty.

    `step` is the profiler's number of the step in which it was launched (-1: none). `words` are what the trace calls one whose
    operation is unknown.
    """

    op: str
    start_ns: int
    end_ns: int
    step: int
    message_bytes: int | None
    dtype: str | None
    group: str
    group_ranks: tuple[int, ...] | None
    group_size: int | None
    sequence: int | None
    group_description: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The launch calls of some GPU events; `known` says which have one in the trace."""

    row: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """All launch calls of a trace by correlation id."""

    events: Columns
    rows: NDArray[np.int64]
    correlation: NDArray[np.int64]

    @classmethod
    def of(cls, events: Columns) -> "Launches":
        rows = np.flatnonzero(events.in_category_like(LAUNCHES) & (events.correlation >= 0))
        rows = rows[np.argsort(events.correlation[rows], kind="stable")]
        return cls(events=events, rows=rows, correlation=events.correlation[rows])

    def of_correlations(self, wanted: NDArray[np.int64]) -> Launch:
        if not len(self.rows):
            absent = np.zeros(len(wanted), dtype=np.int64)
            return Launch(row=absent, start_ns=absent, end_ns=absent, known=absent > 0)
        index = np.minimum(np.searchsorted(self.correlation, wanted), len(self.rows) - 1)
        row = self.rows[index]
        known = (self.correlation[index] == wanted) & (wanted >= 0)
        return Launch(row=row, start_ns=self.events.start_ns[row], end_ns=self.events.end_ns(row), known=known)


def gpu_collectives(
    events: Columns, rows: NDArray[np.int64], launches: Launches, steps: NDArray[np.int64], table: KernelTable
) -> tuple[Collective, ...]:
    """Return the collectives that these kernels, in order of time, are.

    Its metadata say what a collective is, else the annotation around its launch, else the kernel's name.
    """
    launch = launches.of_correlations(events.correlation[rows])
    around = _Annotations(events)
    found = []
    for index, row in enumerate(rows.tolist()):
        kernel, label = events.names[events.name[row]], ""
        details = events.details.get(row, Details())
        if details.collective is None and launch.known[index]:
            label, details = around.at(int(launch.row[index]), label, details)
        said = [details.collective or "", label]
        op = next((own for own in map(op_in_words, said) if own != UNKNOWN_OP), table.operation(kernel))
        words = " in ".join(filter(None, [function_name(kernel), *said[::-1]])) if op == UNKNOWN_OP else ""
        found.append(_collective(events, row, op, details, int(steps[index]), words))
    return tuple(found)


def gloo_rows(events: Columns) -> NDArray[np.int64]:
    """Return gloo's collectives' rows in order of time."""
    telling = np.array([name.startswith(_GLOO) for name in events.names])
    rows = np.flatnonzero(telling[events.name])
    return rows[np.argsort(events.start_ns[rows], kind="stable")]


def gloo_collectives(
    events: Columns, rows: NDArray[np.int64], steps: NDArray[np.int64], group_size: int | None
) -> tuple[Collective, ...]:
    """Return the collectives that these rows of gloo's are; `group_size` is that of every process group, None where unknown."""
    return tuple(
        _collective(
            events,
            row,
            op_in_words(events.names[events.name[row]]),
            events.details.get(row, Details()),
            step,
            num_shares=group_size,
        )
        for row, step in zip(rows.tolist(), steps.tolist(), strict=True)
    )


class _Annotations:
    """The CPU's own account of its collectives, by thread and time."""

    def __init__(self, events: Columns) -> None:
        telling = np.array([name.startswith(_ANNOTATIONS) for name in events.names])
        rows = np.flatnonzero(telling[events.name] & ~events.in_category("kernel", "gpu_user_annotation"))
        rows = rows[np.argsort(events.start_ns[rows], kind="stable")]
        self._events = events
        self._rows = {thread: rows[events.thread[rows] == thread] for thread in distinct(events.thread[rows])}
        self._starts_ns = {thread: events.start_ns[mine] for thread, mine in self._rows.items()}

    def at(self, launch_row: int, name: str, details: Details) -> tuple[str, Details]:
        """Return what the annotations around a launch call say, the innermost last and strongest."""
        events = self._events
        thread, time_ns = int(events.thread[launch_row]), events.start_ns[launch_row]
        if thread not in self._rows:
            return name, details
        rows = self._rows[thread]
        last = int(np.searchsorted(self._starts_ns[thread], time_ns, side="right"))
        for row in rows[max(0, last - 2) : last].tolist():
            if events.span_ns(row)[1] < time_ns:
                continue
            label = events.names[events.name[row]]
            name = label if op_in_words(label) != UNKNOWN_OP or not name else name
            own = events.details.get(row)
            if own is not None:
                details = own if own.collective is not None or details.collective is None else details
        return name, details


def _collective(
    events: Columns, row: int, op: str, details: Details, step: int, words: str = "", num_shares: int | None = None
) -> Collective:
    ranks = rank_list(details.group_ranks)
    group_size = details.group_size or (len(ranks) if ranks else None)
    op = _by_sizes(details, group_size) if op == UNKNOWN_OP else op
    start_ns, end_ns = events.span_ns(row)
    label = None if details.group is None else f"{details.group} {details.group_ranks or ''}".strip()
    return Collective(
        op=op,
        start_ns=start_ns,
        end_ns=end_ns,
        step=step,
        message_bytes=message_bytes(op, details, num_shares),
        dtype=details.dtype or _one_type(details),
        group=label or "",
        group_ranks=ranks,
        group_size=group_size,
        sequence=details.sequence,
        group_description=_described(details.group_description),
        words=words[:_MAX_TYPE] if op == UNKNOWN_OP else "",
    )


def _by_sizes(details: Details, group_size: int | None) -> str:
    """Return which operation turns so many elements into so many on a group of this size, where only one does."""
    given, taken = details.in_elements, details.out_elements
    if given and taken and group_size and group_size > 1:
        if taken == given * group_size:
            return "all_gather"
        if given == taken * group_size:
            return "reduce_scatter"
    return UNKNOWN_OP


def _described(description: str | None) -> str:
    return "" if description in (None, "undefined") else str(description)[:_MAX_DESCRIPTION]


def _one_type(details: Details) -> str | None:
    types = details.input_types
    return types[0][:_MAX_TYPE] if isinstance(types, list) and types and isinstance(types[0], str) else None
