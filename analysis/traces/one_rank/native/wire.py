"""What do the bytes of a protobuf message say? Fields by number, after https://protobuf.dev/programming-guides/encoding.

Read as untrusted: what is broken raises ValueError, and no length is believed beyond the bytes that are there.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
Value = int | bytes
Message = dict[int, list[Value]]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where the next byte is. Raises ValueError where it does not end."""
    number = shift = 0
    for position in range(at, min(at + _MAX_VARINT_BYTES, len(data))):
        number |= (data[position] & 0x7F) << shift
        if data[position] < 0x80:
            return number, position + 1
        shift += 7
    raise ValueError("a number does not end")


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield each field's number and value: a whole number, or bytes. Raises ValueError for what is no message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        if kind not in (FIXED64, BYTES, FIXED32):
            raise ValueError(f"a field of the unknown kind {kind}")
        length, at = varint(data, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}[kind], at)
        if length > len(data) - at:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, data[at : at + length]
        at += length


def message(raw: Value) -> Message:
    """Return a message's fields by number. Raises ValueError for what is no message."""
    if isinstance(raw, int):
        raise ValueError("a number stands where a message should")
    found: Message = defaultdict(list)
    for place, value in fields(raw):
        found[place].append(value)
    return found


def number(own: Message, place: int) -> int:
    """Return a field's last number, 0 where it has none. Raises ValueError where it is none."""
    value = own[place][-1] if place in own else 0
    if isinstance(value, bytes):
        raise ValueError("a text stands where a number should")
    return value


def signed(number: int) -> int:
    """Return an int64 that was written as a varint."""
    return number - 2**64 if number >= 2**63 else number


def double(raw: bytes) -> float:
    """Return the number of a field of eight bytes."""
    return float(struct.unpack("<d", raw)[0])


def text(raw: Value) -> str:
    """Return a field's text; raises ValueError where it is none."""
    if isinstance(raw, int):
        raise ValueError("a number stands where a text should")
    return raw.decode(errors="replace")
