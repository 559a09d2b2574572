"""Sizes, times and rates as people type and read them.

Inputs follow nccl-tests: `64M` is 64 * 2^20 bytes. Outputs follow it too: GB/s is 1e9 bytes per second.
A byte count for people is binary and says so (MiB). Inside the program there are only bytes and seconds.
"""

import re
from collections.abc import Iterator

from commprof.commbench.errors import BadInput
from commprof.commbench.errors import printable as printable  # lies where every error can have it

MAX_BYTES = 2**60
_SHOWN = 60  # characters of a word that is wrong
_SUFFIX_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_LINE_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([kmg])bit", re.IGNORECASE)
_BITS = {"k": 1e3, "m": 1e6, "g": 1e9}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|min|h|d)", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str) -> int:
    """Turn `8`, `64M` or `1.5G` into bytes, K/M/G/T being powers of 1024; raise BadInput otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"size {text[:_SHOWN]!r} is not a number with K, M, G or T; write for example 64M for 64 * 2^20 bytes")
    num_bytes = int(float(match[1]) * _SUFFIX_BYTES[match[2].upper()])
    if num_bytes > MAX_BYTES:
        raise BadInput(f"size {text!r} is more than an exbibyte (2^60 bytes), the most that is taken")
    return num_bytes


def sweep_sizes(min_bytes: int, max_bytes: int, *, factor: int | None = None, step_bytes: int | None = None) -> Iterator[int]:
    """Yield the message sizes of a sweep, both ends included as nccl-tests does, by a factor or by a fixed step."""
    assert (factor is None) != (step_bytes is None)
    assert 0 < min_bytes <= max_bytes and (factor is None or factor > 1) and (step_bytes is None or step_bytes > 0)
    size = min_bytes
    while size <= max_bytes:
        yield size
        size = size * factor if factor is not None else size + (step_bytes or 0)


def format_bytes(num_bytes: float) -> str:
    """Write bytes for people: 25 MiB, 1.5 KiB."""
    for suffix in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024:
            return f"{num_bytes:.4g} {suffix}"
        num_bytes /= 1024
    return f"{num_bytes:.4g} TiB"


_LEAST_S = 5e-13  # what is left of sums of seconds that cancel


def format_seconds(seconds: float) -> str:
    """Write a duration for people with three significant digits: 12.3 us, 4.56 ms, 7.89 s."""
    if abs(seconds) < _LEAST_S:
        return "0 us"
    for scale, unit in ((1e-6, "us"), (1e-3, "ms")):
        if abs(seconds) < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) < 999.5 else f"{seconds:.0f} s"


def format_number(number: float) -> str:
    """Write a count for people: 8.5, 870.2, 55,980; never with an exponent."""
    return f"{number:,.0f}" if abs(number) >= 999.95 else f"{number:.4g}"


def format_estimate(seconds: float, low_s: float, high_s: float) -> str:
    """Write a duration and its interval in the unit of the largest of the three: 12.3 ms (8.1 to 15.2)."""
    largest = max(abs(seconds), abs(low_s), abs(high_s))
    scale, unit = next(((s, u) for s, u in ((1e-6, "us"), (1e-3, "ms")) if largest < 999.5 * s), (1.0, "s"))
    return f"{seconds / scale:.3g} {unit} ({low_s / scale:.3g} to {high_s / scale:.3g})"


def format_rate(bytes_per_s: float) -> str:
    """Write a bandwidth in decimal GB/s, as nccl-tests does, or MB/s below 0.1 GB/s."""
    return f"{bytes_per_s / 1e9:.3g} GB/s" if bytes_per_s >= 1e8 else f"{bytes_per_s / 1e6:.3g} MB/s"


def parse_line_rate(text: str) -> float:
    """Turn `200mbit` or `2.5gbit`, as tc writes them (decimal), into bits per second; raise BadInput otherwise."""
    match = _LINE_RATE.fullmatch(text.strip())
    if match is None or not float(match[1]) > 0:
        raise BadInput(
            f"rate {text[:_SHOWN]!r} is not a number above 0 with kbit, mbit or gbit; write for example 200mbit or 2.5gbit"
        )
    return float(match[1]) * _BITS[match[2].lower()]


def parse_duration(text: str) -> float:
    """Turn `90s`, `45min`, `2h` or `1.5d` into seconds; raise BadInput for anything else and for no time at all."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]) > 0:
        raise BadInput(f"duration {text[:_SHOWN]!r} is not a number above 0 with s, min, h or d; write for example 2h or 90min")
    return float(match[1]) * _SECONDS[match[2].lower()]


def format_line_rate(bits_per_s: float) -> str:
    """Write a line's rate as tc takes it: 200mbit, 2.5gbit."""
    prefix = "g" if bits_per_s >= 1e9 else "m" if bits_per_s >= 1e6 else "k"
    return f"{bits_per_s / _BITS[prefix]:.6g}{prefix}bit"
