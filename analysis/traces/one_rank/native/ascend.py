"""Ascend's layers, as torch_npu writes them into `trace_view.json`, become what Kineto says of a GPU.

Their names, times and arrows are those of Ascend/pytorch torch_npu/profiler/analysis and Ascend/msprof
analysis/csrc/application/timeline (*_assembler.cpp). Only the host's events have a category. What a device's is, its process
says: `Ascend Hardware`, one thread a stream; `Communication`, once `HCCL`, one thread a group and some for its planes; `CANN`,
the calls. Times are text, microseconds since 1970. No correlation leads from a task to its launch, but two arrows do:
`HostToDevice` from CANN's call and `torch_to_npu` from torch's operator, which a queue and another thread may part.

A task with an operator's name computes; event and notify tasks wait and are none of the device's work. Communication is the
operations of its own layer; what lies within one on the device (copies, tasks without a name, kernels that communicate) is the
operation's own, its planes are its parts.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.traces.one_rank.columns import MAX_US, Columns, Details
from commprof.analysis.traces.one_rank.events import AscendEvent, Event
from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE, op_in_words
from commprof.analysis.traces.one_rank.spans import lengths_within_ns, union

Int64s = NDArray[np.int64]
Mask = NDArray[np.bool_]
Place = tuple[str, int]  # a thread ("pid/tid"), and nanoseconds since the first event

_DEVICE, _OPERATIONS = "Ascend Hardware", ("Communication", "HCCL")
_ARROW, _TORCH_ARROW = "HostToDevice", "async_npu"
_KERNEL, _COPY, _LAUNCH, _PASSED = "kernel", "gpu_memcpy", "ascend_runtime", "ascend_profiler_range"
_SINCE_1970_US = 10**15
_TIME = re.compile(r"(\d{1,18})(\.\d+)?")
_GROUP = re.compile(r"Group (\S{1,200}) Communication")
_COPIES = re.compile(r"MEMCPY|Memcpy|SDMA|PCIE_DMA")
_WAITS = re.compile(r"(?:Notify|Event)_")
_CORES = re.compile(r"(?:KERNEL_)?(?:AI|MIX)[A-Z_]*$")  # a kernel whose name was not recorded
_NAMED = re.compile(r"\S*[a-z]\S*")
_FIRST_STREAM = 2**30  # of the operations' threads, which no stream of the device is
_TYPES = {"FP16": "half", "BFP16": "bfloat16", "FP32": "float", "FP64": "double", "UINT8": "byte", "UINT16": "short"}
_TYPES |= {"UINT32": "int", "UINT64": "long", "FP8E4M3": "float8_e4m3fn", "FP8E5M2": "float8_e5m2"}


@dataclass(slots=True)
class AscendLayers:
    """What the events beside the timed ones say: names of processes and threads, arrows. `found`: the trace is Ascend's."""

    found: bool = False
    base_us: int = 0
    processes: dict[str, str] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    calls: dict[str, Place] = field(default_factory=dict)
    called: dict[Place, str] = field(default_factory=dict)
    asked: dict[Place, Place] = field(default_factory=dict)  # by the task's place, the operator's
    _operator: Place | None = None

    def events(self, told: list[AscendEvent]) -> list[Event]:
        """Return a piece's events with times in microseconds since the first of the trace; keep what the others say."""
        events = []
        for own in told:
            time_us = self._time_us(own.ts)
            if own.ph == "M":
                self._name(own)
            elif own.ph in ("s", "f") and own.cat in (_ARROW, _TORCH_ARROW) and abs(time_us) < MAX_US:
                self._arrow(own, (f"{own.pid}/{own.tid}", round(time_us * 1000)))
            if own.args is not None and own.args.count and not own.args.in_elements:
                own.args.in_elements, own.args.dtype = own.args.count, own.args.data_type
                own.args.group_size = own.args.rank_size
            events.append(Event(own.ph, own.cat, own.name, own.pid, own.tid, time_us, own.dur, own.args))
        return events

    def _time_us(self, time: str | float) -> float:
        if not isinstance(time, str):
            return time - self.base_us
        parts = _TIME.fullmatch(time)
        if parts is None:
            return math.nan
        whole_us = int(parts[1])
        if not self.found:
            self.found, self.base_us = True, whole_us if _SINCE_1970_US < whole_us < MAX_US else 0
        return whole_us - self.base_us + float(parts[2] or 0)

    def _name(self, own: AscendEvent) -> None:
        name = bytes(own.args.label).decode(errors="replace").strip('"')[:400] if own.args is not None else ""
        if own.name == "process_name":
            self.processes[str(own.pid)] = name
        elif own.name == "thread_name":
            self.threads[f"{own.pid}/{own.tid}"] = name

    def _arrow(self, own: AscendEvent, place: Place) -> None:
        if own.cat == _TORCH_ARROW and own.ph == "s":
            self._operator = place  # its end is written right behind it
        elif own.cat == _TORCH_ARROW:
            if self._operator is not None:
                self.asked[place] = self._operator
            self._operator = None
        elif own.ph == "s":
            self.calls.setdefault(own.name, place)
        else:
            self.called[place] = own.name


def as_kineto(events: Columns, layers: AscendLayers) -> Columns:
    """Return the same events with Kineto's categories, streams, launch calls and messages; others as they are."""
    bare = np.array([not own for own in events.categories], dtype=bool)[events.category]
    layer = [layers.processes.get(thread.partition("/")[0], "") for thread in events.threads]
    device = bare & np.array([own == _DEVICE for own in layer], dtype=bool)[events.thread]
    operates = [
        own in _OPERATIONS and "Communication" in layers.threads.get(thread, "")
        for own, thread in zip(layer, events.threads, strict=True)
    ]
    operation = bare & np.array(operates, dtype=bool)[events.thread]
    if not device.any() and not operation.any():
        return events
    kernel, copy = _work(events, device, operation)
    known = np.array([bool(own) for own in layer], dtype=bool)[events.thread]
    categories = (*events.categories, _KERNEL, _COPY, _PASSED, _LAUNCH)
    category = np.where(bare & known, len(categories) - 2, events.category)
    category = np.where(kernel | operation, len(categories) - 4, np.where(copy, len(categories) - 3, category))
    named = replace(
        events,
        category=category.astype(np.int32),
        categories=categories,
        stream=_streams(events, kernel | copy, operation),
        details=_messages(events, operation, layers),
    )
    return _with_launches(named, np.flatnonzero(kernel | copy | operation), layers)


def _work(events: Columns, device: Mask, operation: Mask) -> tuple[Mask, Mask]:
    """Return which tasks of the device are kernels and which are copies, those apart that are an operation's own."""
    rows = np.flatnonzero(operation)
    covered = union(events.start_ns[rows], events.end_ns(rows))
    apart = lengths_within_ns(covered, events.start_ns, events.start_ns + events.duration_ns) < events.duration_ns

    def which(says: Callable[[str], object]) -> Mask:
        found: Mask = device & np.array([bool(says(name)) for name in events.names], dtype=bool)[events.name]
        return found

    named = which(lambda name: _NAMED.fullmatch(name) and not _WAITS.match(name) and not _COPIES.match(name))
    sends = which(DEFAULT_TABLE.find)
    return named & (apart | ~sends) | which(_CORES.match) & apart, which(_COPIES.match) & apart


def _streams(events: Columns, work: Mask, operation: Mask) -> NDArray[np.int32]:
    numbers = [text.partition("/")[2] for text in events.threads]
    own = np.array([int(text) if text.isdecimal() and len(text) < 10 else 0 for text in numbers], dtype=np.int32)[events.thread]
    found = np.where(work, own % _FIRST_STREAM, events.stream)
    return np.where(operation, own % _FIRST_STREAM + _FIRST_STREAM, found).astype(np.int32)


def _messages(events: Columns, operation: Mask, layers: AscendLayers) -> dict[int, Details]:
    """Return what the trace says of collectives, those of HCCL among them."""
    found = dict(events.details)
    for row in np.flatnonzero(operation).tolist():
        group = _GROUP.fullmatch(layers.threads[events.threads[events.thread[row]]])
        own = replace(found.get(row, Details()), group=group[1] if group else None)
        found[row] = _sized(own, op_in_words(events.names[events.name[row]]))
    return found


def _sized(own: Details, op: str) -> Details:
    """Give HCCL's `count`, a rank's share of what is gathered or scattered, to input and output."""
    size, count = own.group_size or None, own.in_elements or None
    whole = count * size if count and size else None
    sent, received = {
        "all_gather": (count if whole else None, whole),
        "reduce_scatter": (whole, count),
        **dict.fromkeys(("all_reduce", "broadcast", "reduce", "send_recv"), (count, count)),
    }.get(op, (None, None))
    return replace(own, in_elements=sent, out_elements=received, group_size=size, dtype=_TYPES.get(own.dtype or "", own.dtype))


def _with_launches(events: Columns, rows: Int64s, layers: AscendLayers) -> Columns:
    """Give each task at the end of an arrow a launch: it begins with torch's operator, and ends where CANN's call begins."""
    base_ns = layers.base_us * 1000
    places = zip(
        (events.threads[code] for code in events.thread[rows].tolist()), (events.start_ns[rows] - base_ns).tolist(), strict=True
    )
    spans = _launches(dict(zip(places, rows.tolist(), strict=True)), layers)
    threads = {name: code for code, name in enumerate(events.threads)}
    begun = [(threads.setdefault(thread, len(threads)), start_ns, end_ns) for (thread, start_ns), end_ns in spans.values()]
    thread, start_ns, end_ns = np.array(begun, dtype=np.int64).reshape(-1, 3).T
    number = np.arange(len(begun))
    correlation = events.correlation.copy()
    correlation[list(spans)] = number

    def added(column: NDArray[np.int32], value: int | Int64s) -> NDArray[np.int32]:
        return np.concatenate([column, np.broadcast_to(value, len(begun)).astype(np.int32)])

    return replace(
        events,
        start_ns=np.concatenate([events.start_ns, start_ns + base_ns]),
        duration_ns=np.concatenate([events.duration_ns, np.maximum(end_ns - start_ns, 0)]),
        name=added(events.name, len(events.names)),
        category=added(events.category, len(events.categories) - 1),
        thread=added(events.thread, thread),
        stream=added(events.stream, -1),
        correlation=np.concatenate([correlation, number]),
        sequence=np.concatenate([events.sequence, np.full(len(begun), -1)]),
        names=(*events.names, _ARROW),
        threads=tuple(threads),
    )


def _launches(row_at: Mapping[Place, int], layers: AscendLayers) -> dict[int, tuple[Place, int]]:
    """Return by row where its launch begins, and when it ends."""
    found = {}
    for place, arrow in layers.called.items():
        if place in row_at and arrow in layers.calls:
            found[row_at[place]] = (layers.calls[arrow], layers.calls[arrow][1])
    for place, operator in layers.asked.items():
        row = row_at.get(place)
        if row is not None:
            found[row] = (operator, found[row][1] if row in found else operator[1])
    return found
