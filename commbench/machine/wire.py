"""What lies between the ranks of an emulated cluster, and the name under which a run records it.

    1gbit                                one rate for the lines of all hosts
    1gbit,1gbit,200mbit,1gbit            a line each
    1gbit+5ms+loss0.1%                   and what else is said of the wire, each once, in this order
    1gbit+inside10gbit+spine2gbit

The name says neither how many hosts there are nor how many ranks on each: run.json does, and runs on fewer hosts of one testbed
are on the same wire. 94.9 % of a rate is payload, 1460 of the 1538 bytes that a full frame takes.
"""

import re
from dataclasses import dataclass

from commprof.commbench.errors import BadInput
from commprof.commbench.units import format_line_rate, parse_line_rate

SLOWEST_BITS_PER_S, FASTEST_BITS_PER_S = 1e3, 1e12
_LONGEST_DELAY_S = 1.0
_PAYLOAD_SHARE = 1460 / 1538
_NAMED_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(us|ms|s)", re.IGNORECASE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PERCENT = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?) ?%")
_SHOWN = 60  # characters of a word that is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The lines of a cluster's hosts, each way: one rate for all, or one a host, in bit/s.

    `inside_bits_per_s` is the line of each rank to the others of its host, None where they talk through memory. All that goes
    from host to host shares `spine_bits_per_s`, None where the switch carries whatever the lines do. `delay_s` is added to each
    message between hosts, and the share `loss` of the frames between them is lost.
    """

    lines_bits_per_s: tuple[float, ...]
    inside_bits_per_s: float | None = None
    spine_bits_per_s: float | None = None
    delay_s: float = 0.0
    loss: float = 0.0

    @property
    def name(self) -> str:
        """The name under which runs are recorded; `parse_wire` reads it."""
        parts = [",".join(map(format_line_rate, self.lines_bits_per_s))]
        if self.delay_s:
            parts.append(_delay_name(self.delay_s))
        if self.loss:
            parts.append(f"loss{_decimal(self.loss * 100)}%")
        if self.inside_bits_per_s is not None:
            parts.append(f"inside{format_line_rate(self.inside_bits_per_s)}")
        if self.spine_bits_per_s is not None:
            parts.append(f"spine{format_line_rate(self.spine_bits_per_s)}")
        return "+".join(parts)

    def line_bits_per_s(self, host: int) -> float:
        return self.lines_bits_per_s[host if len(self.lines_bits_per_s) > 1 else 0]

    @property
    def payload_bytes_per_s(self) -> float:
        """What the slowest line carries beside headers and gaps."""
        return payload_bytes_per_s(min(self.lines_bits_per_s))


def payload_bytes_per_s(rate_bits_per_s: float) -> float:
    """Return what a line of a rate carries of TCP's payload in full frames of Ethernet."""
    return rate_bits_per_s / 8 * _PAYLOAD_SHARE


def parse_wire(name: str, delay_s: float = 0.0) -> Wire:
    """Return the wire of a name; `delay_s` is for one that tells no delay. Raises BadInput otherwise."""
    lines, *rest = name.split("+")
    delays = [part for part in rest if _NAMED_DELAY.fullmatch(part)]
    losses = [part for part in rest if part.startswith("loss")]
    insides = [part for part in rest if part.startswith("inside")]
    spines = [part for part in rest if part.startswith("spine")]
    if rest != [*delays, *losses, *insides, *spines] or max(map(len, (delays, losses, insides, spines))) > 1:
        raise BadInput(f"wire {name[:_SHOWN]!r}: say after its rate, each once, 5ms, loss0.1%, inside10gbit, spine2gbit")
    return Wire(
        lines_bits_per_s=parse_lines(lines),
        inside_bits_per_s=parse_rate(insides[0].removeprefix("inside")) if insides else None,
        spine_bits_per_s=parse_rate(spines[0].removeprefix("spine")) if spines else None,
        delay_s=parse_delay(delays[0]) if delays else delay_s,
        loss=parse_loss(losses[0].removeprefix("loss")) if losses else 0.0,
    )


def parse_lines(text: str) -> tuple[float, ...]:
    """Return the rates of `1gbit` or `1gbit,200mbit`, bit/s; raise BadInput otherwise."""
    return tuple(map(parse_rate, text.split(",")))


def parse_rate(text: str) -> float:
    """Return a rate in bit/s, to the six digits that its name has; raise BadInput for one that no line has."""
    rate = float(f"{parse_line_rate(text):.6g}")
    if not SLOWEST_BITS_PER_S <= rate <= FASTEST_BITS_PER_S:
        raise BadInput(f"rate {text[:_SHOWN]!r}: a line has 1kbit to 1000gbit")
    return rate


def parse_delay(text: str) -> float:
    """Return the seconds of `5ms`, to the microsecond; raise BadInput otherwise."""
    match = _NAMED_DELAY.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"delay {text[:_SHOWN]!r} is not a number with us, ms or s; write for example 5ms")
    delay_s = round(float(match[1]) * _SECONDS[match[2].lower()] * 1e6) / 1e6
    if delay_s > _LONGEST_DELAY_S:
        raise BadInput(f"delay {text[:_SHOWN]!r}: a message can be delayed by 1 s at most")
    return delay_s


def parse_loss(text: str) -> float:
    """Return the share of `0.1%`, to six digits; raise BadInput for one below 0 or with which nothing would arrive."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"loss {text[:_SHOWN]!r} is not a number with %; write for example 0.1%")
    if not 0 <= float(match[1]) < 100:
        raise BadInput(f"loss {text[:_SHOWN]!r}: from 0% to below 100% of the frames can be lost")
    return float(f"{float(match[1]):.6g}") / 100


def _delay_name(delay_s: float) -> str:
    microseconds = round(delay_s * 1e6)
    scale, unit = next(((s, u) for s, u in ((1, "us"), (1000, "ms")) if microseconds < 1000 * s), (1_000_000, "s"))
    return f"{_decimal(microseconds / scale)}{unit}"


def _decimal(number: float) -> str:
    """Write a number to six digits without an exponent."""
    return f"{float(f'{number:.6g}'):.9f}".rstrip("0").rstrip(".")
