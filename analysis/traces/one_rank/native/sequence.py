"""What does a packet leave out because its sequence said so before? The clock that its time is of, and its events' track.

Perfetto's SDK writes such packets: TracePacketDefaults 59 has timestamp_clock_id 58 and track_event_defaults 11 (track_uuid
11); ClockSnapshot 6 has clocks 1 of clock_id 1, timestamp 2, is_incremental 3, unit_multiplier_ns 4. A clock from 64 on is the
sequence's own: a snapshot says what it showed when the machine's showed the time beside it, and an incremental one counts from
one packet to the next. Packets may also come packed together, compressed_packets 50.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from commprof.analysis.traces.one_rank.native.wire import Message, Value, message, number

_FIRST_OF_SEQUENCE, _LAST_OF_SEQUENCE = 64, 127
_MAX_TIME_NS = 2**62


@dataclass(slots=True)
class _Clock:
    """A clock of a sequence's own: it showed `value` at `base_ns` of the machine's, which goes on with an incremental one."""

    base_ns: int
    value: int
    unit_ns: int
    is_incremental: bool


@dataclass(slots=True)
class Sequence:
    """What packets of one sequence have said so far."""

    track: int = 0
    _default_clock: int = 0
    _clocks: dict[int, _Clock] = field(default_factory=dict)

    def learn(self, packet: Message) -> None:
        """Take what a packet says for those that follow it. Raises ValueError for what is none."""
        for raw in packet.get(6, ()):
            self._snapshot(message(raw))
        for raw in packet.get(59, ()):
            defaults = message(raw)
            self._default_clock = number(defaults, 58)
            self.track = next((number(message(own), 11) for own in defaults.get(11, ())), 0)

    def time_ns(self, packet: Message) -> int:
        """Return a packet's time on the machine's clock. Raises ValueError for a time that is none."""
        value = number(packet, 8)
        clock = self._clocks.get(number(packet, 58) or self._default_clock)
        if clock is not None:
            passed = value if clock.is_incremental else value - clock.value
            value = clock.base_ns + passed * clock.unit_ns
        if not 0 <= value < _MAX_TIME_NS:
            raise ValueError("a time is out of range")
        if clock is not None and clock.is_incremental:
            clock.base_ns = value
        return value

    def _snapshot(self, own: Message) -> None:
        clocks = [message(raw) for raw in own.get(1, ())]
        base_ns = next((number(one, 2) for one in clocks if number(one, 1) < _FIRST_OF_SEQUENCE), None)
        for one in clocks:
            if base_ns is not None and _FIRST_OF_SEQUENCE <= number(one, 1) <= _LAST_OF_SEQUENCE:
                self._clocks[number(one, 1)] = _Clock(
                    base_ns=base_ns, value=number(one, 2), unit_ns=number(one, 4) or 1, is_incremental=bool(number(one, 3))
                )


def unpacked(raw: Value, limit_bytes: int) -> Iterator[bytes]:
    """Yield the packets that lie packed in one. Raises ValueError where they are broken, or longer than the limit together."""
    if isinstance(raw, int):
        raise ValueError("a number stands where packets should")
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(raw, limit_bytes)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError("packed packets do not end, or are too long")
    yield from (own for own in message(text).get(1, ()) if isinstance(own, bytes))
