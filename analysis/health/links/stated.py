"""What lies between the ranks, as somebody types it: a kind of link, how many a host has, and what one carries each way.

    nvlink4                 all NVLinks of a GPU: 18 of version 4, an H100's
    pcie4x16                a slot's generation and lanes
    hdr, 8xndr              InfiniBand ports of four lanes; eight of them a host
    25gbe, 100gbit          a line's rate

NVLinks a GPU as NVIDIA states them: V100 6 of version 2, A100 12 of 3, H100 and H200 18 of 4, B200 18 of 5. InfiniBand as its
trade association states a port of four lanes: EDR 100, HDR 200, NDR 400, XDR 800 Gbit/s. The rates of a single NVLink and of a
PCIe lane are those of the bench's own ceiling (commbench/bench/ceiling.py).
"""

import re
from dataclasses import dataclass
from typing import Final

from commprof.commbench.bench.ceiling import NVLINK_BYTES_PER_S, PCIE_LANE_BYTES_PER_S
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_rate

_NVLINKS: Final = {2: 6, 3: 12, 4: 18, 5: 18}  # a GPU, by version
_PORT_BITS_PER_S: Final = {"edr": 100e9, "hdr": 200e9, "ndr": 400e9, "xdr": 800e9}
_LANES: Final = (1, 2, 4, 8, 16)
_COUNTED = re.compile(r"(?:([1-9]\d?)x)?([a-z0-9.]+)")
_NVLINK = re.compile(r"nvlink(\d)")
_PCIE = re.compile(r"pcie(\d)x(\d{1,2})")
_ETHERNET = re.compile(r"(\d{1,4})gbe")
_SHOWN = 60  # characters of a word that is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedLink:
    """What each of `count` links of a host, or of a GPU to those beside it, carries one way. `inside` a host, or between."""

    name: str
    bytes_per_s: float
    inside: bool
    count: int = 1


def parse_link(text: str) -> StatedLink:
    """Return the link of a name; raise BadInput for one that is not known here."""
    name = text.strip().lower()
    match = _COUNTED.fullmatch(name)
    if match is None:
        raise _unknown(text)
    count, kind = int(match[1] or 1), match[2]
    inside_bytes_per_s = _inside_a_host(kind)
    if inside_bytes_per_s is not None:
        if match[1]:
            raise BadInput(f"--wire {text[:_SHOWN]!r}: {kind} is all that a GPU has; write it without a number in front")
        return StatedLink(name=name, bytes_per_s=inside_bytes_per_s, inside=True)
    return StatedLink(name=name, bytes_per_s=_line_bits_per_s(kind, text) / 8, inside=False, count=count)


def _inside_a_host(kind: str) -> float | None:
    if match := _NVLINK.fullmatch(kind):
        version = int(match[1])
        return _NVLINKS[version] * NVLINK_BYTES_PER_S[version] if version in _NVLINKS else None
    if match := _PCIE.fullmatch(kind):
        generation, lanes = int(match[1]), int(match[2])
        return lanes * PCIE_LANE_BYTES_PER_S[generation] if generation in PCIE_LANE_BYTES_PER_S and lanes in _LANES else None
    return None


def _line_bits_per_s(kind: str, text: str) -> float:
    if kind in _PORT_BITS_PER_S:
        return _PORT_BITS_PER_S[kind]
    ethernet = _ETHERNET.fullmatch(kind)
    try:
        return parse_rate(f"{ethernet[1]}gbit" if ethernet else kind)
    except BadInput:
        raise _unknown(text) from None


def _unknown(text: str) -> BadInput:
    known = ", ".join((*(f"nvlink{version}" for version in _NVLINKS), "pcie4x16", *_PORT_BITS_PER_S, "25gbe", "100gbit"))
    return BadInput(f"--wire {text[:_SHOWN]!r} is no link known here; write {known}, or 8xndr for eight a host")
