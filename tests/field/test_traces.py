"""Real traces, against what HolisticTraceAnalysis found in them and against what is known of how they were made."""

from pathlib import Path

import pytest

from commprof.analysis.traces.all_ranks.buckets import summarise_buckets
from commprof.analysis.traces.all_ranks.job import analyse_traces
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.spans import common, length_ns, merged, union

TRACES = Path(__file__).parents[2].parent / "shared/data/traces"

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(not TRACES.is_dir(), reason="the published traces are not in ../shared/data/traces"),
]


def reduced(name: str) -> RankTrace:
    (path,) = TRACES.glob(name)
    return reduce_trace(read_trace(path))


def test_an_integer_clock_agrees_with_holistic_trace_analysis_to_the_microsecond() -> None:
    """Its definitions: computation is the union of kernels that do not communicate; idle what no GPU work covers."""
    trace = reduced("v100_2gpu_allreduce_r1/*.gz")
    communication = union([own.start_ns for own in trace.collectives], [own.end_ns for own in trace.collectives])
    busy = merged(trace.compute, trace.memory, communication)
    assert length_ns(trace.compute) == 620_516_000
    assert busy[-1, 1] - busy[0, 0] - length_ns(busy) == 732_352_000
    assert length_ns(common(trace.compute, communication)) == 0
    assert [window.number for window in trace.windows] == [2, 3, 4, 5, 6]
    assert len(trace.collectives) == 5 * 404


def test_a_nanosecond_clock_gives_the_exact_overlap() -> None:
    trace = reduced("nccl_data_A100_2gpu_r0/*.gz")
    communication = union([own.start_ns for own in trace.collectives], [own.end_ns for own in trace.collectives])
    overlap = length_ns(common(trace.compute, communication)) / length_ns(communication)
    assert overlap == pytest.approx(0.156, abs=0.0005)
    sizes = [own.message_bytes for own in trace.collectives if own.op == "all_reduce" and own.step == 4]
    assert [round(size / 1e6, 1) for size in sizes if size] == [8.2, 31.5, 26.3, 26.6, 9.7]
    assert {own.group_ranks for own in trace.collectives} == {(0, 1)}
    analysis = analyse_traces([trace])
    buckets = summarise_buckets(analysis.buckets)
    assert [round((own.message_bytes or 0) / 1e6, 1) for own in buckets] == [8.2, 31.5, 26.3, 26.6, 9.7]
    assert [own.count for own in buckets] == [3] * 5
    assert [0.12 < (own.hidden_share or 0) < 0.27 for own in buckets] == [True] * 4 + [False]
    assert buckets[4].hidden_share == 0
    assert [cost.line for cost in analysis.costs] == [None, None]


def test_four_steps_are_too_few_to_call_the_rank_late_that_slept_five_milliseconds() -> None:
    files = sorted((TRACES / "gloo_ddp_2r_torch213").glob("*.gz"))
    analysis = analyse_traces([reduce_trace(read_trace(path)) for path in files])
    found = analysis.stragglers
    assert (found.kind, found.rank, found.num_steps) == ("unknown", 1, 4)
    assert "takes 8 undisturbed steps at least on 2 ranks" in found.message
    assert 0.5e-3 < found.cost_s < 10e-3
    other_s = {(own.rank, own.step): own.other_ns / 1e9 for own in analysis.budgets}
    assert all(5e-3 < other_s[1, step] - other_s[0, step] < 9e-3 for step in (2, 3, 4, 5))
    assert len(analysis.matching.matched) == 16
    assert not analysis.findings


@pytest.mark.parametrize("path", sorted(TRACES.glob("*/*.json*")), ids=lambda path: path.name)
def test_every_trace_is_read_whole_and_its_budgets_add_up(path: Path) -> None:
    trace = read_trace(path)
    assert (trace.notes.damage, trace.notes.num_unreadable) == ("", 0)
    analysis = analyse_traces([reduce_trace(trace)])
    assert analysis.budgets
    for budget in analysis.budgets:
        assert sum(budget.parts_ns().values()) == budget.wall_ns
        assert min(budget.parts_ns().values()) >= 0
