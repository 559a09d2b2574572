"""Reading traces: every layout gives the same columns, what is broken is salvaged and counted, what is none is one line."""

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.one_rank.kineto import Trace, read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.one_rank.stream import BLOCK_BYTES, Limits
from commprof.analysis.traces.shown.text import analysis_sheet
from commprof.commbench.display.sheet import plain_text
from commprof.commbench.errors import BadInput
from tests.traces import all_reduce, event, header, kernel, kineto_text, profiler_step, write_trace

DAMAGED = [
    profiler_step(1, 0, 100),
    *all_reduce(30, 70, launched_us=20, correlation=3),
    *kernel("gemm", 10, 40, launched_us=5, correlation=1),
]
FIELDS = header(1, 4, baseTimeNanoseconds=1_782_967_788_000_000_000, host_name="node7")
EVENTS = [
    event("cpu_op", "aten::mm", 4_026_150_069_145.028, 4_026_150_069_145.028 + 12.734),
    *kernel("void gemm<float, {2}>()", 4026150069200.5, 4026150069300.75, launched_us=4026150069190.0, correlation=9),
    event("python_function", "train.py(3): main", 1, 2),
    {"ph": "M", "name": "process_name", "pid": "Spans", "tid": 0, "ts": 1, "args": {"name": "}, {"}},
    {"ph": "i", "name": "Record Window End", "ts": 5},
    {"ph": "X", "name": "no category, arguments or duration", "tid": "Profiler", "pid": "Spans", "ts": 7},
]
LAYOUTS: dict[str, Callable[[], str]] = {
    "kineto": lambda: kineto_text(EVENTS, FIELDS),
    "one line an event": lambda: (
        json.dumps(FIELDS)[:-1] + ',"traceEvents": [\n' + ",\n".join(map(json.dumps, EVENTS)) + "\n]\n}\n"
    ),
    "dumped again": lambda: json.dumps({**FIELDS, "traceEvents": EVENTS}),
    "indented": lambda: json.dumps({"traceEvents": EVENTS, **FIELDS}, indent=1),
}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(trace: Trace) -> list[tuple[str, str, int, int, int, int]]:
    own = trace.events
    return [
        (own.names[n], own.categories[c], start, duration, stream, correlation)
        for n, c, start, duration, stream, correlation in zip(
            own.name, own.category, own.start_ns, own.duration_ns, own.stream, own.correlation, strict=True
        )
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda text: gzip.compress(text[:200]) + gzip.compress(text[200:])])
def test_every_layout_gives_the_same_columns(tmp_path: Path, layout: str, pack: Callable[[bytes], bytes]) -> None:
    trace = read_trace(write(tmp_path / "trace", pack(LAYOUTS[layout]().encode())))
    base_ns = 1_782_967_788_000_000_000
    assert rows(trace) == [
        ("aten::mm", "cpu_op", base_ns + 4_026_150_069_145_028, 12_734, -1, -1),
        ("cudaLaunchKernel", "cuda_runtime", base_ns + 4_026_150_069_190_000, 1000, -1, 9),
        ("void gemm<float, {2}>()", "kernel", base_ns + 4_026_150_069_200_500, 100_250, 7, 9),
        ("no category, arguments or duration", "", base_ns + 7000, 0, -1, -1),
    ]
    assert (trace.header.rank, trace.header.world_size, trace.header.host_name) == (1, 4, "node7")
    assert (trace.notes.damage, trace.notes.num_python, trace.notes.num_unreadable, trace.notes.whole_us) == ("", 1, 0, False)


def test_a_bare_list_has_no_header(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "t.json", json.dumps(EVENTS)))
    assert len(trace.events) == 4
    assert trace.header.rank is None


@pytest.mark.parametrize("layout", [*LAYOUTS, "list"])
def test_blocks_are_cut_between_events(tmp_path: Path, layout: str) -> None:
    """40,000 events take several blocks in every layout, and names full of braces do not cut one in two."""
    many = [event("cpu_op", f'}}, {{"op": {number % 7}', number, number + 1, note="x" * 40) for number in range(40_000)]
    texts = {
        "kineto": lambda: kineto_text(many, header()),
        "one line an event": lambda: '{"traceEvents": [\n' + ",\n".join(map(json.dumps, many)) + "\n]}",
        "dumped again": lambda: json.dumps({"traceEvents": many}),
        "indented": lambda: json.dumps({"traceEvents": many}, indent=1),
        "list": lambda: json.dumps(many),
    }
    text = texts[layout]()
    assert len(text) > 4 * BLOCK_BYTES
    trace = read_trace(write(tmp_path / "t.json", text))
    assert trace.notes.num_unreadable == 0
    assert (trace.events.start_ns == np.arange(40_000) * 1000).all()


@pytest.mark.parametrize("count", [2, 20_000])
def test_fields_behind_the_events_are_read_however_long_they_are(tmp_path: Path, count: int) -> None:
    log = [{"INFO": "x" * 50}, {"INFO": f"{count} }}, {{"}] * 30_000
    many = [event("cpu_op", "op", number, number + 1) for number in range(count)]
    trace = read_trace(write(tmp_path / "t.json", json.dumps({"traceEvents": many, "log": log, **FIELDS})))
    assert len(trace.events) == count
    assert (trace.header.rank, trace.header.host_name, trace.notes.damage) == (1, "node7", "")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_file_keeps_every_event_before_the_cut(tmp_path: Path, layout: str) -> None:
    whole = LAYOUTS[layout]()
    for length in range(whole.index("aten::mm") + 600, whole.index("no category"), 31):
        trace = read_trace(write(tmp_path / "t.json", whole[:length]))
        assert trace.notes.damage == "it ends before its list of events does"
        assert len(trace.events) == 3
        assert 0 <= trace.notes.lost_bytes < length


def test_a_cut_gzip_file_keeps_what_unpacks(tmp_path: Path) -> None:
    many = [event("cpu_op", f"op{number}", number, number + 1) for number in range(20_000)]
    packed = gzip.compress(kineto_text(many, FIELDS).encode())
    cut = read_trace(write(tmp_path / "cut.gz", packed[: len(packed) // 2]))
    assert cut.notes.damage == "its packed data end too early"
    assert 5_000 < len(cut.events) < 15_000
    broken = bytearray(packed)
    broken[len(packed) // 2 : len(packed) // 2 + 50] = bytes(50)
    damaged = read_trace(write(tmp_path / "broken.gz", bytes(broken)))
    assert damaged.notes.damage
    assert 1_000 < len(damaged.events) < 20_000


def test_events_that_break_the_rules_cost_only_themselves(tmp_path: Path) -> None:
    good = '{"ph":"X","cat":"cpu_op","name":"good","ts":1,"dur":1}'
    bad = [
        '{"ph":"X","name":"a "quote"","ts":1}',
        '{"ph":"X","name":"C:\\Users","ts":1}',
        '{"ph":"X","name":"no time"}',
        '{"ph":"X","name":"forever","ts":1,"dur":1e300}',
        '{"ph":"X","name":"before","ts":1,"dur":-1}',
    ]
    mended = [
        '{"ph":"X","name":"control \x01\n character","ts":1}',
        b'{"ph":"X","name":"bytes \xff","ts":1}'.decode("latin-1"),
        '{"ph":"X","name":null,"ts":"1.5","dur":1,"args":{"stream":"7","correlation":[]}}',
        '{"ph":"X","name":"odd","ts":1,"pid":1.5,"args":[]}',
    ]
    text = '{"traceEvents":[' + ",\n".join([good, *bad, *mended, good]) + "]}"
    trace = read_trace(write(tmp_path / "t.json", text.encode("latin-1")))
    assert [row[0] for row in rows(trace)] == ["good", "control    character", "bytes \ufffd", "", "odd", "good"]
    assert rows(trace)[3][2:] == (1500, 1000, 7, -1)
    assert trace.notes.num_unreadable == len(bad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not JSON"),
        (b"\x1f\x8b", "is empty"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 99, "is packed by zstd, which is not read; unpack it, or pack it by gzip once"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "is packed by gzip twice"),
        (b'[{"ph":"X","cat":"Trace","name":"fwd","ts":1,"dur":1,"pid":0,"tid":0}]', "is not of torch.profiler"),
        (b'{"a": 1}', "has no traceEvents"),
        (b'{"traceEvents": 5}', "has no traceEvents"),
        (b'{"traceEvents": []}', "holds no timed event"),
        (b'{"traceEvents": [1, "x", [{}]]}', "holds no timed event"),
        (b"[" * 100_000, "holds no timed event"),
        (b'{"traceEvents": [' + b'{"args":' * 100_000, "holds no timed event"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_trace(write(tmp_path / "t.json", text))


@given(st.data())
def test_damage_anywhere_gives_an_answer_or_one_line(data: st.DataObject) -> None:
    """A few bytes of a trace replaced, left out or doubled: it is read and analysed, or refused in words."""
    text = bytearray(kineto_text(DAMAGED, FIELDS).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 30))
        text[at : at + length] = data.draw(
            st.sampled_from([b"", b"}", b"[", b'"', b"\\", b"\0", b"\xff", b"1e99", b"null", text[at:]])
        )
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.json", bytes(text))
        try:
            analysis = analyse_traces([reduce_trace(read_trace(path))])
        except BadInput:
            return
        assert plain_text(analysis_sheet(analysis))


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(BadInput, match="cannot read"):
            read_trace(path)


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(text) for text in (b'{"traceEvents": [', *[b" " * 2**20] * 100)]
    bomb = write(tmp_path / "bomb.json.gz", b"".join(parts) + packer.flush())
    assert bomb.stat().st_size < 200_000
    with pytest.raises(BadInput, match="no event ends within"):
        read_trace(bomb)
    trace = write_trace(tmp_path / "t.json", EVENTS)
    for limits, message in (
        (Limits(text_bytes=100), "unpacks to more than 100 B"),
        (Limits(events=3), "more than 3 timed events"),
        (Limits(names=2), "more than 2 distinct names"),
    ):
        with pytest.raises(BadInput, match=message):
            read_trace(trace, limits)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Nobody writes to it, so that reading it would never begin."""
    os.mkfifo(tmp_path / "rank00000.trace.json")
    with pytest.raises(BadInput, match="it is not a file"):
        read_trace(tmp_path / "rank00000.trace.json")


def test_a_timeline_merged_from_ranks_is_refused_though_its_categories_are_torch_s(tmp_path: Path) -> None:
    """As tools merge that keep every rank's events and give each rank's processes numbers of their own."""
    ranks = [[event("cpu_op", "aten::mm", 0, 50), *kernel("gemm", 10, 40, launched_us=5, correlation=own)] for own in (1, 2)]
    merged = [one | {"pid": one["pid"] + 100 * rank} for rank, events in enumerate(ranks) for one in events]
    with pytest.raises(BadInput, match=r"holds the operators of 2 processes, where a rank is one; a timeline merged"):
        read_trace(write_trace(tmp_path / "fused.json", merged))
