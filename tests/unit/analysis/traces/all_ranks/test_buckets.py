"""DDP's buckets and the cost of a collective, in traces drawn on paper; times in microseconds."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commprof.analysis.traces.all_ranks.buckets import BucketStep, summarise_buckets
from commprof.analysis.traces.all_ranks.cost import TraceCost, trace_costs
from commprof.analysis.traces.all_ranks.job import TraceAnalysis
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.shown.tables import cost_sentences
from commprof.cli import main
from tests.traces import all_reduce, event, gloo_all_reduce, header, kernel, profiler_step, write_trace
from tests.unit.analysis.traces.all_ranks.test_budget import analysed
from tests.unit.analysis.traces.all_ranks.test_ranks import ONE

Events = list[dict[str, Any]]
AUTOGRAD = "autograd::engine::evaluate_function: "


def call(start: float, end: float, *, inside: str = "torch::autograd::AccumulateGrad", elements: int = 0) -> Events:
    """The CPU's call of an all-reduce, in an operator of autograd that surrounds it by a microsecond."""
    shapes = {"Input Dims": [[[elements]], [], []]} if elements else {}
    around = [event("cpu_op", AUTOGRAD + inside, start - 1, end + 1)] if inside else []
    return [*around, event("cpu_op", "c10d::allreduce_", start, end, **shapes)]


BACKWARD = [event("cpu_op", AUTOGRAD + "MmBackward0", 10, 11), event("cpu_op", AUTOGRAD + "MmBackward0", 60, 61)]


def ddp_rank(first: float, second: float) -> Events:
    """Two buckets, whose kernels start at these times; rank 0 of those below starts them at 30 and 70."""
    return [
        profiler_step(1, 0, 100),
        *BACKWARD,
        *call(4, 7, inside=""),
        *all_reduce(6, 8, launched_us=5, correlation=9, elements=10),  # of the forward pass
        *call(13, 16, inside="TensorParallelBackward0"),
        *all_reduce(16, 18, launched_us=14, correlation=8, elements=20),  # of an operator's own backward
        *call(19, 22),
        *all_reduce(first, 70, launched_us=20, correlation=1),
        *call(49, 52, inside=""),
        *all_reduce(second, 90, launched_us=50, correlation=2, elements=2_000_000),
        *[one for start, end, own in ((20, 40, 3), (50, 60, 4), (80, 85, 5)) for one in
          kernel("gemm", start, end, launched_us=9, correlation=own)],
    ]  # fmt: skip


def row(own: BucketStep) -> tuple[float, ...]:
    times = (own.ready_s, own.launch_s, own.start_s, own.end_s, own.waiting_s, own.transfer_s)
    return tuple(round(time * 1e6, 3) for time in times)


def test_all_reduces_in_backward_are_buckets_and_those_of_layers_are_not(tmp_path: Path) -> None:
    """Rank 1 comes to the first at 50 and to the second at 75: rank 0 waits 20 and 5 and transfers for 20 and 15."""
    analysis = analysed(tmp_path, ddp_rank(30, 70), ddp_rank(50, 75))
    mine = [own for own in analysis.buckets if own.rank == 0]
    assert [(own.step, own.bucket, own.message_bytes, own.named) for own in mine] == [
        (1, 0, 4_000_000, False),
        (1, 1, 8_000_000, False),
    ]
    assert [row(own) for own in mine] == [(9, 9, 20, 60, 20, 20), (39, 39, 60, 80, 5, 15)]
    assert [own.hidden_share for own in mine] == pytest.approx([10 / 20, 5 / 15])
    assert [own.exposed_share for own in mine] == pytest.approx([10 / 20, 10 / 15])
    first, second = summarise_buckets(analysis.buckets)
    assert (first.count, first.start_s * 1e6, second.message_bytes) == (2, pytest.approx(30), 8_000_000)


def test_buckets_are_shown_in_80_columns_and_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank, (first, second) in enumerate(((30, 70), (50, 75))):
        write_trace(tmp_path / f"{rank}.json", ddp_rank(first, second), header(rank, 2, host_name="a"))
    assert main(["trace", str(tmp_path), "--csv", str(tmp_path / "tables")]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "1 all ranks   7.629 MiB   39 us   39 us 62.5 us   80 us    15 us     33%     67%" in out
    assert "ready is the launch. Seen on 2 ranks in 1 step." in " ".join(out.split())
    assert "gradient buckets (medians" in out, "all-reduces in backward may be another library's than DDP"
    with (tmp_path / "tables" / "buckets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(own["rank"], own["bucket"], own["named"], own["message_bytes"]) for own in rows][:2] == [
        ("0", "0", "False", "4000000"),
        ("0", "1", "False", "8000000"),
    ]


def test_without_marked_steps_buckets_are_numbered_in_each_backward_pass(tmp_path: Path) -> None:
    forward = event("user_annotation", "DistributedDataParallel.forward", 0, 5)
    once = [own for own in ddp_rank(30, 70) if not own["name"].startswith("ProfilerStep")]
    twice = [own | {"ts": own["ts"] + late, "args": own["args"] | ({"correlation": own["args"]["correlation"] + late}
             if "correlation" in own["args"] else {})} for late in (0, 1000) for own in [forward, *once]]  # fmt: skip
    analysis = analysed(tmp_path, twice, hosts=("a",))
    assert [(own.bucket, *row(own)[:3]) for own in analysis.buckets] == [(0, 9, 9, 20), (1, 39, 39, 60)] * 2


def gloo_rank(calls: list[dict[str, Any]], *, shapes: bool = True) -> Events:
    """Two marked buckets of 1000 and 500 elements; gloo's other thread takes the second, smaller one first."""
    events = [
        profiler_step(1, 0, 200),
        event("user_annotation", "DistributedDataParallel.forward", 1, 5),
        event("cpu_op", AUTOGRAD + "EarlierBackward0", 0, 0.5),
        event("cpu_op", AUTOGRAD + "MmBackward0", 10, 12),
        event("user_annotation", "bucket 0", 20, 25),
        event("user_annotation", "bucket 1", 40, 46),
        *calls,
        event("cpu_op", "aten::mm", 30, 39),
        event("cpu_op", "aten::mm", 47, 60),
        gloo_all_reduce(50, 90, 1000),
        gloo_all_reduce(45, 80, 500, thread=102),
    ]
    return events if shapes else [own | {"args": {}} for own in events]


def gloo_buckets(folder: Path, events: Events) -> TraceAnalysis:
    return analysed(folder, events, hosts=("a",))


def test_marked_buckets_are_ready_before_they_are_launched(tmp_path: Path) -> None:
    """Backward began at 10; 10 of the 40 and 13 of the 35 that the two are under way hide behind aten::mm."""
    calls = [*call(22, 23, elements=1000), *call(42, 43, elements=500)]
    first, second = gloo_buckets(tmp_path, gloo_rank(calls)).buckets
    assert (first.message_bytes, first.named, row(first)) == (4000, True, (10, 12, 40, 80, 0, 40))
    assert (second.message_bytes, second.named, row(second)) == (2000, True, (30, 32, 35, 70, 0, 35))
    assert [first.hidden_share, second.hidden_share] == pytest.approx([10 / 40, 13 / 35])


def test_a_hook_that_holds_buckets_back_launches_them_in_order(tmp_path: Path) -> None:
    calls = [*call(42, 43, elements=1000), *call(44, 44.5, elements=500)]
    analysis = gloo_buckets(tmp_path, gloo_rank(calls))
    assert [(own.bucket, own.message_bytes, *row(own)[:2]) for own in analysis.buckets] == [
        (0, 4000, 10, 32),
        (1, 2000, 30, 34),
    ]


def test_without_shapes_order_decides_and_where_counts_differ_nothing_does(tmp_path: Path) -> None:
    calls = [*call(22, 23), *call(42, 43)]
    analysis = gloo_buckets(tmp_path, gloo_rank(calls, shapes=False))
    assert [(own.bucket, own.message_bytes, row(own)[2]) for own in analysis.buckets] == [(0, None, 35), (1, None, 40)]
    assert gloo_buckets(tmp_path, gloo_rank(calls[:2], shapes=False)).buckets == ()


def cost(sizes_to_ns: dict[int, list[int]], **changes: object) -> TraceCost:
    """The cost of all-reduces over two ranks, of which the first waits 50 us longer."""
    matched = [
        MatchedCollective(
            parts={
                rank: replace(ONE, message_bytes=size, end_ns=time + 50_000 * (1 - rank), **changes)  # type: ignore[arg-type]
                for rank in range(2)
            },
            num_expected=2,
            by_sequence=True,
        )
        for size, times in sizes_to_ns.items()
        for time in times
    ]
    (found,) = trace_costs(matched, (part for one in matched for part in one.parts.values()))
    return found


def test_the_line_is_that_of_the_rank_that_waited_least() -> None:
    """100 us + size / 2 GB/s, that is 500 ns a KB."""
    found = cost({size: [100_000 + size // 2 + noise for noise in (-20, 0, 20)] for size in (10_000, 20_000, 40_000, 400_000)})
    assert found.line is not None
    assert found.line.latency_s == pytest.approx(100e-6, rel=1e-3)
    assert found.line.bandwidth_bytes_per_s == pytest.approx(2e9, rel=1e-2)
    assert found.line.error < 0.001
    assert found.line.bandwidth_interval.low <= 2e9 * 1.01
    assert found.busbw_bytes_per_s == found.line.bandwidth_bytes_per_s
    assert found.num_samples == 12
    assert "all_reduce on 2 ranks takes 100 us + size / 2 GB/s" in cost_sentences([found])[0]


@pytest.mark.parametrize(
    ("times_ns", "words"),
    [
        ({1000: [5], 4000: [9]}, "it has 2 sizes (1000 B, 3.906 KiB), a line needs 3"),
        ({1000: [5], 2000: [7], 3000: [9]}, "its sizes differ by a factor of 3 only"),
        ({1000: [900], 2000: [800], 8000: [790]}, "its time does not grow with size"),
        ({1000: [900], 2000: [300], 8000: [1400]}, "noisy: time falls by over 20 %"),
        ({size: [100_000 + size // 2] for size in (10_000, 20_000, 40_000, 400_000)}, "each size was seen once"),
        ({1000: [100, 100, 100], 2000: [150] * 3, 8000: [120, 400, 1500]}, "noisy: its bandwidth may be anything from"),
    ],
)
def test_no_line_without_the_data_for_it(times_ns: dict[int, list[int]], words: str) -> None:
    found = cost(times_ns)
    assert (found.line, found.busbw_bytes_per_s) == (None, None)
    assert words in found.refusal
    assert found.refusal in cost_sentences([found])[0]


def test_one_rank_has_no_cost(tmp_path: Path) -> None:
    events = [one for index in range(4) for one in all_reduce(index * 50, index * 50 + 9 * 2**index, launched_us=index * 50,
              correlation=index, elements=1000 * 4**index)]  # fmt: skip
    path = write_trace(tmp_path / "t.json", [profiler_step(1, 0, 300), *events], header(0, 2))
    trace = reduce_trace(read_trace(path))
    (found,) = trace_costs([], trace.collectives)
    assert "one rank's time holds its waiting; trace every rank" in found.refusal
