"""Perfetto itself opens our merged traces: nothing is lost at the import, arrows are whole, tracks add up to the budget."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.sets.belonging import read_one_run
from commprof.analysis.traces.shown.timeline import timeline
from commprof.analysis.traces.shown.timeline_file import write_timeline
from tests.factory import write_tiny_config
from tests.field.test_traces import TRACES
from tests.forked import Zygote
from tests.perfetto.processor import Processor, missing
from tests.traces import gloo_all_reduce, header, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import RANK_0, RANK_1
from tests.unit.analysis.traces.one_rank.test_pftrace import packed

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")]

ERRORS = "select name, value from stats where value != 0 and severity in ('error', 'data_loss')"
SLICES = "select count(*) from slice"
STEPS = "select count(distinct name) from slice where name glob 'ProfilerStep#*'"
FLOWS = "select count(*) from flow"
ARROWS = """
    select count(*) from flow f join slice a on f.slice_out = a.id join slice b on f.slice_in = b.id
    where a.track_id = b.track_id or b.ts > a.ts + a.dur
"""
# A track's time within each step of its process: exposed and hidden transfer and waiting, as the budget has them.
PARTS = """
    select p.pid - 1, s.name, sum(s.dur) from slice s
    join thread_track t on s.track_id = t.id join thread using (utid) join process p using (upid)
    where s.name in ('exposed transfer', 'hidden transfer', 'exposed waiting', 'hidden waiting') group by 1, 2
"""
NEGATIVE = "select count(*) from slice where dur < 0 or ts < 0"


@pytest.fixture(scope="module")
def perfetto() -> Iterator[Processor]:
    processor = Processor()
    yield processor
    processor.end()


def written(folder: Path, analysis: TraceAnalysis, name: str) -> tuple[Path, list[dict[str, object]]]:
    events = list(timeline(analysis))
    path = folder / name
    write_timeline(path, events)
    return path, events


def check(perfetto: Processor, folder: Path, analysis: TraceAnalysis, name: str = "all.json") -> None:
    path, events = written(folder, analysis, name)
    opened = perfetto.ask(path, [ERRORS, SLICES, FLOWS, ARROWS, PARTS, NEGATIVE], folder)
    errors, slices, flows, crossed, parts, negative = opened.rows
    assert opened.errors == ()
    assert errors == ()
    assert slices == ((sum(own["ph"] == "X" for own in events),),)
    assert flows == ((sum(own["ph"] == "s" for own in events),),)
    assert crossed == ((0,),)
    assert negative == ((0,),)
    ours: dict[tuple[int, str], int] = defaultdict(int)
    for own in events:
        if own["ph"] == "X" and own["name"] in ("exposed transfer", "hidden transfer", "exposed waiting", "hidden waiting"):
            ours[int(str(own["pid"])) - 1, str(own["name"])] += round(float(str(own["dur"])) * 1000)
    assert {(rank, name): total for rank, name, total in parts} == pytest.approx(dict(ours), abs=1000)
    check_budget(analysis, {(rank, name): total for rank, name, total in parts})


def check_budget(analysis: TraceAnalysis, parts: dict[tuple[int, str], int]) -> None:
    """Where all of a rank's communication lies in its steps, Perfetto's sums are the budget's to the microsecond."""
    for rank, trace in analysis.by_rank.items():
        steps = [own for own in analysis.budgets if own.rank == rank]
        if not all(
            any(w.start_ns <= own.start_ns and own.end_ns <= w.end_ns for w in trace.windows) for own in trace.collectives
        ):
            continue  # between two steps it belongs to none of them
        for kind in ("transfer", "waiting"):
            for how in ("exposed", "hidden"):
                ours = sum(own.parts_ns()[f"{kind}_{how}"] for own in steps)
                assert parts.get((rank, f"{how} {kind}"), 0) == pytest.approx(ours, abs=1000 * len(steps))


@pytest.mark.parametrize("name", ["all.json", "all.json.gz"])
def test_a_gpu_s_merged_trace(perfetto: Processor, tmp_path: Path, name: str) -> None:
    paths = [write_trace(tmp_path / f"{rank}.json", own, header(rank)) for rank, own in enumerate((RANK_0, RANK_1))]
    check(perfetto, tmp_path, analyse_traces([reduce_trace(read_trace(path)) for path in paths]), name)


def test_our_trainer_s_traces_and_what_they_merge_to(perfetto: Processor, zygote: Zygote, tmp_path: Path) -> None:
    words = ("train", write_tiny_config(tmp_path), "--folder", "r", "profiling.trace_steps=4")
    done = zygote.run(tmp_path, "commprof", *words, ranks=2)
    assert done.returncode == 0, done.stderr
    run = read_one_run([tmp_path / "r"])
    opened = perfetto.ask(run.files[0], [ERRORS, SLICES, STEPS], tmp_path)
    assert opened.errors == ()
    assert opened.rows[0] == ()
    assert opened.rows[1][0][0] > 100
    assert opened.rows[2] == ((4,),)
    check(perfetto, tmp_path, analyse_traces(run.traces))


def test_gloo_s_merged_trace(perfetto: Processor, tmp_path: Path) -> None:
    paths = []
    for rank in range(2):
        events = [profiler_step(step, 100 * step, 100 * step + 100) for step in range(4)]
        events += [gloo_all_reduce(100 * step + 20 + 30 * rank, 100 * step + 80) for step in range(4)]
        paths.append(write_trace(tmp_path / f"{rank}.json", events, header(rank)))
    check(perfetto, tmp_path, analyse_traces([reduce_trace(read_trace(path)) for path in paths]))


@pytest.mark.field
@pytest.mark.skipif(not TRACES.is_dir(), reason="the published traces are not in ../shared/data/traces")
@pytest.mark.parametrize("name", ["gloo_ddp_2r_torch213", "dlrm_sampled_2of128", "nccl_data_A100_2gpu_r0"])
def test_merged_traces_of_real_ranks(perfetto: Processor, tmp_path: Path, name: str) -> None:
    files = sorted(path for path in (TRACES / name).iterdir() if ".json" in path.name)
    check(perfetto, tmp_path, analyse_traces([reduce_trace(read_trace(path)) for path in files]))


def test_perfetto_reads_the_same_of_its_own_format(perfetto: Processor, tmp_path: Path) -> None:
    """Slices that lie apart or inside each other: begun and ended one kind after another, as torch writes them."""
    apart = [own for own in RANK_0 if "stream" in own["args"] and own["cat"] == "kernel"]
    path = tmp_path / "rank0.pftrace"
    path.write_bytes(packed(apart))
    opened = perfetto.ask(path, [ERRORS, "select name, ts, dur from slice order by ts, dur"], tmp_path)
    assert opened.errors == ()
    trace = read_trace(path).events
    ours = zip(trace.name.tolist(), trace.start_ns.tolist(), trace.duration_ns.tolist(), strict=True)
    assert sorted((trace.names[name], start, length) for name, start, length in ours) == sorted(opened.rows[1])


def test_a_broken_trace_is_said_to_be(perfetto: Processor, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({"traceEvents": [{"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": "never", "dur": 1}]}))
    opened = perfetto.ask(path, [ERRORS, SLICES], tmp_path)
    assert opened.errors or opened.rows[0]
