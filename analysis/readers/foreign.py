"""What a log of another benchmark says, before anything is concluded from it. SI base units.

A printed figure stands for all numbers that print so: 16.3 is anything from 16.25 to 16.35. These limits decide which
numbers of ranks agree with a table.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from commprof.commbench.errors import UnusableData
from commprof.commbench.records.operations import DATA_TYPES
from commprof.commbench.records.quantities import MIN_TIME_S
from commprof.commbench.records.types import SoftwareInfo

_MAX_BYTES = 2**50
_MAX_SECONDS = 1e6
_NUMBER = re.compile(r"[+-]?(?:\d{1,40}(?:\.(\d{0,60}))?|\.(\d{1,60}))(?:[eE]([+-]?\d{1,3}))?")  # Python prints 17 digits
_ALIASES = {"char": "int8", "int": "int32", "float": "float32", "half": "float16", "double": "float64", "bf16": "bfloat16"}
_ALIASES |= {"fp32": "float32", "fp16": "float16", "fp64": "float64", "long": "int64"}
_SAME_SIZE = {"uint8": "int8", "bool": "int8", "f8e4m3": "int8", "f8e5m2": "int8", "fp8_e4m3": "int8", "fp8_e5m2": "int8"}
_SAME_SIZE |= {"byte": "int8", "signed_char": "int8", "unsigned_char": "int8", "32-bit": "int32", "64-bit": "int64"}
_SAME_SIZE |= {"longlong": "int64", "ulonglong": "int64", "uint": "int32", "ulong": "int64"}
_SAME_SIZE |= {"uint16": "float16", "int16": "float16", "uint32": "int32", "uint64": "int64"}
DATA_TYPE_WORDS = tuple(sorted(map(re.escape, {*DATA_TYPES, *_ALIASES, *_SAME_SIZE}), key=len, reverse=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A printed number: the value, and half the step of its last digit."""

    value: float
    slack: float = 0.0

    @property
    def low(self) -> float:
        return self.value - self.slack

    @property
    def high(self) -> float:
        return self.value + self.slack


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One line of a log's device list."""

    rank: int
    group: int
    device: int
    hostname: str
    name: str
    pci_bus_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTime:
    """One time of one message size and placement.

    `count` is the elements of one rank's share, as printed. `num_wrong` is None where results were not compared.
    """

    message_bytes: int
    time_s: Figure
    in_place: bool
    dtype: str = "float32"
    count: int | None = None
    reduction: str | None = None
    root: int | None = None
    algbw: Figure | None = None
    busbw: Figure | None = None
    num_wrong: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSweep:
    """One table of a log. `op`, `num_ranks` and `num_nodes` are None where the log does not state them, else their `_source`
    says where. `sizes_per_rank`: its sizes are of one rank's share where every rank holds one; ours are of all of them.
    `transport` is what NCCL's lines say of a slow way of the bytes, `environ` the variables that they name.

    `failed_values` is the footer's count of wrong values. `ended_early` is why the table is not whole, None for one that is.
    `refused` is why the table cannot be used, found while reading it.
    """

    dialect: str
    times: tuple[ForeignTime, ...]
    op: str | None = None
    op_source: str = ""
    num_ranks: int | None = None
    ranks_source: str = ""
    sizes_per_rank: bool = False
    num_nodes: int | None = None
    nodes_source: str = ""
    transport: str | None = None
    environ: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()
    mode: Literal["isolated", "pipelined"] = "isolated"
    calls_per_sample: int = 1
    warmup_iterations: int = 0
    cuda_graph: bool = False
    backend: str = "nccl"
    software: SoftwareInfo | None = None
    failed_values: int | None = None
    ended_early: str | None = None
    notes: tuple[str, ...] = ()
    refused: str | None = None


def figure(text: str, scale: float = 1.0) -> Figure | None:
    """Read a printed number, in units of `scale`; None for anything else, NaN and infinity included."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or not math.isfinite(float(match[0])):
        return None
    decimals = len(match[1] or match[2] or "")
    step = float(f"1e{int(match[3] or 0) - decimals}")
    return Figure(value=float(match[0]) * scale, slack=0.5 * step * scale)


def data_type(word: str) -> tuple[str, bool] | None:
    """Return our name of a data type and whether it is only one of the same size; None for a word that is none."""
    word = word.lower().removeprefix("mpi_").removesuffix("_t")
    word = _ALIASES.get(word, word)
    if word in DATA_TYPES:
        return word, True
    return (_SAME_SIZE[word], False) if word in _SAME_SIZE else None


def usable(times: Iterable[ForeignTime]) -> tuple[tuple[ForeignTime, ...], tuple[str, ...]]:
    """Drop rows without bytes and times that no clock gives; say how many. Raises UnusableData where nothing is left."""
    everything = list(times)
    sized = [time for time in everything if time.message_bytes > 0]
    kept = [t for t in sized if t.message_bytes <= _MAX_BYTES and MIN_TIME_S <= t.time_s.value < _MAX_SECONDS]
    notes = []
    if len(sized) < len(everything):
        notes.append(f"{len(everything) - len(sized)} times of zero bytes dropped: those messages were too small to share out")
    if len(kept) < len(sized):
        notes.append(f"{len(sized) - len(kept)} times dropped that are zero, negative or beyond belief")
    if not kept:
        raise UnusableData("; ".join(["no row holds a size and a time above zero", *notes]))
    return tuple(kept), tuple(notes)


def rescaled(times: Iterable[ForeignTime], factor: float) -> tuple[ForeignTime, ...]:
    """Return the times in another unit."""
    return tuple(replace(t, time_s=Figure(value=t.time_s.value * factor, slack=t.time_s.slack * factor)) for t in times)


def printed_over_derived(times: Iterable[ForeignTime]) -> float | None:
    """Return the median of the printed algbw over size / time, from figures with three digits; None without any."""
    ratios = [
        t.algbw.value * t.time_s.value / t.message_bytes
        for t in times
        if t.algbw is not None and t.algbw.value > 100 * t.algbw.slack and t.time_s.value > 0 < t.message_bytes
    ]
    return median(ratios) if ratios else None


def library_version(code: int) -> str:
    """Turn NCCL's version code into words: 22602 is 2.26.2, and before 2.9 2406 was 2.4.6."""
    thousand = 1000 if code < 10_000 else 10_000
    return f"{code // thousand}.{code % thousand // 100}.{code % 100}"


def whole_number(text: str) -> int | None:
    """Read a count such as 1048576, 1_048_576 or 1,048,576; None for anything else."""
    digits = text.replace("_", "").replace(",", "")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 18 else None


def is_close(ratio: float, expected: float, tolerance: float = 0.02) -> bool:
    return math.isclose(ratio, expected, rel_tol=tolerance)
