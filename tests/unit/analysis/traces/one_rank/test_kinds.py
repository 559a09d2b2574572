"""Kernels by kind, launch idle by what the host did, queue depth, graphs: from traces worked out on paper."""

from pathlib import Path

import pytest

from commprof.analysis.traces.all_ranks.kernel_kinds import summarise_kinds, summarise_launching
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import RankTrace, reduce_trace
from commprof.analysis.traces.one_rank.work.kinds import kind_of
from tests.traces import Json, all_reduce, event, kernel, profiler_step, write_trace


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas", "gemm"),
        ("volta_sgemm_128x32_nt", "gemm"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_TNN", "gemm"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT128x192x64", "gemm"),
        ("void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_256x64>(x)", "gemm"),
        ("triton_tem_fused_mm_3", "gemm"),
        ("void pytorch_flash::flash_fwd_kernel<x>(y)", "attention"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(x)", "attention"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)", "elementwise"),
        ("void at::native::multi_tensor_apply_kernel<x, FusedAdamMathFunctor<float>>(y)", "elementwise"),
        ("triton_poi_fused_add_mul_softmax_2", "elementwise"),
        ("triton_red_fused__to_copy_add_mean_mul_1", "reduction"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(x)", "reduction"),
        ("void (anonymous namespace)::softmax_warp_forward<float>(x)", "reduction"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float>(x)", "memory"),
        ("void at::native::indexSelectLargeIndex<float>(x)", "memory"),
        ("void split_embedding_codegen_forward_unweighted_kernel<c10::Half>(x)", "memory"),
        ("my_kernel", "other"),
    ],
)
def test_a_kernel_s_name_tells_its_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def reduced(path: Path, events: list[Json]) -> RankTrace:
    return reduce_trace(read_trace(write_trace(path / "0.json", events)))


def test_kinds_add_up_to_the_gpu_s_time(tmp_path: Path) -> None:
    events: list[Json] = []
    for step in range(3):
        at, number = 100 * step, 10 * step
        events += [profiler_step(step, at, at + 100), *kernel("sgemm", at, at + 40, launched_us=at, correlation=number + 1)]
        events += all_reduce(at + 20, at + 50, launched_us=at, correlation=number + 2)
        events += [
            event("cuda_runtime", "cudaMemcpyAsync", at, at + 1, correlation=number + 3),
            event("gpu_memcpy", "Memcpy HtoD", at + 50, at + 60, stream=7, correlation=number + 3),
        ]
    found = {own.kind: own for own in summarise_kinds({0: reduced(tmp_path, events)})}
    assert {kind: own.total_s for kind, own in found.items()} == pytest.approx(
        {"gemm": 40e-6, "communication": 30e-6, "memory": 10e-6}
    )
    assert {kind: own.count for kind, own in found.items()} == dict.fromkeys(found, 1)
    assert sum(own.share for own in found.values()) == pytest.approx(1)


def test_launch_idle_falls_apart_by_what_the_host_did(tmp_path: Path) -> None:
    """Gaps of 10 us each: the host loads data, had waited for the GPU, or is only late."""
    events = [profiler_step(1, 0, 200), *kernel("a", 2, 10, launched_us=0, correlation=1)]
    events += [event("user_annotation", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 8, 18)]
    events += kernel("b", 20, 30, launched_us=19, correlation=2)
    events += [event("cuda_runtime", "cudaStreamSynchronize", 25, 31, correlation=90)]
    events += kernel("c", 40, 50, launched_us=39, correlation=3)
    events += kernel("d", 60, 70, launched_us=59, correlation=4)
    trace = reduced(tmp_path, events)
    found = summarise_launching({0: trace})
    assert found is not None
    assert found.idle_s == pytest.approx({"data_loading": 8e-6, "synchronisation": 10e-6, "host_busy": 12e-6})
    assert found.graphed_share == 0


def test_queue_depth_is_what_waits_in_the_mean_and_graphs_are_counted_apart(tmp_path: Path) -> None:
    """In a window of 100 us two events wait 50 us and 30 us: 0.8 wait in the mean."""
    events = [profiler_step(1, 0, 200), *kernel("a", 10, 60, launched_us=10, correlation=1)]
    events += kernel("b", 60, 100, launched_us=10, correlation=2) + kernel("c", 100, 110, launched_us=70, correlation=3)
    events += [event("cuda_runtime", "cudaGraphLaunch", 20, 21, correlation=4)]
    events += [event("kernel", "d", 105, 110, stream=9, correlation=4)]
    found = summarise_launching({0: reduced(tmp_path, events)})
    assert found is not None
    assert found.queue_depth == pytest.approx(0.8)
    assert found.graphed_share == pytest.approx(0.25)


def test_without_gpu_work_there_is_nothing_to_tell(tmp_path: Path) -> None:
    trace = reduced(tmp_path, [profiler_step(1, 0, 10), event("cpu_op", "aten::mm", 1, 2)])
    assert summarise_launching({0: trace}) is None
    assert summarise_kinds({0: trace}) == []


def test_without_a_launch_call_nothing_tells_the_queue(tmp_path: Path) -> None:
    trace = reduced(tmp_path, [profiler_step(1, 0, 10), event("kernel", "a", 1, 2, stream=7)])
    found = summarise_launching({0: trace})
    assert found is not None
    assert found.queue_depth is None
