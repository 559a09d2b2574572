"""The merged trace of all ranks: the one drawn in test_budget.py, what is random, and what is hostile."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.one_rank.header import TraceHeader
from commprof.analysis.traces.one_rank.kineto import ReadingNotes
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.spans import union
from commprof.analysis.traces.one_rank.steps import StepWindow
from commprof.analysis.traces.shown.timeline import levels, timeline
from commprof.analysis.traces.shown.timeline_file import write_timeline
from commprof.cli import main
from tests.chrome_trace import Event, check_events, check_sums, on_track, read_events
from tests.traces import all_reduce, event, gloo_all_reduce, header, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1, analysed, collective, shifted


def in_us(slices: list[Event]) -> list[tuple[str, float, float]]:
    return sorted(((own["name"], own["ts"], round(own["ts"] + own["dur"], 3)) for own in slices), key=lambda own: own[1:])


def written(folder: Path, *ranks: list[Event], hosts: tuple[str, ...] = ("a", "b")) -> list[Event]:
    write_timeline(folder / "all.json.gz", timeline(analysed(folder, *ranks, hosts=hosts)))
    events = read_events(folder / "all.json.gz")
    check_events(events)
    check_sums(events)
    return events


def test_two_ranks_on_one_clock(tmp_path: Path) -> None:
    """The first step begins at 10; rank 1 runs a second ahead on another host."""
    events = written(tmp_path, RANK_0, shifted(RANK_1, 1e6))
    first, second = "rank 0 (a)", "rank 1 (b)"
    steps = on_track(events, first, "steps")
    assert in_us(steps) == [("step 1", 0, 65), ("step 2", 65, 120)]
    assert steps[0]["args"]["waiting_exposed_us"] == 5
    assert in_us(on_track(events, first, "compute")) == [("compute", 0, 30), ("compute", 40, 50), ("compute", 100, 120)]
    assert in_us(on_track(events, first, "memory copies")) == [("memory copies", 60, 65)]
    assert in_us(on_track(events, first, "waiting")) == [("hidden waiting", 20, 30), ("exposed waiting", 30, 35)]
    transfer = [("exposed transfer", 35, 40), ("hidden transfer", 40, 50), ("exposed transfer", 50, 60)]
    assert in_us(on_track(events, first, "transfer")) == transfer
    whole, *parts = on_track(events, first, "collectives")
    assert in_us([whole, *parts]) == [("waiting", 20, 35), ("all_reduce 3.815 MiB", 20, 60), ("transfer", 35, 60)]
    expected = {"message_bytes": 4_000_000, "dtype": "Float", "waiting_us": 15, "transfer_us": 25, "busbw_GB_per_s": 160}
    assert whole["args"].items() >= expected.items()
    assert in_us(on_track(events, second, "collectives"))[0] == ("all_reduce 3.815 MiB", 35, 60)
    assert not on_track(events, second, "waiting")
    arrow = [(own["ph"], own["pid"], own["ts"]) for own in events if own["ph"] in "sf"]
    assert arrow == [("s", 2, 35), ("f", 1, 35)]


def test_the_same_traces_give_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("one", RANK_0), ("two", RANK_0[::-1])):
        write_timeline(tmp_path / f"{name}.json.gz", timeline(analysed(tmp_path, order, RANK_1)))
    packed = (tmp_path / "one.json.gz").read_bytes()
    assert packed == (tmp_path / "two.json.gz").read_bytes()
    assert packed[4:8] == bytes(4), "no time of writing"
    write_timeline(tmp_path / "plain.json", timeline(analysed(tmp_path, RANK_0, RANK_1)))
    assert gzip.decompress(packed) == (tmp_path / "plain.json").read_bytes()


def test_overlapping_collectives_lie_on_tracks_of_their_own_and_one_rank_has_no_arrows(tmp_path: Path) -> None:
    """The third begins where the first ends. What is before the first step has no time below 0."""
    overlapping = [gloo_all_reduce(2, 10, thread=101), gloo_all_reduce(6, 20, thread=102), gloo_all_reduce(10, 14, thread=101)]
    events = written(tmp_path, [profiler_step(7, 5, 50), event("cpu_op", "aten::mm", 5, 9), *overlapping])
    assert in_us(on_track(events, "rank 0 (a)", "steps")) == [("step 7", 3, 48)]
    name = "all_reduce 3.906 KiB"
    assert in_us(on_track(events, "rank 0 (a)", "collectives")) == [(name, 0, 8), (name, 8, 12)]
    assert in_us(on_track(events, "rank 0 (a)", "collectives 2")) == [(name, 4, 18)]
    assert not [own for own in events if own["ph"] in "sf"]


def test_what_traces_say_breaks_no_reader(tmp_path: Path) -> None:
    group = {"Process Group Name": '"}]\x7f\x1b[31m' + "g" * 5000, "dtype": "\u202eFloat\\"}
    events = [profiler_step(1, 0, 100), *all_reduce(30, 70, launched_us=20, correlation=3, **group)]
    found = written(tmp_path, events, hosts=('ho\nst"\x00',))
    (whole,) = on_track(found, 'rank 0 (ho\\x0ast"\\x00)', "collectives")
    assert whole["args"]["group"].startswith('"}]\\x7f\\x1b[31mggg')
    assert len(whole["args"]["group"]) < 200


def test_no_arrow_ends_where_a_collective_was_over_before_the_last_rank_came(tmp_path: Path) -> None:
    """On one host's clock it ended at 20 on rank 0 and began at 30 on rank 1: all of it is waiting."""
    early, late = ([profiler_step(1, 0, 50), gloo_all_reduce(start, start + 10)] for start in (10, 30))
    events = written(tmp_path, early, late, hosts=("a", "a"))
    assert in_us(on_track(events, "rank 0 (a)", "waiting")) == [("exposed waiting", 10, 20)]
    assert on_track(events, "rank 0 (a)", "collectives")[0]["args"]["waiting_us"] == 10
    assert not [own for own in events if own["ph"] in "sf"]


SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)).map(lambda own: (own[0], own[0] + own[1])), max_size=12)


@given(SPANS)
def test_a_level_has_no_overlap_and_there_are_no_more_than_spans_at_once(spans: list[tuple[int, int]]) -> None:
    found = levels(spans)
    for index, (start, end) in enumerate(spans):
        for other in range(index):
            if found[other] == found[index]:
                assert end <= spans[other][0] or spans[other][1] <= start
    depth = max((sum(start <= at < max(end, start + 1) for start, end in spans) for at in range(100)), default=0)
    assert len(set(found)) <= depth
    if all(end > start for start, end in spans):
        assert len(set(found)) == depth


@settings(max_examples=50)
@given(SPANS, SPANS, SPANS, SPANS, st.integers(-100, 100))
def test_whatever_happens_slices_nest_and_add_up(
    first: list[tuple[int, int]],
    second: list[tuple[int, int]],
    compute: list[tuple[int, int]],
    windows: list[tuple[int, int]],
    offset: int,
) -> None:
    """The same collectives on both ranks, on clocks that lie apart; steps that overlap."""
    count = min(len(first), len(second))
    ranks = (first[:count], "a", 0), ([(start + offset, end + offset) for start, end in second[:count]], "b", offset)
    analysis = analyse_traces([rank_trace(rank, *own, compute, windows) for rank, own in enumerate(ranks)])
    events = list(timeline(analysis))
    check_events(events)
    if any(own["ph"] == "X" and own["cat"] == "step" for own in events):
        check_sums(events)


def test_a_clock_that_runs_fast_keeps_slices_apart() -> None:
    """Rank 1's clock gains 200 us a second; its collectives come 1 ms earlier and all end together."""
    ends = range(10**7, 41 * 10**7, 10**7)
    own = [(end - 2 * 10**6, end) for end in ends]
    other = [(end - 3 * 10**6 + end // 5000, end + end // 5000) for end in ends]
    windows = [(0, 2 * 10**8), (2 * 10**8, 41 * 10**7)]
    ranks = (own, "a", 0), (other, "b", 0)
    analysis = analyse_traces([rank_trace(rank, *one, own, windows) for rank, one in enumerate(ranks)])
    assert analysis.clocks[1].drift == pytest.approx(2e-4, rel=0.01)
    events = list(timeline(analysis))
    check_events(events)
    check_sums(events, within_ns=20_000)
    arrows = [own for own in events if own["ph"] == "s"]
    assert {(own["pid"], (own["ts"] + 2000) % 10_000) for own in arrows} == {(1, 0)}


def rank_trace(
    rank: int,
    spans: list[tuple[int, int]],
    host: str,
    offset: int,
    compute: list[tuple[int, int]],
    windows: list[tuple[int, int]],
) -> RankTrace:
    return RankTrace(
        path="",
        header=TraceHeader(rank=rank, world_size=2, host_name=host),
        notes=ReadingNotes(text_bytes=1, lost_bytes=0, damage="", num_events=1, num_unreadable=0, num_python=0, whole_us=False),
        on_gpu=True,
        windows=tuple(
            StepWindow(number=number, start_ns=start + offset, end_ns=end + offset)
            for number, (start, end) in enumerate(windows)
            if end > start
        ),
        collectives=tuple(collective(start, end) for start, end in sorted(spans)),
        compute=union([start + offset for start, _ in compute], [end + offset for _, end in compute]),
        memory=union([], []),
        launch_idle=union([], []),
        lag_ns=None,
        num_gpu_events=1,
        num_orphans=0,
        span_ns=100,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for rank, events in enumerate((RANK_0, RANK_1)):
        write_trace(tmp_path / "run" / "traces" / f"rank{rank:05d}.trace.json", events, header(rank, 2, host_name="a"))
    return tmp_path / "run"


def test_the_command_writes_it_beside_everything_else(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = run / "analysis" / "ranks.json.gz"
    assert main(["trace", str(run), "--perfetto", str(target)]) == 0
    events = read_events(target)
    check_events(events)
    check_sums(events)
    out, err = capsys.readouterr()
    assert "160 GB/s" in out
    assert f"{target}: {len(events)} events; open it in ui.perfetto.dev" in err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("x.txt", "must end in .json or .json.gz"),
        ("run/traces/ranks.json", "would be taken for a rank's trace the next time"),
        ("run/traces/rank00000.trace.json", "would replace a trace that is read"),
        ("folder.json", "is a folder"),
        ("run/traces/rank00000.trace.json/x.json", "cannot be written: "),
    ],
)
def test_one_line_for_a_file_that_cannot_be(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, message: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    assert main(["trace", str(run), "--perfetto", str(tmp_path / target)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("commprof: error: ")
    assert len(list((run / "traces").iterdir())) == 2
