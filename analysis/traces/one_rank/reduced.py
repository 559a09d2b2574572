"""How does a rank's reduced trace travel? As a small file: ranks reduce beside the training, and kilobytes are merged.

A gzip file: one line with the format's name and version, then one MessagePack document. Times and other long columns are int64,
little-endian, each the difference to the one before; collectives are rows of five such columns, with what many of them share
(operation, size, data type, group) listed once. It is read as untrusted: sizes are bounded, every column is checked, and what
was not written so is refused in one line.

Version history: 1 the first.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.bucket_launches import BucketLaunch
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.header import MAX_RANKS, TraceHeader
from commprof.analysis.traces.one_rank.kineto import ReadingNotes
from commprof.analysis.traces.one_rank.rank_trace import Orphans, RankTrace
from commprof.analysis.traces.one_rank.spans import Intervals
from commprof.analysis.traces.one_rank.steps import StepWindow
from commprof.analysis.traces.one_rank.stream import Limits, TraceText
from commprof.analysis.traces.one_rank.unit_exchanges import UnitExchange
from commprof.analysis.traces.one_rank.work.kinds import KernelTime, KindTime, Launching
from commprof.analysis.traces.one_rank.work.memory import MemoryPeak
from commprof.analysis.traces.one_rank.work.modules import ModuleTime
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import replacing
from commprof.commbench.units import format_bytes

SUFFIX = ".reduced.gz"
VERSION = 1
MAX_BYTES = 256 * 2**20
_MAX_COLLECTIVES = 2_000_000
_MAX_TEXT = 4096
_MAX_NS = 2**63 - 2**59  # later than any time that reading gives; with a duration on top it is still an int64
_MAX_DURATION_NS = 2**58
_MAGIC = b"commprof reduced trace "
_NO_SEQUENCE = -1
_INTERVALS = ("compute", "memory", "launch_idle", "idle_sync", "idle_data")
_LEVEL = 6  # 9 takes ten times as long for 2 % less


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What collectives of a kind share."""

    op: str
    message_bytes: int | None
    dtype: str | None
    group: str
    group_ranks: tuple[int, ...] | None
    group_size: int | None
    group_description: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Collectives as columns: `kind` is a position among the kinds, `sequence` is -1 where there is none."""

    kind: bytes
    start_ns: bytes
    duration_ns: bytes
    step: bytes
    sequence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A RankTrace as it is written."""

    path: str
    header: TraceHeader
    notes: ReadingNotes
    on_gpu: bool
    windows: tuple[StepWindow, ...]
    kinds: tuple[_Kind, ...]
    collectives: _Rows
    compute: bytes
    memory: bytes
    launch_idle: bytes
    lag_ns: int | None
    num_gpu_events: int
    num_orphans: int
    span_ns: int
    buckets: tuple[BucketLaunch, ...]
    begin_ns: int = 0
    steps_from: str = ""
    orphans: Orphans = field(default_factory=Orphans)
    idle_sync: bytes = b""
    idle_data: bytes = b""
    kernel_kinds: tuple[KindTime, ...] = ()
    launching: Launching = field(default_factory=Launching)
    likely: tuple[KernelTime, ...] = ()
    not_understood: tuple[tuple[str, int], ...] = ()
    modules: tuple[ModuleTime, ...] = ()
    units: tuple[UnitExchange, ...] = ()
    memory_peaks: tuple[MemoryPeak, ...] = ()


def write_reduced(path: Path, trace: RankTrace) -> int:
    """Write a reduced trace, atomically, and return the file's bytes. Raises BadInput for one that would not be read back."""
    text = _MAGIC + b"%d\n" % VERSION + msgspec.msgpack.encode(_packed(trace))
    if len(text) > MAX_BYTES or len(trace.collectives) > _MAX_COLLECTIVES:
        raise BadInput(f"{trace.path} reduces to {format_bytes(len(text))}, more than is read back; profile fewer steps")
    packed = gzip.compress(text, _LEVEL, mtime=0)
    try:
        with replacing(path) as file:
            file.write(packed)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None
    return len(packed)


def is_reduced(path: Path) -> bool:
    """Tell a reduced trace by its first bytes. Raises BadInput for a file that cannot be read."""
    return TraceText(path, Limits()).next_block()[: len(_MAGIC)] == _MAGIC


def read_reduced(path: Path) -> RankTrace:
    """Read a reduced trace back. Raises BadInput, in one line, for what is none, damaged, too large or of a newer version."""
    source = TraceText(path, Limits(text_bytes=MAX_BYTES))
    text = b"".join(iter(source.next_block, b""))
    head, _, body = text.partition(b"\n")
    version = head.removeprefix(_MAGIC)
    if source.damage or not head.startswith(_MAGIC) or not version.isdigit():
        raise _broken(path, source.damage or "it does not begin as one")
    if int(version[:9]) != VERSION:
        raise BadInput(f"{path} is a reduced trace of version {int(version[:9])}, this commprof reads {VERSION}; upgrade")
    try:
        return _unpacked(msgspec.msgpack.decode(body, type=_Document))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None


def _broken(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path} is no whole reduced trace: {reason}; reduce the trace again")


def _packed(trace: RankTrace) -> _Document:
    kinds: dict[_Kind, int] = {}
    codes = [kinds.setdefault(_kind(own), len(kinds)) for own in trace.collectives]
    return _Document(
        kinds=tuple(kinds),
        collectives=_Rows(
            kind=_deltas(codes),
            start_ns=_deltas([own.start_ns for own in trace.collectives]),
            duration_ns=_deltas([own.end_ns - own.start_ns for own in trace.collectives]),
            step=_deltas([own.step for own in trace.collectives]),
            sequence=_deltas([_NO_SEQUENCE if own.sequence is None else own.sequence for own in trace.collectives]),
        ),
        **_packed_intervals(trace),
        **_plain(trace),
    )


def _plain(own: RankTrace | _Document) -> dict[str, Any]:
    """Return the fields that need no packing."""
    names = {field.name for field in fields(RankTrace)} & {field.name for field in fields(_Document)}
    return {name: getattr(own, name) for name in names - {"collectives", *_INTERVALS}}


def _packed_intervals(trace: RankTrace) -> dict[str, Any]:
    return {name: _deltas(getattr(trace, name)) for name in _INTERVALS}


def _unpacked_intervals(own: _Document) -> dict[str, Any]:
    return {name: _intervals(getattr(own, name)) for name in _INTERVALS}


def _kind(own: Collective) -> _Kind:
    return _Kind(**{field.name: getattr(own, field.name) for field in fields(_Kind)})


def _unpacked(own: _Document) -> RankTrace:
    _check(own)
    collectives = _collectives(own)
    _check_buckets(own, len(collectives))
    _check_units(own, len(collectives))
    return RankTrace(
        collectives=collectives,
        **_unpacked_intervals(own),
        **_plain(own),
    )


def _check(own: _Document) -> None:
    """Raise ValueError where a value is none that reducing a trace gives."""
    numbers = (own.header.rank, own.header.world_size)
    _require(
        all(number is None or 0 <= number < MAX_RANKS for number in numbers), "a rank or a number of ranks is out of range"
    )
    notes = own.notes
    counts = [notes.lost_bytes, notes.num_events, notes.num_unreadable, notes.num_python, own.num_gpu_events, own.num_orphans]
    parts: list[Orphans | KindTime | KernelTime | ModuleTime] = [own.orphans, *own.kernel_kinds, *own.likely, *own.modules]
    counts += [count for part in parts for count in _counts_of(part)] + [count for _, count in own.not_understood]
    counts += [count for peak in own.memory_peaks for count in (peak.begin_bytes, peak.taken_bytes, peak.peak_bytes)]
    counts += [own.launching.num_graphed, *(queued for _, queued in own.launching.queued_ns)]
    sizes = [kind.message_bytes for kind in own.kinds if kind.message_bytes is not None]
    _require(notes.text_bytes > 0 and min([*counts, *sizes]) >= 0, "a count is below 0")
    _require(max([0, *sizes, *counts]) < _MAX_NS, "a size is out of range")
    times = [
        own.span_ns,
        own.begin_ns,
        own.lag_ns or 0,
        *(time for step in own.windows for time in (step.start_ns, step.end_ns)),
        *(number for peak in own.memory_peaks for number in (peak.step, peak.after_ns)),
    ]
    _require(max(map(abs, times)) < _MAX_NS, "a time is out of range")
    _require(all(step.end_ns > step.start_ns and abs(step.number) < _MAX_NS for step in own.windows), "a step lasts no time")
    words = [own.path, notes.damage, own.header.backend, own.header.host_name]
    words += [word for kind in own.kinds for word in (kind.op, kind.dtype, kind.group, kind.group_description)]
    words += [own.steps_from, own.header.device, *(one.name for one in own.likely), *(name for name, _ in own.not_understood)]
    words += [one.name for one in own.modules] + [peak.device for peak in own.memory_peaks]
    _require(all(len(word or "") <= _MAX_TEXT for word in words), "a name is too long")


def _counts_of(part: Orphans | KindTime | KernelTime | ModuleTime) -> list[int]:
    return [getattr(part, field.name) for field in fields(part) if field.name.endswith(("_ns", "count", "num_placed"))]


def _check_buckets(own: _Document, num_collectives: int) -> None:
    """Raise ValueError where a bucket is none, or of a collective that is not there."""
    for bucket in own.buckets:
        times = (bucket.backward_ns, bucket.ready_ns, bucket.launch_ns, bucket.index, bucket.step)
        _require(max(map(abs, times)) < _MAX_NS, "a bucket's number is out of range")
        _require(bool(bucket.collectives), "a bucket has no collective")
        _require(all(0 <= position < num_collectives for position in bucket.collectives), "a bucket's collective is not there")


def _check_units(own: _Document, num_collectives: int) -> None:
    """Raise ValueError where a unit's exchange is of a collective that is not there."""
    for unit in own.units:
        _require(abs(unit.step) < _MAX_NS and len(unit.unit) <= _MAX_TEXT, "a unit's step or name is out of range")
        _require(0 <= unit.collective < num_collectives, "a unit's collective is not there")


def _collectives(own: _Document) -> tuple[Collective, ...]:
    rows = own.collectives
    columns = [_numbers(column) for column in (rows.kind, rows.start_ns, rows.duration_ns, rows.step, rows.sequence)]
    kind, _, duration, _, sequence = columns
    _require(len({len(column) for column in columns}) == 1 and len(kind) <= _MAX_COLLECTIVES, "columns differ in length")
    _require(_all((kind >= 0) & (kind < len(own.kinds)) & (sequence >= _NO_SEQUENCE)), "a collective is broken")
    _require(_all((duration >= 0) & (duration < _MAX_DURATION_NS)), "a collective's duration is out of range")
    shared = [{field.name: getattr(one, field.name) for field in fields(_Kind)} for one in own.kinds]
    return tuple(
        Collective(start_ns=start, end_ns=start + length, step=step, sequence=None if number < 0 else number, **shared[code])
        for code, start, length, step, number in zip(*(column.tolist() for column in columns), strict=True)
    )


def _deltas(numbers: Sequence[int] | NDArray[np.int64]) -> bytes:
    return np.diff(np.asarray(numbers, dtype="<i8").ravel(), prepend=0).astype("<i8").tobytes()


def _numbers(packed: bytes) -> NDArray[np.int64]:
    """Undo `_deltas`. Raises ValueError where the bytes are no int64 or the numbers out of range."""
    numbers = np.cumsum(np.frombuffer(packed, dtype="<i8"), dtype=np.int64)
    _require(_all((numbers > -_MAX_NS) & (numbers < _MAX_NS)), "a number is out of range")
    return numbers


def _intervals(packed: bytes) -> Intervals:
    numbers = _numbers(packed)
    _require(len(numbers) % 2 == 0 and _all(np.diff(numbers) > 0), "intervals are out of order")
    return numbers.reshape(-1, 2)


def _all(conditions: NDArray[np.bool_]) -> bool:
    return bool(conditions.all())


def _require(condition: bool, words: str) -> None:
    if not condition:
        raise ValueError(words)
