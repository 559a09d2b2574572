"""A trace in Perfetto's format, or of Ascend's layers, says what Kineto's JSON says; what is broken costs only itself."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.one_rank.files import find_traces, is_trace
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.native.pftrace import PackedEvents, is_native
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.commbench.errors import BadInput
from tests.traces import (
    ASCEND_AGE_US,
    Json,
    all_reduce,
    ascend_trace,
    header,
    kernel,
    kineto_text,
    profiler_step,
    write_trace,
)
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0

NOW = 1_700_000_000_000_000_000


def number(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def put(field: int, value: int | bytes | str) -> bytes:
    """A field: a whole number, or bytes."""
    if isinstance(value, int):
        return number(field << 3) + number(value % 2**64)
    raw = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(raw)) + raw


def annotation(name: str, value: Any) -> bytes:  # noqa: ANN401
    if isinstance(value, list):
        return put(10, name) + b"".join(put(12, annotation("", own)) for own in value)
    return put(10, name) + (put(4, value) if isinstance(value, int) else put(6, str(value)))


def packed(events: list[Json], *, categories: bool = False) -> bytes:
    """What torch writes: tracks, names, all begins, all ends."""
    tracks = {(own["pid"], own["tid"]): index for index, own in enumerate(events, 1)}
    names = {own["name"]: index for index, own in enumerate(events, 1)}
    out = [put(60, put(1, uuid) + put(4, put(1, pid) + put(2, tid))) for (pid, tid), uuid in tracks.items()]
    out += [put(10, 1) + put(13, 1) + put(12, b"".join(put(2, put(1, iid) + put(2, name)) for name, iid in names.items()))]
    for own in events:
        said = b"".join(put(4, annotation(name, value)) for name, value in own["args"].items())
        category = put(22, own["cat"]) if categories else b""
        event = put(9, 1) + put(11, tracks[own["pid"], own["tid"]]) + put(10, names[own["name"]]) + category + said
        out += [put(8, NOW + round(own["ts"] * 1000)) + put(10, 1) + put(13, 2) + put(11, event)]
    for own in events:
        event = put(9, 2) + put(11, tracks[own["pid"], own["tid"]])
        out += [put(8, NOW + round((own["ts"] + own["dur"]) * 1000)) + put(10, 1) + put(11, event)]
    return b"".join(put(1, packet) for packet in out)


@pytest.mark.parametrize("categories", [True, False])
@pytest.mark.parametrize("ending", ["pftrace", "pftrace.gz"])
def test_the_same_trace_says_the_same(tmp_path: Path, ending: str, categories: bool) -> None:
    data = packed(RANK_0, categories=categories)
    path = tmp_path / "native" / f"rank0.{ending}"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    ours = reduce_trace(read_trace(path))
    theirs = reduce_trace(read_trace(write_trace(tmp_path / "rank0.json", RANK_0, header(0))))
    assert [(own.op, own.message_bytes, own.group_ranks) for own in ours.collectives] == [
        (own.op, own.message_bytes, own.group_ranks) for own in theirs.collectives
    ]
    assert [(own.number, own.wall_ns) for own in ours.windows] == [(own.number, own.wall_ns) for own in theirs.windows]
    assert (ours.compute - NOW).tolist() == theirs.compute.tolist()
    assert (ours.launch_idle - NOW).tolist() == theirs.launch_idle.tolist()
    assert find_traces([path.parent]) == [path]
    assert is_trace(path)


def test_json_and_logs_that_begin_with_a_line_break_are_not_taken_for_it(tmp_path: Path) -> None:
    assert not is_native(kineto_text([profiler_step(1, 0, 1)], {}).encode())
    for text in (b"\n# nThread 1 nGpus 8\n", b"\n\n\n", b"\n", b"\nhello world, this is a log\n", b""):
        assert not is_native(text)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_unreadable(raw: bytes) -> None:
    events = PackedEvents(2**20)
    events.add(raw)
    assert isinstance(list(events.events()), list)


def test_a_cut_file_keeps_its_whole_slices(tmp_path: Path) -> None:
    events = [
        profiler_step(1, 0, 100),
        *kernel("gemm", 10, 50, launched_us=1, correlation=1),
        *all_reduce(50, 60, launched_us=2, correlation=2),
    ]
    data = packed(events)
    path = tmp_path / "0.pftrace"
    path.write_bytes(data[:-3])
    trace = read_trace(path)
    assert trace.notes.damage == "it ends within a packet"
    assert len(trace.events) == len(events) - 1


OUTER, INNER, NEXT, NOTHING = ("outer", 0, 10), ("inner", 2, 4), ("next", 10, 12), ("nothing", 5, 5)


@pytest.mark.parametrize(
    ("begins_and_ends", "spans"),
    [
        ("OUTER INNER inner NOTHING nothing outer NEXT next", [OUTER, INNER, NOTHING, NEXT]),  # in the order of time
        ("OUTER INNER NOTHING NEXT outer inner nothing next", [OUTER, INNER, NOTHING, NEXT]),  # as torch writes
        ("OUTER NEXT outer next", [OUTER, NEXT]),  # both orders at once: apart rather than inside each other
        ("OUTER INNER outer", [INNER]),  # an end is missing
    ],
)
def test_begins_find_their_ends(begins_and_ends: str, spans: list[tuple[str, int, int]]) -> None:
    events = PackedEvents(2**20)
    known = {own[0]: own for own in (OUTER, INNER, NEXT, NOTHING)}
    for word in begins_and_ends.split():
        name, start, end = known[word.lower()]
        time_ns, kind, named = (start, 1, put(23, name)) if word.isupper() else (end, 2, b"")
        events.add(put(8, time_ns * 1000) + put(11, put(9, kind) + put(11, 7) + named))
    found = {own["name"]: (own["name"], own["ts"], own["ts"] + own["dur"]) for own in events.events()}
    if len(spans) > 1:
        assert found == {own[0]: own for own in spans}
    else:
        assert len(found) == 1


def test_another_protobuf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.pftrace"
    path.write_bytes(put(1, put(8, 5)) + put(2, b"other"))
    with pytest.raises(BadInput, match="neither JSON nor a Perfetto trace"):
        read_trace(path)
    path.write_bytes(put(1, put(8, 5)))
    with pytest.raises(BadInput, match="holds no slice"):
        read_trace(path)
    path.write_text(json.dumps({"traceEvents": []}))
    with pytest.raises(BadInput, match="holds no timed event"):
        read_trace(path)


def by_sdk(events: list[Json]) -> list[bytes]:
    """What Perfetto's SDK writes: a sequence a track, which is said once, on a clock that counts from packet to packet."""
    out = []
    for sequence, (pid, tid) in enumerate(dict.fromkeys((own["pid"], own["tid"]) for own in events), 100):
        machine, own_clock = put(1, 6) + put(2, NOW), put(1, 64) + put(2, 77) + put(3, 1)
        defaults = put(58, 64) + put(11, put(11, sequence))
        out += [put(10, sequence) + put(6, put(1, machine) + put(1, own_clock)) + put(59, defaults)]
        out += [put(10, sequence) + put(60, put(1, sequence) + put(4, put(1, pid) + put(2, tid)))]
        marks: list[tuple[int, int, int, bytes]] = []
        for own in (own for own in events if (own["pid"], own["tid"]) == (pid, tid)):
            begin, end = round(own["ts"] * 1000), round((own["ts"] + own["dur"]) * 1000)
            said = b"".join(put(4, annotation(name, value)) for name, value in own["args"].items())
            marks += [(begin, 1, -end, put(9, 1) + put(23, own["name"]) + put(22, own["cat"]) + said)]
            marks += [(end, 0, -begin, put(9, 2))]
        last = 0
        for at, _, _, event in sorted(marks):
            out += [put(10, sequence) + put(8, at - last) + put(11, event)]
            last = at
    return out


@pytest.mark.parametrize("compressed", [False, True])
def test_what_a_sequence_said_before_holds_and_packets_may_be_packed(tmp_path: Path, compressed: bool) -> None:
    said = [put(1, packet) for packet in by_sdk(RANK_0)]
    if compressed:
        said = [put(1, put(50, zlib.compress(b"".join(said[at : at + 5])))) for at in range(0, len(said), 5)]
    path = tmp_path / "rank0.pftrace"
    path.write_bytes(b"".join(said))
    ours = reduce_trace(read_trace(path))
    theirs = reduce_trace(read_trace(write_trace(tmp_path / "rank0.json", RANK_0, header(0))))
    assert (ours.compute - NOW).tolist() == theirs.compute.tolist()
    assert [own.message_bytes for own in ours.collectives] == [own.message_bytes for own in theirs.collectives]
    assert ours.notes.num_unreadable == 0 and is_trace(path)


@pytest.mark.parametrize(
    "packet",
    [
        put(50, zlib.compress(put(1, put(50, zlib.compress(b""))))),  # within each other
        put(50, zlib.compress(bytes(2**21))),  # a bomb
        put(50, zlib.compress(b"x" * 1000)[:9]),
        put(50, 7),
        put(8, 2**63) + put(11, put(9, 1)),
        put(6, put(1, put(1, 6) + put(2, 2**63)) + put(1, put(1, 64))) + put(58, 64) + put(8, 1) + put(11, put(9, 1)),
    ],
)
def test_packets_that_cannot_be_are_counted(packet: bytes) -> None:
    events = PackedEvents(2**20)
    events.add(packet)
    assert (events.num_unreadable, list(events.events())) == (1, [])


def test_ascend_s_layers_are_read_as_a_gpu_s_work(tmp_path: Path) -> None:
    path = tmp_path / "ASCEND_PROFILER_OUTPUT" / "trace_view.json"
    path.parent.mkdir()
    path.write_text(json.dumps(ascend_trace()))
    (tmp_path / "profiler_info_5.json").write_text("{}")
    trace = reduce_trace(read_trace(path))
    (collective,) = trace.collectives
    age_ns = ASCEND_AGE_US * 1000
    assert (trace.header.rank, trace.not_understood) == (5, ())
    assert (trace.compute - age_ns).tolist() == [[210_500, 240_500]]
    assert (trace.memory - age_ns).tolist() == [[280_000, 285_000]]
    assert (collective.op, collective.message_bytes, collective.group, collective.group_size) == (
        "all_reduce",
        2000,
        "hccl_world_group",
        2,
    )
    assert (collective.start_ns - age_ns, collective.end_ns - age_ns, collective.step) == (230_000, 270_000, 2)
    # The product is of the step in which torch asked for it; the host was late until CANN was called.
    assert [(own.number, own.start_ns - age_ns, own.end_ns - age_ns) for own in trace.windows] == [
        (1, 210_500, 240_500),
        (2, 240_500, 285_000),
    ]
    assert (trace.num_gpu_events, trace.num_orphans) == (3, 1)


def test_a_first_time_of_ascend_that_is_none_costs_its_event(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    early = {"ph": "X", "name": "early", "cat": "cpu_op", "pid": 1, "tid": 1, "ts": "9" * 18, "dur": 1}
    path.write_text(json.dumps([early, *ascend_trace()]))
    trace = read_trace(path)
    (collective,) = reduce_trace(trace).collectives
    assert trace.notes.num_unreadable == 1
    assert collective.start_ns == ASCEND_AGE_US * 1000 + 230_000


def test_a_trace_of_ascend_that_says_when_its_clock_began_has_whole_times_anyway(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text(json.dumps({"baseTimeNanoseconds": NOW, "traceEvents": ascend_trace()}))
    (collective,) = reduce_trace(read_trace(path)).collectives
    assert collective.start_ns == ASCEND_AGE_US * 1000 + 230_000


def test_a_cut_or_broken_trace_of_ascend_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    text = json.dumps(ascend_trace())
    for length in range(len(text) // 3, len(text), 97):
        path.write_text(text[:length])
        assert read_trace(path).notes.damage == "it ends before its list of events does"
    broken = text.replace('"dur": 30.0', '"dur": "30.0"').replace("Plane 0", "Plane \n 0").replace('"pid": 5', '"pid": [5]')
    path.write_text(broken)
    trace = reduce_trace(read_trace(path))
    assert trace.notes.num_unreadable == 2
    assert [own.op for own in trace.collectives] == ["all_reduce"]
    assert len(trace.compute) == 0
