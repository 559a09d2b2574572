"""How does a piece of trace text become events? Typed decoding first, repair only where that fails.

An event is one JSON object of the Chrome trace format. Decoding into a struct skips every field that nobody asked for without
making an object of it: that is what makes it fast. Where a piece does not decode (a control character in a name, a process id
of an unexpected type, an unescaped quote), it is cleaned, then taken apart event by event; what still fails is counted.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

import msgspec

# Kineto's own layout puts exactly this between two events; any other layout is cut at a brace, a comma and a brace.
_NATIVE_BOUNDARY = b"\n  },\n  {"
_ANY_BOUNDARY = re.compile(rb"\}\s*,\s*\{")
_NEAR_BYTES, _TAIL_BYTES = 2**14, 2**20
_FULL_TRIES = 3
_CONTROL_TO_SPACE = bytes(32 if code < 32 else code for code in range(256))
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TEXT_TIME = re.compile(rb'"ts"\s*:\s*"\d')
_ABSENT = msgspec.Raw()


class Arguments(msgspec.Struct, gc=False):
    """What an event says beside its name and time; raw JSON where only a few events have it."""

    stream: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] = -1
    correlation: Annotated[int, msgspec.Meta(ge=-1, lt=2**62)] = -1
    collective: msgspec.Raw = msgspec.field(default=_ABSENT, name="Collective name")
    in_elements: msgspec.Raw = msgspec.field(default=_ABSENT, name="In msg nelems")
    out_elements: msgspec.Raw = msgspec.field(default=_ABSENT, name="Out msg nelems")
    dtype: msgspec.Raw = msgspec.field(default=_ABSENT, name="dtype")
    group: msgspec.Raw = msgspec.field(default=_ABSENT, name="Process Group Name")
    group_description: msgspec.Raw = msgspec.field(default=_ABSENT, name="Process Group Description")
    group_ranks: msgspec.Raw = msgspec.field(default=_ABSENT, name="Process Group Ranks")
    group_size: msgspec.Raw = msgspec.field(default=_ABSENT, name="Group size")
    sequence: msgspec.Raw = msgspec.field(default=_ABSENT, name="Seq")
    operator_sequence: Annotated[int, msgspec.Meta(ge=-1, lt=2**62)] = msgspec.field(default=-1, name="Sequence number")
    input_shapes: msgspec.Raw = msgspec.field(default=_ABSENT, name="Input Dims")
    input_types: msgspec.Raw = msgspec.field(default=_ABSENT, name="Input type")
    allocated: Annotated[int, msgspec.Meta(ge=-1, lt=2**62)] = msgspec.field(default=-1, name="Total Allocated")
    device_type: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] = msgspec.field(default=-1, name="Device Type")


class Event(msgspec.Struct, gc=False):
    """One event; times in microseconds as they stand in the file. Without a time it is none that could be placed."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float = math.nan
    dur: float = 0.0
    args: Arguments | None = None


class AscendArguments(Arguments, gc=False):
    """What Ascend's events say beside that: a track's name; a collective's elements, their type, its ranks."""

    label: msgspec.Raw = msgspec.field(default=_ABSENT, name="name")
    count: msgspec.Raw = _ABSENT
    data_type: msgspec.Raw = _ABSENT
    rank_size: msgspec.Raw = _ABSENT


class AscendEvent(msgspec.Struct, gc=False):
    """One event of Ascend's, whose time is text."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float | str = math.nan
    dur: float = 0.0
    args: AscendArguments | None = None


E = TypeVar("E", Event, AscendEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Generic[E]):
    """How a writer's events are decoded: many at once, or one."""

    event: type[E]
    arguments: type[Arguments]
    decode_events: Callable[[bytes], list[E]]
    decode_event: Callable[[bytes], E]


KINETO = Layout(
    event=Event,
    arguments=Arguments,
    decode_events=msgspec.json.Decoder(list[Event]).decode,
    decode_event=msgspec.json.Decoder(Event).decode,
)
ASCEND = Layout(
    event=AscendEvent,
    arguments=AscendArguments,
    decode_events=msgspec.json.Decoder(list[AscendEvent]).decode,
    decode_event=msgspec.json.Decoder(AscendEvent).decode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded(Generic[E]):
    """Events of a piece of text. `unreadable` others were dropped; the piece's last `tail_bytes` are no whole event.

    `trailer` is the text behind the list of events, where the list ends within the piece.
    """

    events: list[E]
    unreadable: int = 0
    tail_bytes: int = 0
    trailer: bytes | None = None


def has_text_times(head: bytes) -> bool:
    """Say whether the events at a file's beginning have their times as text, as Ascend's do."""
    return _TEXT_TIME.search(head) is not None


def decode_block(text: bytes, layout: Layout[E]) -> tuple[Decoded[E], int] | None:
    """Decode up to the last place where text may be cut between two events; also return where the next piece begins.

    None where there is no such place. Only where no cut decodes at once is the text taken apart, up to the best.
    """
    near = _any_boundaries(text, _NEAR_BYTES)
    if len(near) == _FULL_TRIES and (found := _first_whole(text, near, layout)) is not None:
        return found  # most events are short, and a whole block takes longer to search
    cuts = _last_boundaries(text)
    if not cuts:
        return None
    if (found := _first_whole(text, cuts, layout)) is not None:
        return found
    end, following = cuts[0]
    decoded = decode_apart(text[:end], layout)
    return replace(decoded, unreadable=decoded.unreadable + bool(decoded.tail_bytes)), following


def _first_whole(text: bytes, cuts: list[tuple[int, int]], layout: Layout[E]) -> tuple[Decoded[E], int] | None:
    view = memoryview(text)
    tried = ((decode_whole(view[:end], layout), following) for end, following in cuts)
    return next(((decoded, following) for decoded, following in tried if decoded is not None), None)


def _last_boundaries(text: bytes) -> list[tuple[int, int]]:
    """Return where text may be cut between two events, best first: the end of one and the beginning of the next."""
    native = text.rfind(_NATIVE_BOUNDARY)
    if native >= 0:
        return [(native + 4, native + len(_NATIVE_BOUNDARY) - 1)]
    return _any_boundaries(text, _TAIL_BYTES)


def _any_boundaries(text: bytes, tail_bytes: int) -> list[tuple[int, int]]:
    tail = max(0, len(text) - tail_bytes)
    found = [(match.start() + 1, match.end() - 1) for match in _ANY_BOUNDARY.finditer(text, tail)]
    return found[: -_FULL_TRIES - 1 : -1]


def decode_whole(text: bytes | memoryview, layout: Layout[E]) -> Decoded[E] | None:
    """Decode events joined by commas, or return None where they must be taken apart. The list may end within the text."""
    try:
        return _whole(text, layout)
    except msgspec.ValidationError:
        return None
    except _UNREADABLE:
        pass
    try:
        return _whole(cleaned(bytes(text)), layout)
    except _UNREADABLE:
        return None


def _whole(text: bytes | memoryview, layout: Layout[E]) -> Decoded[E]:
    listed = b"".join((b"[", text, b"]"))
    try:
        return Decoded(events=layout.decode_events(listed))
    except msgspec.DecodeError as error:
        length = _length_before(error)
        if length is None:
            raise
    return Decoded(events=layout.decode_events(listed[:length]), trailer=bytes(text[length - 1 :]))


def decode_apart(text: bytes, layout: Layout[E]) -> Decoded[E]:
    """Decode event by event, dropping those that cannot be read."""
    events: list[E] = []
    clean = cleaned(text)
    event: E | None = None
    for number, (start, end) in enumerate(_pieces(clean)):
        event, length = _one(clean[start:end], layout)
        if event is not None:
            events.append(event)
        behind = clean[start + length : end].lstrip() if length is not None else b""
        if behind.startswith(b"]"):
            trailer = behind[1:] + clean[end:]
            return Decoded(events=events, unreadable=number + 1 - len(events), trailer=trailer)
    broken = event is None and bool(clean[start:].strip())
    return Decoded(events=events, unreadable=number + 1 - len(events) - (event is None), tail_bytes=broken * (end - start))


def _pieces(text: bytes) -> list[tuple[int, int]]:
    """Return where each event begins and ends, going by braces alone."""
    cuts = [(match.start() + 1, match.end() - 1) for match in _ANY_BOUNDARY.finditer(text)]
    starts = [0, *(start for _, start in cuts)]
    return list(zip(starts, [*(end for end, _ in cuts), len(text)], strict=True))


def _one(text: bytes, layout: Layout[E]) -> tuple[E | None, int | None]:
    """Decode one event; also return its length where something follows it."""
    try:
        return layout.decode_event(text), None
    except msgspec.ValidationError:
        length = _length_of_object(text)  # what follows is only seen where the fields are as expected
        return _tolerant(text if length is None else text[:length], layout), length
    except _UNREADABLE as error:
        length = _length_before(error)
    return (None if length is None else _one(text[:length], layout)[0]), length


def _length_of_object(text: bytes) -> int | None:
    """Return how many bytes the JSON at the beginning takes where something follows it."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _UNREADABLE as error:
        return _length_before(error)
    return None


def _length_before(error: Exception) -> int | None:
    """Return how many bytes come before what the decoder calls trailing; it names the first such byte, counted from 1."""
    found = _TRAILING.search(str(error))
    return None if found is None else int(found[1]) - 1


def _tolerant(text: bytes, layout: Layout[E]) -> E | None:
    """Take what can be used of an object some of whose fields have unexpected types."""
    try:
        found = msgspec.json.decode(text)
    except _UNREADABLE:
        return None
    if not isinstance(found, dict):
        return None
    if isinstance(arguments := found.get("args"), dict):
        found["args"] = _fitting(arguments, layout.arguments)
    event = msgspec.json.decode(msgspec.json.encode(_fitting(found, layout.event)), type=layout.event, strict=False)
    if "dur" in found and not _is_number(found["dur"]):
        event.dur = math.nan  # a duration that is none is not 0: the event cannot be placed
    return event


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fitting(fields: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if _fits(msgspec.json.encode({name: value}), kind)}


def _fits(text: bytes, kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.json.decode(text, type=kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def cleaned(text: bytes) -> bytes:
    """Make control characters spaces and invalid UTF-8 replacement characters; neither changes the structure."""
    return text.translate(_CONTROL_TO_SPACE).decode(errors="replace").encode()
