"""How do a million events fit into memory? As numpy columns: eight bytes a time, four a name.

Times are int64 nanoseconds since 1970 where the trace says when its clock began, else since that unknown beginning. A
microsecond of the file is split into its whole part, exact in a float up to 2^53, and its fraction, which is rounded to
nanoseconds: exact as long as a float can tell two nanoseconds apart, which Kineto's base time sees to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.events import Arguments, Event
from commprof.analysis.traces.one_rank.stream import Limits
from commprof.commbench.errors import BadInput

Number = TypeVar("Number", np.float64, np.int32, np.int64)
Int64s = NDArray[np.int64]
MAX_US = 4e15  # the year 2096, in microseconds since 1970; with as late a base it is still an int64 of nanoseconds
_MAX_DURATION_US = 1e12
_DETAILED = re.compile("nccl|hcom_|hccl_|gloo:|record_param_comms|c10d::(?:allreduce_|_allgather_base_|_reduce_scatter_base_)")
_MODULE = "nn.Module: "  # of the Python frames those that are kept: few, and they say what a kernel was launched for
_MEMORY = "[memory]"
_MAX_DEVICE_KIND = 99
_MAX_NAMES_LENGTH = 2**29


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What the trace says of a collective, as it stands there; None where it does not say."""

    collective: str | None = None
    in_elements: int | None = None
    out_elements: int | None = None
    dtype: str | None = None
    group: str | None = None
    group_description: str | None = None
    group_ranks: str | None = None
    group_size: int | None = None
    sequence: int | None = None
    input_shapes: Any = None
    input_types: Any = None


def _no_numbers() -> Int64s:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevels:
    """What torch's allocators had given out, in the file's order: when, on which kind of device (torch's number), bytes."""

    time_ns: Int64s = field(default_factory=_no_numbers)
    device: Int64s = field(default_factory=_no_numbers)
    num_bytes: Int64s = field(default_factory=_no_numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Complete events in the file's order; `details` by row, `levels` from the allocators' own events. `name`, `category` and
    `thread` are positions in their lists.

    `stream`, `correlation` and `sequence` (autograd's number of an operator) are -1 where the event has none.
    """

    start_ns: Int64s
    duration_ns: Int64s
    name: NDArray[np.int32]
    category: NDArray[np.int32]
    thread: NDArray[np.int32]
    stream: NDArray[np.int32]
    correlation: Int64s
    sequence: Int64s
    names: tuple[str, ...]
    categories: tuple[str, ...]
    threads: tuple[str, ...]
    details: dict[int, Details]
    levels: MemoryLevels = field(default_factory=MemoryLevels)

    def __len__(self) -> int:
        return len(self.start_ns)

    def end_ns(self, rows: Int64s) -> Int64s:
        """Return when these rows end."""
        return self.start_ns[rows] + self.duration_ns[rows]

    def span_ns(self, row: int) -> tuple[int, int]:
        """Return when one row starts and ends."""
        start_ns = int(self.start_ns[row])
        return start_ns, start_ns + int(self.duration_ns[row])

    def in_category_like(self, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
        """Return which rows belong to a category that this fits as a whole."""
        return np.array([pattern.fullmatch(category) is not None for category in self.categories], dtype=bool)[self.category]

    def in_category(self, *categories: str) -> NDArray[np.bool_]:
        """Return which rows belong to one of these categories."""
        return np.array([category in categories for category in self.categories], dtype=bool)[self.category]

    def named(self, codes: Sequence[int]) -> NDArray[np.bool_]:
        """Return which rows have one of these positions among the names."""
        wanted = np.zeros(len(self.names), dtype=bool)
        wanted[codes] = True
        return wanted[self.name]


def distinct(numbers: NDArray[Any]) -> list[int]:
    """Return the different numbers in ascending order. `np.unique` would load numpy.ma, 15 ms."""
    ordered = np.sort(numbers)
    if not len(ordered):
        return []
    found: list[int] = ordered[np.append(True, ordered[1:] != ordered[:-1])].tolist()
    return found


class _Codes(dict[Any, int]):
    """Numbers for names, in the order in which they were first seen."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit, self._length = limit, 0

    def __missing__(self, key: str | tuple[object, object]) -> int:
        self._length += len(key)
        if len(self) >= self._limit or self._length > _MAX_NAMES_LENGTH:
            raise BadInput(f"the trace has more than {self._limit:,} distinct names, or endless ones; this is no profile")
        self[key] = len(self)
        return self[key]


class ColumnBuilder:
    """Grows columns a chunk at a time; counts what it leaves out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._names, self._categories, self._threads = (_Codes(limits.names) for _ in range(3))
        self._chunks: list[tuple[NDArray[Any], ...]] = []
        self._details: dict[int, Details] = {}
        self._levels: list[tuple[NDArray[np.float64], Int64s, Int64s]] = []
        self._num_levels = 0
        self._telling: list[bool] = []  # by name: whether its events say more than when they were
        self.num_events = 0
        self.num_kept = 0
        self.num_python = 0
        self.num_timeless = 0
        self.whole_us = True

    def add(self, events: list[Event]) -> None:
        """Append the complete events of a chunk. Raises BadInput beyond the limits."""
        self.num_events += len(events)
        complete = [event for event in events if event.ph == "X"]
        if len(complete) < len(events) and (levels := [own for own in events if own.name == _MEMORY and own.ph == "i"]):
            self._add_levels(levels)
        timed = [event for event in complete if event.cat != "python_function" or event.name.startswith(_MODULE)]
        self.num_python += len(complete) - len(timed)
        start_us, duration_us = _column(timed, "ts", np.float64), _column(timed, "dur", np.float64)
        placed = (np.abs(start_us) < MAX_US) & (duration_us >= 0) & (duration_us < _MAX_DURATION_US)
        kept = timed if placed.all() else [event for event, is_placed in zip(timed, placed.tolist(), strict=True) if is_placed]
        self.num_timeless += len(timed) - len(kept)
        if self.num_kept + len(kept) > self._limits.events:
            raise BadInput(f"the trace has more than {self._limits.events:,} timed events; profile fewer steps")
        if kept:
            chunk = self._columns(kept, start_us[placed], duration_us[placed])
            self._chunks.append(chunk)
            self._keep_details(kept, chunk[2])
            self.num_kept += len(kept)

    def finish(self, base_ns: int) -> Columns:
        """Join the chunks; `base_ns` is when the file's clock began."""
        joined = [np.concatenate(parts) for parts in zip(*self._chunks, strict=True)]
        self._chunks.clear()
        start_ns, duration_ns, name, category, thread, stream, correlation, sequence = joined
        start_ns += base_ns
        threads = tuple(f"{process}/{thread}" for process, thread in self._threads)
        return Columns(
            start_ns=start_ns,
            duration_ns=duration_ns,
            name=name,
            category=category,
            thread=thread,
            stream=stream,
            correlation=correlation,
            sequence=sequence,
            names=tuple(self._names),
            categories=tuple(self._categories),
            threads=threads,
            details=self._details,
            levels=self._memory_levels(base_ns),
        )

    def _add_levels(self, events: list[Event]) -> None:
        told = [own.args or _NOTHING for own in events]
        times_us = _column(events, "ts", np.float64)
        held, device = _column(told, "allocated", np.int64), _column(told, "device_type", np.int64)
        placed = (held >= 0) & (device >= 0) & (np.abs(times_us) < MAX_US)
        self._levels.append((times_us[placed], np.minimum(device[placed], _MAX_DEVICE_KIND), held[placed]))
        self._num_levels += int(placed.sum())
        if self._num_levels > self._limits.events:
            raise BadInput(f"the trace has more than {self._limits.events:,} events of memory; profile fewer steps")

    def _memory_levels(self, base_ns: int) -> MemoryLevels:
        if not self._num_levels:
            return MemoryLevels()
        times_us, device, held = (np.concatenate(parts) for parts in zip(*self._levels, strict=True))
        return MemoryLevels(time_ns=nanoseconds(times_us) + base_ns, device=device, num_bytes=held)

    def _columns(
        self, events: list[Event], start_us: NDArray[np.float64], duration_us: NDArray[np.float64]
    ) -> tuple[NDArray[Any], ...]:
        self.whole_us &= bool((start_us == np.floor(start_us)).all())
        arguments = [event.args or _NOTHING for event in events]
        return (
            nanoseconds(start_us),
            nanoseconds(duration_us),
            self._coded(self._names, events, "name"),
            self._coded(self._categories, events, "cat"),
            self._coded(self._threads, events, "pid", "tid"),
            _column(arguments, "stream", np.int32),
            _column(arguments, "correlation", np.int64),
            _column(arguments, "operator_sequence", np.int64),
        )

    @staticmethod
    def _coded(codes: _Codes, events: list[Event], *fields: str) -> NDArray[np.int32]:
        return np.fromiter(map(codes.__getitem__, map(attrgetter(*fields), events)), np.int32, len(events))

    def _keep_details(self, events: list[Event], names: NDArray[np.int32]) -> None:
        known = len(self._telling)
        self._telling += [_DETAILED.search(name) is not None for name in islice(self._names, known, None)]
        for position in np.flatnonzero(np.array(self._telling)[names]).tolist():
            own = events[position].args
            if own is not None and (own.collective or own.in_elements or own.input_shapes):
                self._details[self.num_kept + position] = details_of(own)


_NOTHING = Arguments()


def _column(structs: Sequence[msgspec.Struct], field: str, kind: type[Number]) -> NDArray[Number]:
    return np.fromiter(map(attrgetter(field), structs), kind, len(structs))


def nanoseconds(microseconds: NDArray[np.float64]) -> Int64s:
    """Turn microseconds with a fraction into whole nanoseconds, to the last digit that the file had."""
    whole = np.floor(microseconds)
    return whole.astype(np.int64) * 1000 + np.rint((microseconds - whole) * 1000).astype(np.int64)


def details_of(own: Arguments) -> Details:
    """Read the raw values of an event that tells about a collective."""
    return Details(
        collective=_text(own.collective),
        in_elements=_whole(own.in_elements),
        out_elements=_whole(own.out_elements),
        dtype=_text(own.dtype),
        group=_text(own.group),
        group_description=_text(own.group_description),
        group_ranks=_text(own.group_ranks),
        group_size=_whole(own.group_size),
        sequence=_whole(own.sequence),
        input_shapes=_value(own.input_shapes),
        input_types=_value(own.input_types),
    )


def _value(raw: msgspec.Raw) -> Any:  # noqa: ANN401 - any JSON at all
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # what was skipped was not checked: a broken value says nothing


def _text(raw: msgspec.Raw) -> str | None:
    value = _value(raw)
    return str(value)[:400] if isinstance(value, str | int) else None


def _whole(raw: msgspec.Raw) -> int | None:
    value = _value(raw)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62 else None
