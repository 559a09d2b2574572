"""Budgets of traces drawn on paper; times in microseconds.

                10   20   30   40   50   60   70 75         110    130
rank 0 compute  |=========K1====|    |=K2=|              |==K3==|
       comm               |wait |wait|====AR====|
       copy                                     |M|
rank 1 compute  |=========K1=========|                    |==K3==|
       comm                          |====AR====|
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.analysis.traces.all_ranks.budget import PARTS, StepBudget, rank_budgets, split_communication
from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.header import TraceHeader
from commprof.analysis.traces.one_rank.kineto import ReadingNotes, read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.spans import merged, union
from commprof.analysis.traces.one_rank.steps import StepWindow
from tests.traces import all_reduce, event, gloo_all_reduce, header, kernel, profiler_step, write_trace

STEPS = [profiler_step(1, 0, 100), profiler_step(2, 100, 200)]
RANK_0 = [
    *STEPS,
    *kernel("gemm", 10, 40, launched_us=5, correlation=1),
    *kernel("sync_batch_norm_backward", 50, 60, launched_us=25, correlation=2),
    *all_reduce(30, 70, launched_us=20, correlation=3),
    event("cuda_runtime", "cudaMemcpyAsync", 30, 31, correlation=4),
    event("gpu_memcpy", "Memcpy DtoH", 70, 75, stream=7, correlation=4),
    *kernel("gemm", 110, 130, launched_us=104, correlation=5),
    event("cuda_sync", "Stream Sync", 76, 109, stream=7, correlation=6),
    event("gpu_user_annotation", "ProfilerStep#1", 10, 60, stream=7),
]
RANK_1 = [
    *STEPS,
    *kernel("gemm", 10, 45, launched_us=5, correlation=1),
    *all_reduce(45, 70, launched_us=20, correlation=3),
    *kernel("gemm", 110, 130, launched_us=104, correlation=5),
]


def analysed(folder: Path, *ranks: list[dict[str, Any]], hosts: tuple[str, ...] = ("a", "a")) -> TraceAnalysis:
    paths = [
        write_trace(folder / f"{rank}.json", events, header(rank, len(ranks), host_name=hosts[rank]))
        for rank, events in enumerate(ranks)
    ]
    return analyse_traces([reduce_trace(read_trace(path)) for path in paths])


def shifted(events: list[dict[str, Any]], us: float) -> list[dict[str, Any]]:
    return [own | {"ts": own["ts"] + us} for own in events]


def us(budget: StepBudget) -> dict[str, float]:
    assert sum(budget.parts_ns().values()) == budget.wall_ns
    return {name: part / 1000 for name, part in budget.parts_ns().items() if part}


EXPECTED = [
    {
        "compute": 20,
        "transfer_hidden": 10,
        "transfer_exposed": 15,
        "waiting_hidden": 10,
        "waiting_exposed": 5,
        "memory": 5,
    },
    {"compute": 20, "launch_idle": 30, "other": 5},
    {"compute": 35, "transfer_exposed": 25},
    {"compute": 20, "launch_idle": 35, "other": 5},
]


def test_two_ranks_on_one_clock(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, RANK_0, RANK_1)
    assert [us(own) for own in analysis.budgets] == EXPECTED
    assert [own.wall_ns for own in analysis.budgets] == [65_000, 55_000, 60_000, 60_000]
    (summary,) = analysis.collectives
    assert (summary.op, summary.message_bytes, summary.num_ranks, summary.count) == ("all_reduce", 4_000_000, 2, 1)
    assert summary.transfer_s == 25e-6
    assert summary.busbw_bytes_per_s == pytest.approx(160e9)
    assert summary.waiting_share == pytest.approx(15 / 65)


def test_the_order_of_events_and_the_other_hosts_clock_do_not_matter(tmp_path: Path) -> None:
    for order in (RANK_0, RANK_0[::-1], RANK_0[5:] + RANK_0[:5]):
        analysis = analysed(tmp_path, order, shifted(RANK_1, 1e6), hosts=("a", "b"))
        assert [us(own) for own in analysis.budgets] == EXPECTED
        assert (analysis.clocks[1].offset_ns, analysis.clocks[1].corrected) == (10**9, True)


def test_one_rank_cannot_tell_waiting_from_transfer(tmp_path: Path) -> None:
    analysis = analyse_traces([reduce_trace(read_trace(write_trace(tmp_path / "0.json", RANK_0)))])
    assert us(analysis.budgets[0]) == {"compute": 20, "transfer_hidden": 20, "transfer_exposed": 20, "memory": 5}
    assert analysis.collectives[0].busbw_bytes_per_s is None
    assert analysis.stragglers.kind == "unknown"
    assert [finding.name for finding in analysis.findings] == ["missing"]


def test_without_a_gpu_the_main_thread_is_what_counts(tmp_path: Path) -> None:
    """Operators 0-10 and 20-30 of which 22-24 is c10d, another thread's are not ours; gloo 25-40; the step ends at 50."""
    events = [
        profiler_step(7, 0, 50),
        event("cpu_op", "aten::mm", 0, 10),
        event("cpu_op", "aten::add", 20, 30),
        event("cpu_op", "c10d::barrier", 22, 24),
        event("cpu_op", "aten::stack", 30, 50) | {"tid": 55},
        gloo_all_reduce(25, 40),
    ]
    analysis = analysed(tmp_path, events, events)
    assert us(analysis.budgets[0]) == {"compute": 13, "transfer_hidden": 5, "transfer_exposed": 10, "other": 22}
    assert analysis.budgets[0].step == 7
    assert analysis.collectives[0].message_bytes == 4000


def test_a_hook_that_waits_inside_an_operator_does_not_compute(tmp_path: Path) -> None:
    """The operator 0-20 holds a hook 4-18 that multiplies 5-7 and waits for gloo, 8-17."""
    events = [
        profiler_step(7, 0, 20),
        event("cpu_op", "autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 0, 20),
        event("user_annotation", "bucket 0", 4, 18),
        event("cpu_op", "aten::mul_", 5, 7),
        gloo_all_reduce(8, 17),
    ]
    analysis = analysed(tmp_path, events, events)
    assert us(analysis.budgets[0]) == {"compute": 8, "transfer_exposed": 9, "other": 3}


SPANS = st.lists(st.tuples(st.integers(-20, 60), st.integers(0, 30)).map(lambda own: (own[0], own[0] + own[1])), max_size=8)


@given(SPANS, SPANS, SPANS, SPANS, st.lists(st.integers(-30, 90), max_size=8))
def test_parts_add_up_and_none_is_negative(
    compute: list[tuple[int, int]],
    memory: list[tuple[int, int]],
    launch: list[tuple[int, int]],
    collectives: list[tuple[int, int]],
    ready: list[int],
) -> None:
    def covered(spans: list[tuple[int, int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        return union([start for start, _ in spans], [end for _, end in spans])

    trace = RankTrace(
        path="",
        header=TraceHeader(),
        notes=ReadingNotes(text_bytes=1, lost_bytes=0, damage="", num_events=1, num_unreadable=0, num_python=0, whole_us=True),
        on_gpu=True,
        windows=(StepWindow(number=1, start_ns=0, end_ns=40),),
        collectives=tuple(collective(start, end) for start, end in collectives),
        compute=covered(compute),
        memory=covered(memory),
        launch_idle=covered(launch),
        lag_ns=None,
        num_gpu_events=1,
        num_orphans=0,
        span_ns=40,
    )
    split = split_communication(trace, dict(enumerate(ready)))
    assert merged(split.transfer, split.waiting).tolist() == covered(collectives).tolist()
    (budget,) = rank_budgets(0, trace, split)
    parts = budget.parts_ns()
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == 40
    assert min(parts.values()) >= 0
    computing = {instant for start, end in compute for instant in range(max(0, start), min(40, end))}
    assert parts["compute"] + parts["transfer_hidden"] + parts["waiting_hidden"] == len(computing)


def collective(start_ns: int, end_ns: int) -> Collective:
    return Collective(
        op="all_reduce",
        start_ns=start_ns,
        end_ns=end_ns,
        step=1,
        message_bytes=None,
        dtype=None,
        group="",
        group_ranks=None,
        group_size=None,
        sequence=None,
    )
