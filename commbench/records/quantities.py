"""Which values can a quantity in a record have at all? The laws of every clock, wire and machine, as part of its type.

A record is decoded strictly into its type where it is read, and so is refused there, by file, line and field, and never where a
division by zero or an endless loop would meet it. Each bound lies far beyond what is measured: 32 years, an exbibyte.
Finite is what JSON can hold at all.
"""

from collections.abc import Sized
from typing import Annotated, Final

from msgspec import Meta

from commprof.commbench.units import MAX_BYTES

MAX_RANKS: Final = 65_536
MIN_TIME_S: Final = 1e-12  # no clock here tells less than a nanosecond; quotients stay finite
MAX_TIME_S: Final = 1e9
MAX_COUNT: Final = 2**60
MAX_RATE: Final = 1e18  # bytes, bits or cycles per second

Ranks = Annotated[int, Meta(ge=1, le=MAX_RANKS)]
Rank = Annotated[int, Meta(ge=0, lt=MAX_RANKS)]
Cores = Annotated[int, Meta(ge=1, le=2**20)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
CountAboveZero = Annotated[int, Meta(ge=1, le=MAX_COUNT)]

Time = Annotated[float, Meta(ge=MIN_TIME_S, le=MAX_TIME_S)]  # what something took that was timed
Span = Annotated[float, Meta(ge=0, le=MAX_TIME_S)]  # between two moments, which may be one
Difference = Annotated[float, Meta(ge=-MAX_TIME_S, le=MAX_TIME_S)]  # of two times
Samples = Annotated[tuple[Time, ...], Meta(min_length=1)]

NumBytes = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
BytesAboveZero = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
Rate = Annotated[float, Meta(ge=0, le=MAX_RATE)]
Ratio = Annotated[float, Meta(ge=-1e30, le=1e30)]
RatioAboveZero = Annotated[float, Meta(gt=0, le=1e30)]
Share = Annotated[float, Meta(ge=0, le=1)]


def same_length(**fields: Sized) -> None:
    """Raise ValueError, which names them, unless all these fields have as many entries as the first."""
    lengths = {name: len(entries) for name, entries in fields.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`{'`, `'.join(lengths)}` have {', '.join(map(str, lengths.values()))} entries; one a sample each")


def one_of(name: str, word: str, known: Sized) -> None:
    """Raise ValueError unless a field's word is known."""
    if word not in known:  # type: ignore[operator]
        raise ValueError(f"`{name}` is {word[:40]!r}, not one of {', '.join(known)}")  # type: ignore[arg-type]
