"""Perfetto's track events, as torch's profiler writes them into a `.pftrace` (gzip or not), become Chrome events.

The messages and their numbers are those of Perfetto's public definitions (protos/perfetto/trace/*.proto): Trace.packet 1;
TracePacket timestamp 8, interned_data 12, track_event 11, track_descriptor 60; TrackEvent type 9, track_uuid 11, name 23 or
name_iid 10, categories 22 or category_iids 3, debug_annotations 4. A slice is a begin and an end on one track; torch writes
all begins of a kind before all ends, so they are put in order first. Times are nanoseconds.

torch's encoder writes no category. What an event is then stands in its annotations and its name: GPU work has a stream, a
launch call a correlation and its runtime's name, an operator `::`.
"""

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from commprof.analysis.traces.one_rank.native.sequence import Sequence, unpacked
from commprof.analysis.traces.one_rank.native.wire import Message, Value, double, message, number, signed, text, varint

_BEGIN, _END = 1, 2
_PACKET_TAG = 10  # field 1, bytes
# With which a packet may begin: its clock, sequence, flags and time are numbers, what it holds is a message.
_NUMBERS, _MESSAGES = (3, 8, 10, 13, 41, 42, 58), (6, 11, 12, 33, 36, 43, 44, 50, 59, 60)
_FIRST_FIELDS = {*((number, 0) for number in _NUMBERS), *((number, 2) for number in _MESSAGES)}
_RUNTIME = re.compile(r"(?:cuda|hip|cu|hsa_)[A-Z_]\w*|\w*LaunchKernel\w*")
_SYNCHRONISATIONS = ("Stream Sync", "Stream Wait Event", "Event Sync", "Context Sync", "Device Sync")
_MAX_DEPTH = 8

Annotations = dict[str, Any]


@dataclass(slots=True)
class _Names:
    """What a sequence of packets wrote once and refers to by number."""

    events: dict[int, str] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    annotations: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Begin:
    """The beginning of a slice."""

    start_ns: int
    name: str
    category: str
    args: Annotations


@dataclass(slots=True)
class _Track:
    """A track's process and thread, and what begins and ends on it."""

    pid: int = 0
    tid: int = 0
    marks: list[_Begin | int] = field(default_factory=list)  # in the order of the file; a number is an end's time


def is_native(head: bytes) -> bool:
    """Tell Perfetto's format by the first packet: JSON and logs may begin with a line break too, which is a packet's tag."""
    if head[:1] != b"\n":
        return False
    try:
        length, start = varint(head, 1)
        tag, _ = varint(head, start)
        if start + length <= len(head):
            message(head[start : start + length])
    except ValueError:
        return False
    return length > 0 and (tag >> 3, tag & 7) in _FIRST_FIELDS


def packets(head: bytes, next_block: Callable[[], bytes], limit_bytes: int) -> Iterator[bytes]:
    """Yield a file's whole packets. Raises ValueError for another file, EOFError with the bytes of an unfinished packet."""
    rest = head
    while rest:
        at = 0
        while (whole := _whole_packet(rest, at)) is not None:
            start, at = whole
            yield rest[start:at]
        rest = rest[at:]
        more = next_block()
        if not more and rest:
            raise EOFError(len(rest))
        if len(rest) > limit_bytes:
            raise ValueError("a packet does not end")
        rest += more


def _whole_packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the packet begins and ends whose tag is here, or None where it is not there whole."""
    if at == len(data):
        return None
    if data[at] != _PACKET_TAG:
        raise ValueError("another field than a packet")
    try:
        length, start = varint(data, at + 1)
    except ValueError:
        return None
    return (start, start + length) if start + length <= len(data) else None


class PackedEvents:
    """Takes packets one by one; `events` yields Chrome events once all are there. `num_unreadable` packets were broken.

    `limit_bytes` is how long packets that come packed together may be.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._tracks: dict[int, _Track] = defaultdict(_Track)
        self._names: dict[int, _Names] = defaultdict(_Names)
        self._sequences: dict[int, Sequence] = defaultdict(Sequence)
        self._limit_bytes = limit_bytes
        self.num_unreadable = 0
        self.num_slices = 0

    def add(self, packet: bytes, *, may_pack: bool = True) -> None:
        """Take one TracePacket; one that cannot be read is counted and left out. What was packed may pack nothing again."""
        try:
            self._take(message(packet), may_pack=may_pack)
        except (ValueError, TypeError):
            self.num_unreadable += 1

    def _take(self, packet: Message, *, may_pack: bool) -> None:
        if 50 in packet and not may_pack:
            raise ValueError("packed packets lie in packed ones")
        for raw in packet.get(50, ()):
            for inner in unpacked(raw, self._limit_bytes):
                self.add(inner, may_pack=False)
        names, sequence = self._names[number(packet, 10)], self._sequences[number(packet, 10)]
        sequence.learn(packet)
        time_ns = sequence.time_ns(packet)
        for raw in packet.get(12, ()):
            _intern(names, raw)
        for raw in packet.get(60, ()):
            self._describe(message(raw))
        for raw in packet.get(11, ()):
            self._event(time_ns, sequence.track, message(raw), names)

    def _describe(self, own: Message) -> None:
        track = self._tracks[number(own, 1)]
        for raw in own.get(3, ()):
            track.pid = number(message(raw), 1)
        for raw in own.get(4, ()):
            thread = message(raw)
            track.pid, track.tid = number(thread, 1), number(thread, 2)

    def _event(self, time_ns: int, track_uuid: int, own: Message, names: _Names) -> None:
        kind, track = number(own, 9), self._tracks[number(own, 11) if 11 in own else track_uuid]
        if kind == _END:
            track.marks.append(time_ns)
        elif kind == _BEGIN:
            self.num_slices += 1
            name = text(own[23][0]) if 23 in own else names.events.get(number(own, 10), "")
            args = dict(_annotation(raw, names) for raw in own.get(4, ()))
            track.marks.append(_Begin(time_ns, name, _category(own, names) or inferred(name, args), args))

    def first_ns(self) -> int:
        """Return when the first slice begins."""
        marks = (mark for track in self._tracks.values() for mark in track.marks)
        return min((mark.start_ns for mark in marks if isinstance(mark, _Begin)), default=0)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the slices as Chrome's complete events, in microseconds since the first; one without an end is left out."""
        base_ns = self.first_ns()
        for track in self._tracks.values():
            for begin, end_ns in _slices(track):
                yield {
                    "ph": "X",
                    "cat": begin.category,
                    "name": begin.name,
                    "pid": track.pid,
                    "tid": track.tid,
                    "ts": (begin.start_ns - base_ns) / 1000,
                    "dur": (end_ns - begin.start_ns) / 1000,
                    "args": begin.args,
                }


def _slices(track: _Track) -> list[tuple[_Begin, int]]:
    """Pair a track's begins and ends.

    torch writes some begins and then their ends in the same order; where that order would make slices cross each other, and the
    file is in the order of time, an end closes the slice that was opened last, as in a viewer.
    """
    times = [mark if isinstance(mark, int) else mark.start_ns for mark in track.marks]
    in_time = all(one <= other for one, other in pairwise(times))
    in_order = _in_order(track.marks)
    if in_order is not None and not (in_time and _cross(in_order)):
        return in_order
    marks = track.marks if in_time else [track.marks[index] for index in sorted(range(len(times)), key=times.__getitem__)]
    return _nested(marks)


def _in_order(marks: Iterable[_Begin | int]) -> list[tuple[_Begin, int]] | None:
    """Return the i-th begin of each run with the i-th end that follows it, or None where runs differ in length."""
    found: list[tuple[_Begin, int]] = []
    waiting: deque[_Begin] = deque()
    ending = False
    for mark in marks:
        if isinstance(mark, _Begin):
            if ending and waiting:
                return None
            ending = False
            waiting.append(mark)
            continue
        ending = True
        if not waiting or mark < waiting[0].start_ns:
            return None
        found.append((waiting.popleft(), mark))
    return found


def _cross(slices: Iterable[tuple[_Begin, int]]) -> bool:
    """Say whether any slice begins within another and ends behind it."""
    reach: list[int] = []
    for begin, end_ns in sorted(slices, key=lambda own: (own[0].start_ns, -own[1])):
        while reach and reach[-1] <= begin.start_ns:
            reach.pop()
        if reach and end_ns > reach[-1]:
            return True
        reach.append(end_ns)
    return False


def _nested(marks: Iterable[_Begin | int]) -> list[tuple[_Begin, int]]:
    found: list[tuple[_Begin, int]] = []
    still_open: list[_Begin] = []
    for mark in marks:
        if isinstance(mark, _Begin):
            still_open.append(mark)
        elif still_open:
            found.append((still_open.pop(), mark))
    return found


def inferred(name: str, args: Annotations) -> str:
    """Return the category that torch's JSON would give an event of this name with these annotations."""
    if name in _SYNCHRONISATIONS:
        return "cuda_sync"
    if isinstance(args.get("stream"), int) and args["stream"] >= 0:
        if "correlation" not in args:
            return "gpu_user_annotation"
        return "gpu_memcpy" if name.startswith("Memcpy") else "gpu_memset" if name.startswith("Memset") else "kernel"
    if "correlation" in args and _RUNTIME.match(name):
        return "cuda_runtime"
    return "cpu_op" if "::" in name else "user_annotation"


def _intern(names: _Names, raw: Value) -> None:
    tables = {1: names.categories, 2: names.events, 3: names.annotations, 29: names.texts}
    for place, values in message(raw).items():
        for value in values if place in tables else ():
            own = message(value)
            tables[place][number(own, 1)] = text(own[2][0]) if 2 in own else ""


def _category(own: Message, names: _Names) -> str:
    if 22 in own:
        return text(own[22][0])
    return names.categories.get(number(own, 3), "") if 3 in own and isinstance(own[3][-1], int) else ""


def _annotation(raw: Value, names: _Names, depth: int = 0) -> tuple[str, Any]:
    own = message(raw)
    name = text(own[10][0]) if 10 in own else names.annotations.get(number(own, 1), "")
    return name, _value(own, names, depth)


def _value(own: Message, names: _Names, depth: int) -> Any:  # noqa: ANN401 - any JSON at all
    if depth > _MAX_DEPTH:
        raise ValueError("annotations lie too deep in each other")
    if 12 in own:
        return [_annotation(raw, names, depth + 1)[1] for raw in own[12]]
    if 11 in own:
        return dict(_annotation(raw, names, depth + 1) for raw in own[11])
    for place in (2, 3, 4):
        if place in own:
            value = number(own, place)
            return bool(value) if place == 2 else signed(value)
    if 5 in own and isinstance(own[5][0], bytes):
        return double(own[5][0])
    return text(own[6][0]) if 6 in own else names.texts.get(number(own, 17)) if 17 in own else None
