"""Collectives over ranks: recognised, matched, clocks aligned, stragglers named only where there is evidence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commprof.analysis.traces.all_ranks.job import TraceAnalysis, analyse_traces
from commprof.analysis.traces.all_ranks.matched.clocks import align_clocks
from commprof.analysis.traces.all_ranks.matched.matching import MatchedCollective, match_collectives
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.columns import Details
from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE
from commprof.analysis.traces.one_rank.kernels import message_bytes
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from tests.traces import event, gloo_all_reduce, header, kernel, profiler_step, write_trace

ONE = Collective(
    op="all_reduce",
    start_ns=0,
    end_ns=10,
    step=1,
    message_bytes=4000,
    dtype="Float",
    group="0 [0, 1]",
    group_ranks=(0, 1),
    group_size=2,
    sequence=None,
)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)", "all_reduce"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "reduce_scatter"),
        ("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_gather"),
        ("ncclDevKernel_Broadcast_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "broadcast"),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "unknown"),
        ("ncclSymDevKernel_AllReduce_RSxLDMC_AGxSTMC_sum_f32(ncclSymDevArgs)", "all_reduce"),
        ("ncclSymkDevKernel_AllGather_LLMC(ncclSymkDevWorkArgs4K)", "all_gather"),
        ("ncclSymkDevKernel_ReduceScatter_LDMC_sum_bf16(ncclSymkDevWorkArgs4K)", "reduce_scatter"),
        ("void deep_ep::internode_ll::dispatch<true, 3, 10, 7168>(void*)", "all_to_all"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 4>(vllm::RankData*)", "all_reduce"),
        ("void multimem_all_reduce_kernel<c10::BFloat16, 16>(long)", "all_reduce"),
    ],
)
def test_kernels_that_communicate(name: str, op: str) -> None:
    assert DEFAULT_TABLE.find(name) is not None
    assert DEFAULT_TABLE.operation(name) == op


@pytest.mark.parametrize(
    "name",
    [
        "void at::native::batch_norm_backward_kernel<float>(SyncBatchNorm)",
        "void at::native::reduce_kernel<512, 1>(at::native::ReduceOp<float>)",
        "_scatter_gather_elementwise_kernel",
        "hipLaunchHostFunc",
        "triton_red_fused_all_reduce_like_0",
    ],
)
def test_kernels_that_compute(name: str) -> None:
    assert DEFAULT_TABLE.find(name) is None


def test_sizes_are_nccl_tests_sizes() -> None:
    gathered = Details(in_elements=10, out_elements=80, dtype="BFloat16")
    assert message_bytes("all_gather", gathered) == 160
    assert message_bytes("all_reduce", Details(input_shapes=[[3, 5], []], input_types=["c10::Half", "long int"])) == 38
    for shapes, types in (
        ([[2]], ["void"]),
        ([[-1]], ["float"]),
        ("[[2]]", "float"),
        ([[2], [3]], ["float"]),
        ([[[2]]], ["float"]),
    ):
        assert message_bytes("all_reduce", Details(input_shapes=shapes, input_types=types)) is None
    assert message_bytes("all_gather", Details(input_shapes=[[3]], input_types=["float"])) is None


def test_a_kernel_without_metadata_takes_them_from_the_call_around_its_launch(tmp_path: Path) -> None:
    around = {"Collective name": "_allgather_base", "In msg nelems": 5, "Out msg nelems": 10, "dtype": "Half", "Seq": 4}
    events = [
        profiler_step(1, 0, 100),
        event("cpu_op", "record_param_comms", 10, 30, **around),
        event("user_annotation", "nccl:_all_gather_base", 12, 28),
        *kernel("ncclDevKernel_Generic_4(x)", 40, 50, launched_us=20, correlation=1),
        *kernel("ncclDevKernel_Generic_4(x)", 60, 70, launched_us=35, correlation=2),
    ]
    known, unknown = reduce_trace(read_trace(write_trace(tmp_path / "t.json", events))).collectives
    assert (known.op, known.message_bytes, known.dtype, known.sequence) == ("all_gather", 20, "Half", 4)
    assert (unknown.op, unknown.message_bytes) == ("unknown", None)


def test_sequence_numbers_find_the_partner_where_order_would_not() -> None:
    first = [replace(ONE, sequence=number, start_ns=number) for number in (5, 6, 7)]
    second = [replace(ONE, sequence=number, start_ns=number) for number in (6, 7, 8)]
    matching = match_collectives({0: first, 1: second}, 2)
    assert [one.first.sequence for one in matching.matched] == [6, 7]
    assert matching.num_by_sequence == 2
    assert [(own.count, own.reason) for own in matching.unmatched] == [(2, "not as many of its kind on every rank")]


def test_by_order_only_where_the_ranks_agree_on_a_step() -> None:
    large = replace(ONE, message_bytes=8000)
    first = [ONE, large, replace(ONE, start_ns=5), replace(ONE, step=2), replace(ONE, step=-1)]
    second = [large, ONE, replace(ONE, start_ns=5), replace(ONE, step=2), replace(ONE, step=2)]
    matching = match_collectives({0: first, 1: second}, 2)
    assert [(one.first.step, one.first.message_bytes, one.first.start_ns) for one in matching.matched] == [
        (1, 4000, 0),
        (1, 8000, 0),
        (1, 4000, 5),
    ]
    assert {(own.count, own.reason) for own in matching.unmatched} == {
        (3, "not as many of its kind on every rank"),
        (1, "launched in no recorded step"),
    }


@pytest.mark.parametrize(("smaller", "num_matched"), [(1, 0), (2, 1), ("many", 1), (None, 1)])
def test_what_names_no_group_is_of_all_ranks_only_if_every_group_is(tmp_path: Path, smaller: object, num_matched: int) -> None:
    """Ranks that each reduce within a group of their own look like one collective of all of them."""
    groups = [{"pg_name": "0", "pg_size": 2}, {"pg_name": "8c65", "pg_size": smaller}, "hostile"]
    traces = [
        reduce_trace(
            read_trace(
                write_trace(
                    tmp_path / f"{rank}.json",
                    [profiler_step(1, 0, 100), gloo_all_reduce(10, 20)],
                    {"distributedInfo": {"rank": rank, "world_size": 2, "pg_config": groups}},
                )
            )
        )
        for rank in range(2)
    ]
    analysis = analyse_traces(traces)
    assert len(analysis.matching.matched) == num_matched
    assert [own.num_ranks for own in analysis.collectives] == [2 if num_matched else 1]
    assert (analysis.collectives[0].busbw_bytes_per_s is None) == (num_matched == 0)


@pytest.mark.parametrize(("sizes", "told_bytes"), [((2, 2), 8000), ((2, 1), None), ((2, None), None), ((), None), ((0,), None)])
def test_gloo_tells_a_ranks_share_of_a_gather_which_groups_of_one_size_make_whole(
    tmp_path: Path, sizes: tuple[int | None, ...], told_bytes: int | None
) -> None:
    gather = gloo_all_reduce(10, 20, elements=1000) | {"name": "gloo:all_gather"}
    groups = [{"pg_name": str(number), "pg_size": size} for number, size in enumerate(sizes)]
    about = {"distributedInfo": {"rank": 0, "world_size": 2, "pg_config": groups}}
    trace = reduce_trace(read_trace(write_trace(tmp_path / "t.json", [profiler_step(1, 0, 100), gather], about)))
    assert [(own.op, own.message_bytes) for own in trace.collectives] == [("all_gather", told_bytes)]


def test_clocks_of_hosts_are_found_from_ends_in_spite_of_outliers() -> None:
    """Rank 1 runs 3 s and 50 parts in a million fast; rank 2 shares collectives with rank 1 alone; ends differ by 5 us."""
    noise = np.random.default_rng(0).integers(-5000, 5000, (60, 3))
    noise[::9, 1] += 2_000_000

    def fast(time: int) -> int:
        return time + 3_000_000_000 + round(time * 50e-6)

    matched = []
    for index in range(60):
        time = index * 10_000_000
        parts = {0: time, 1: fast(time)} if index % 2 else {1: fast(time), 2: time - 7_000_000}
        ends = {rank: end + int(noise[index, rank]) for rank, end in parts.items()}
        own = {rank: replace(ONE, start_ns=end - 1_000_000, end_ns=end) for rank, end in ends.items()}
        matched.append(MatchedCollective(parts=own, num_expected=2, by_sequence=True))
    clocks = align_clocks({0: "a", 1: "b", 2: None, 3: "d"}, matched)
    for time in (0, 300_000_000, 600_000_000):
        assert clocks[1].to_reference(fast(time)) == pytest.approx(time, abs=10_000)
        assert clocks[1].from_reference(time) == pytest.approx(fast(time), abs=10_000)
        assert clocks[2].to_reference(time - 7_000_000) == pytest.approx(time, abs=15_000)
    assert clocks[1].residual_ns < 10_000
    assert (clocks[3].num_ends, clocks[3].corrected) == (0, False)


@pytest.mark.parametrize(
    ("hosts", "offset_ns", "corrected"),
    [(("a", "a"), 9000, False), ((None, None), 900, False), ((None, "a"), 9000, True), (("a", "b"), 900, True)],
)
def test_a_clock_is_corrected_only_where_it_can_differ(
    hosts: tuple[str | None, str | None], offset_ns: int, corrected: bool
) -> None:
    """Collectives last 1000 ns: an offset of 9000 ns would end them before they begin, one of 900 ns may be none at all."""
    matched = [
        MatchedCollective(
            parts={rank: replace(ONE, start_ns=at + rank * offset_ns, end_ns=at + 1000 + rank * offset_ns) for rank in (0, 1)},
            num_expected=2,
            by_sequence=True,
        )
        for at in range(0, 100_000, 10_000)
    ]
    clock = align_clocks(dict(enumerate(hosts)), matched)[1]
    assert clock.corrected == corrected
    assert (clock.offset_ns, clock.residual_ns) == ((offset_ns, 0) if corrected else (0, offset_ns))


def gloo_traces(folder: Path, delays_us: Sequence[Sequence[float]]) -> TraceAnalysis:
    """Ranks that compute 100 us a step, sleep `delays_us[step][rank]`, and all-reduce until 50 us after all are there."""
    num_ranks = len(delays_us[0])
    traces = []
    for rank in range(num_ranks):
        events = []
        for step, delays in enumerate(delays_us):
            base = 10_000 * step
            arrival, end = base + 100 + delays[rank], base + 150 + max(delays)
            events += [
                profiler_step(step, base, end),
                event("cpu_op", "aten::mm", base, base + 100),
                gloo_all_reduce(arrival, end),
            ]
        path = write_trace(folder / f"rank{rank}.json", events, header(rank, num_ranks, host_name="a"))
        traces.append(reduce_trace(read_trace(path)))
    return analyse_traces(traces)


def test_a_constant_straggler_is_named_with_what_it_costs_and_why(tmp_path: Path) -> None:
    found = gloo_traces(tmp_path, [*[[0, 30, 0], [5, 30, 0]] * 4, [0, 0, 30]]).stragglers
    assert (found.kind, found.rank, found.num_steps) == ("constant", 1, 8)
    assert found.cost_s == pytest.approx(28.75e-6, rel=0.05)
    assert "it arrived last in 8 of 9 steps" in found.message
    assert "30 us more time outside operators" in found.message


@pytest.mark.parametrize(
    ("delays_us", "kind"),
    [
        ([[30, 0, 0], [0, 30, 0], [0, 0, 30]] * 2, "changing"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], "none"),
        ([[0, 30, 0], [0, 30, 0]], "unknown"),
    ],
)
def test_no_straggler_without_evidence(tmp_path: Path, delays_us: list[list[float]], kind: str) -> None:
    assert gloo_traces(tmp_path, delays_us).stragglers.kind == kind
