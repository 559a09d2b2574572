"""What did a profiler write about one rank? Read a Chrome trace of torch.profiler, whole or broken, in bounded memory.

Accepted: `.json` and gzip; an object with `traceEvents` or a bare list; Kineto's own layout, a re-dumped one, one event a line.
The text is cut into blocks of a quarter of a MiB between two events, and each becomes columns before the next is read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import msgspec

from commprof.analysis.traces.one_rank.columns import ColumnBuilder, Columns, distinct
from commprof.analysis.traces.one_rank.events import (
    ASCEND,
    KINETO,
    Decoded,
    E,
    Layout,
    decode_apart,
    decode_block,
    decode_whole,
    has_text_times,
)
from commprof.analysis.traces.one_rank.header import TraceHeader, fields, header_of
from commprof.analysis.traces.one_rank.kernels import is_known
from commprof.analysis.traces.one_rank.native.ascend import AscendLayers, as_kineto
from commprof.analysis.traces.one_rank.native.pftrace import PackedEvents, is_native, packets
from commprof.analysis.traces.one_rank.stream import BLOCK_BYTES, Limits, TraceText, keep_freed_blocks
from commprof.commbench.errors import BadInput
from commprof.commbench.units import format_bytes, printable

_OPENING = re.compile(rb'"traceEvents"\s*:\s*\[')
_NATIVE_BATCH = 4096
_NATIVE_SLICES = 5_000_000  # held in memory one by one until the last: a begin may have its end anywhere behind it
_SINCE_1970_NS = 10**18  # clocks that count since the machine was started are far below
_MAX_SHOWN = 4
_PACKERS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x8b": "gzip twice",
}
_RANK_BESIDE = re.compile(r"profiler_info_(\d{1,6})\.json")
_OPERATOR_CATEGORIES = ("cpu_op", "operator", "Operator")
_OPERATORS = ("aten::", "c10d::", "autograd::", "torch::")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingNotes:
    """What reading met: bytes of text, how many after the last complete event are lost and why, events dropped or left out.

    `num_python` are Python stack frames, left out on purpose (not modules'); `whole_us`: the clock counts whole microseconds.
    """

    text_bytes: int
    lost_bytes: int
    damage: str
    num_events: int
    num_unreadable: int
    num_python: int
    whole_us: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One file: its header, its complete events, and how the reading went."""

    path: Path
    header: TraceHeader
    events: Columns
    notes: ReadingNotes


def read_trace(path: Path, limits: Limits | None = None) -> Trace:
    """Read one trace. Raises BadInput, in one line, for a file that holds none or that exceeds the limits."""
    keep_freed_blocks()
    reader = _Reader(path, limits or Limits())
    reader.run()
    if reader.native_base_ns is not None:
        return _native(path, reader)
    header = header_of(reader.texts)
    if reader.builder.num_kept == 0:
        raise BadInput(f"{path} holds no timed event; it is not a trace of torch.profiler")
    if reader.ascend.base_us:
        header = replace(header, base_ns=reader.ascend.base_us * 1000)  # times that are whole, whatever else the file says
    events = reader.builder.finish(header.base_ns or 0)
    if reader.ascend.found:
        header, events = _of_ascend(path, header, events, reader.ascend)
    if not _of_torch(events):
        shown = ", ".join(printable(name[:40]) for name in events.categories[:_MAX_SHOWN])
        raise BadInput(
            f"{path} is not of torch.profiler: none of its categories is ({shown or 'it names none'}); a timeline merged from "
            "several ranks is not read, name the ranks' own traces"
        )
    if (num := len(_processes(events))) > 1:
        raise BadInput(
            f"{path} holds the operators of {num} processes, where a rank is one; a timeline merged from several ranks is not "
            "read, name the ranks' own traces"
        )
    return Trace(path=path, header=header, events=events, notes=reader.notes())


def _no_json(head: bytes) -> str:
    """Say what a file is whose text does not begin as JSON does, and what to do."""
    packer = next((name for magic, name in _PACKERS.items() if head.startswith(magic)), None)
    if packer is not None:
        return f"is packed by {packer}, which is not read; unpack it, or pack it by gzip once"
    what = "is not JSON" if head else "is empty"
    return f"{what}; name a trace that torch.profiler wrote (.json or .json.gz)"


def _of_ascend(path: Path, header: TraceHeader, events: Columns, layers: AscendLayers) -> tuple[TraceHeader, Columns]:
    """Return what Kineto would say; a rank is named by a file of torch_npu's beside the folder."""
    named = [_RANK_BESIDE.fullmatch(own.name) for own in path.absolute().parent.parent.glob("profiler_info_*.json")]
    ranks = [int(own[1]) for own in named if own is not None]
    rank = ranks[0] if len(ranks) == 1 and header.rank is None else header.rank
    return replace(header, rank=rank), as_kineto(events, layers)


def _of_torch(events: Columns) -> bool:
    """Say whether torch.profiler wrote this; its oldest exports name no category, but operators."""
    if any(is_known(category) for category in events.categories if category not in ("", "Trace")):  # other tools' word, too
        return True
    return "" in events.categories and any(name.startswith(_OPERATORS) for name in events.names)


def _processes(events: Columns) -> set[str]:
    """Return the processes that ran operators; who merges timelines keeps the ranks apart by them."""
    threads = distinct(events.thread[events.in_category(*_OPERATOR_CATEGORIES)])
    return {events.threads[thread].partition("/")[0] for thread in threads} - {"None"}


class _Reader:
    """Walks through the text once. `texts` are the JSON objects around the events, before and after them."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self._limits = path, limits
        self.text = TraceText(path, limits)
        self.builder = ColumnBuilder(limits)
        self.texts: list[bytes] = []
        self._is_list = False
        self._unreadable = 0
        self._damage = ""
        self._lost_bytes = 0
        self.native_base_ns: int | None = None
        self.ascend = AscendLayers()

    def run(self) -> None:
        head = self.text.next_block()
        if is_native(head):
            self._run_native(head)
            return
        rest = self._opening(head)
        if has_text_times(rest):
            for told in self._decoded(rest, ASCEND):
                self.builder.add(self.ascend.events(told.events))
                self._end(told)
        else:
            for decoded in self._decoded(rest, KINETO):
                self.builder.add(decoded.events)
                self._end(decoded)

    def _end(self, decoded: Decoded[E]) -> None:
        self._unreadable += decoded.unreadable
        if decoded.trailer is not None:
            self._close(decoded.trailer)

    def notes(self) -> ReadingNotes:
        return ReadingNotes(
            text_bytes=self.text.num_bytes,
            lost_bytes=self._lost_bytes,
            damage=self.text.damage or self._damage,
            num_events=self.builder.num_events,
            num_unreadable=self._unreadable + self.builder.num_timeless,
            num_python=self.builder.num_python,
            whole_us=self.builder.whole_us,
        )

    def _run_native(self, head: bytes) -> None:
        """Read packets of Perfetto's format, whole ones as they come, and turn them into events behind the last."""
        packed = PackedEvents(self._limits.event_bytes)
        try:
            for packet in packets(head, self.text.next_block, self._limits.event_bytes):
                packed.add(packet)
                if packed.num_slices > min(_NATIVE_SLICES, self._limits.events):
                    raise BadInput(f"{self.path} has more than {packed.num_slices - 1:,} slices; profile fewer steps")
        except EOFError as error:
            self._damage, self._lost_bytes = "it ends within a packet", int(str(error))
        except ValueError:
            raise BadInput(f"{self.path} is neither JSON nor a Perfetto trace; name one that torch.profiler wrote") from None
        self._unreadable += packed.num_unreadable
        self.native_base_ns = packed.first_ns()
        events = packed.events()
        while batch := list(islice(events, _NATIVE_BATCH)):
            text = msgspec.json.encode(batch)[1:-1]
            self.builder.add((decode_whole(text, KINETO) or decode_apart(text, KINETO)).events)

    def _opening(self, head: bytes) -> bytes:
        """Return the text from the first event on."""
        head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if head[:1] == b"[":
            self._is_list = True
            return head[1:]
        if head[:1] != b"{":
            raise BadInput(f"{self.path} {_no_json(head)}")
        while (found := _OPENING.search(head)) is None:
            more = self.text.next_block()
            if not more or len(head) > self._limits.event_bytes:
                raise BadInput(f"{self.path} has no traceEvents; it is not a trace of torch.profiler")
            head += more
        self.texts.append(head[: found.end()] + b"]}")
        return head[found.end() :]

    def _decoded(self, rest: bytes, layout: Layout[E]) -> Iterator[Decoded[E]]:
        while more := self.text.next_block():
            rest += more
            if len(rest) < BLOCK_BYTES:
                continue
            if len(rest) > self._limits.event_bytes:
                raise BadInput(f"{self.path}: no event ends within {format_bytes(len(rest))}; it is not a trace")
            found = decode_block(rest, layout)
            if found is None:
                continue
            decoded, following = found
            rest = rest[following:]
            if decoded.trailer is not None:
                yield replace(decoded, trailer=self._to_the_end(decoded.trailer + b"," + rest))
                return
            yield decoded
        yield self._last(rest, layout)

    def _to_the_end(self, trailer: bytes) -> bytes:
        while more := self.text.next_block():
            trailer += more
            if len(trailer) > self._limits.event_bytes:
                raise BadInput(f"{self.path}: {format_bytes(len(trailer))} follow the events; it is not a trace")
        return trailer

    def _last(self, rest: bytes, layout: Layout[E]) -> Decoded[E]:
        """Decode what is left at the end of the file: events, the end of their list, and perhaps an object's last fields."""
        decoded = decode_whole(rest, layout) or decode_apart(rest, layout)
        if decoded.trailer is None:
            self._damage = "it ends before its list of events does"
            self._lost_bytes = decoded.tail_bytes
        return decoded

    def _close(self, trailer: bytes) -> None:
        if self._is_list:
            return
        self.texts.append(b'{"traceEvents":[]' + trailer)
        if not fields(self.texts[-1]):
            self._damage = "what follows its events is broken"


def _native(path: Path, reader: _Reader) -> Trace:
    """Return a trace that was read from Perfetto's format, which names neither rank nor job; its clock's beginning if known."""
    base_ns = reader.native_base_ns or 0
    if reader.builder.num_kept == 0:
        raise BadInput(f"{path} holds no slice; it is not a trace of torch.profiler")
    header = TraceHeader(base_ns=base_ns if base_ns > _SINCE_1970_NS else None)
    return Trace(path=path, header=header, events=reader.builder.finish(base_ns), notes=reader.notes())
