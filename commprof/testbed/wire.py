"""A wire by its rate, as a testbed makes it: 94.9 % of the rate is payload, 1460 of the 1538 bytes that a full frame takes."""

from dataclasses import dataclass

from commprof.commbench.units import format_line_rate, format_seconds, parse_line_rate

_PAYLOAD_SHARE = 1460 / 1538


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What lies between two hosts: the rate of the line, and the delay added to each message (0 without netem)."""

    rate_bits_per_s: float
    delay_s: float = 0.0

    @property
    def name(self) -> str:
        """The name under which runs are recorded: "200mbit", "1gbit+500us"."""
        delay = f"+{format_seconds(self.delay_s).replace(' ', '')}" if self.delay_s else ""
        return f"{format_line_rate(self.rate_bits_per_s)}{delay}"

    @property
    def payload_bytes_per_s(self) -> float:
        return self.rate_bits_per_s / 8 * _PAYLOAD_SHARE


def parse_wire(name: str, delay_s: float = 0.0) -> Wire:
    """Return the wire of a rate such as "200mbit"; raise BadInput otherwise."""
    return Wire(rate_bits_per_s=parse_line_rate(name), delay_s=delay_s)
