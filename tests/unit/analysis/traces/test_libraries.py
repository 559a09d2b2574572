"""Kernels that communicate are recognised by name, with their operation; a user's rules come first; what is likely is named."""

import os
from operator import attrgetter
from pathlib import Path

import pytest

from commprof.analysis.traces.one_rank.libraries import DEFAULT_TABLE, TABLE, function_name, kernel_table
from commprof.commbench.errors import BadInput


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("ncclSymDevKernel_AllReduce_RSxLDMC_AGxSTMC_sum_bf16(ncclSymDevArgs)", "all_reduce"),
        ("ncclSymkDevKernel_AllReduce_AGxLL_R_sum_f32(ncclSymkDevWorkArgs4K)", "all_reduce"),
        ("ncclSymkDevKernel_ReduceScatter_LL_sum_f8e4m3(ncclSymkDevWorkArgs4K)", "reduce_scatter"),
        ("ncclSymkDevKernel_AllGather_LLMC(ncclSymkDevWorkArgs4K)", "all_gather"),
        ("ncclAllReduceRingLLKernel_sum_f32(ncclColl)", "all_reduce"),
        ("ncclBroadcastRingKernel_copy_i8(ncclColl)", "broadcast"),
        ("ncclAnythingAtAll(x)", "unknown"),
        ("void dpsk::ep::internode::dispatch<false, 8, false, 8>(int4*, float*)", "all_to_all"),
        ("void dpsk::ep::internode::cached_notify<true>(int)", "all_to_all"),
        ("void deep_ep::internode_ll::combine<true, 9, 7168>(void*)", "all_to_all"),
        ("void deep_ep::intranode::notify_dispatch<8>(int const*)", "all_to_all"),
        ("deep_ep::intranode::barrier<8>(int**, int)", "barrier"),
        ("void deep_ep::elastic::hybrid_combine_impl<4>(x)", "all_to_all"),
        ("void uccl::intranode::combine<__nv_bfloat16, 8, 768>(x)", "all_to_all"),
        ("void hybrid_ep::dispatch_kernel<8, x>(y)", "all_to_all"),
        ("void flashinfer::trtllm_mnnvl_allreduce::twoshot_allreduce_kernel<8, float>(x)", "all_reduce"),
        ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<1, 2>(x)", "all_reduce"),
        ("void tensorrt_llm::kernels::mnnvl::oneshotAllreduceFusionKernel<8>(x)", "all_reduce"),
        ("void tensorrt_llm::kernels::twoShotAllReduceKernel<__half, 8, true>(x)", "all_reduce"),
        ("void tensorrt_llm::kernels::moe_comm::moeA2ADispatchKernel<1>(x)", "all_to_all"),
        ("void nvshmemi_alltoall_kernel(x)", "all_to_all"),
        ("void rdxn_on_stream_kernel<float, 0>(int)", "all_reduce"),
        ("void fcollect_on_stream_kernel<float>(int)", "all_gather"),
        ("void alltoall_on_stream_kernel<long>(int)", "all_to_all"),
        ("void pplx::dispatchKernel<8>(x)", "all_to_all"),
        ("void (anonymous namespace)::combineKernel<10, true, false>(x)", "all_to_all"),
        ("void a2a_dispatch_send_kernel<true, 16>(x)", "all_to_all"),
        ("void mori::moe::EpDispatchIntraNodeKernel<hip_bfloat16>(x)", "all_to_all"),
        ("EpCombineLowLatencyAsyncSendCopy_bf16(x)", "all_to_all"),
        ("void mori::collective::OneShotAll2allSdmaKernel<1>(x)", "all_to_all"),
        ("void mori::collective::ReduceScatterAllGatherFusedKernel<1>(x)", "all_reduce"),
        ("void quickreduce::allreduce_prototype_twoshot<AllReduceTwoshot<__half>, __half>(x)", "all_reduce"),
        ("void (anonymous namespace)::all_reduce_one_shot_push_kernel<__half, 4u, true>(x)", "all_reduce"),
        ("void sglang::cross_device_reduce_2stage<__half, 8>(x)", "all_reduce"),
        ("void aiter::reduce_scatter_cross_device_store<float>(x)", "reduce_scatter"),
        ("void userbuffers_fp16_sum_inplace_gpu_rr_ag<8>(x)", "all_gather"),
        ("void userbuffers_fp16_sum_inplace_gpu_rr_rs_oop_fp8<8>(x)", "reduce_scatter"),
        ("void userbuffers_fp16_sum_inplace_gpu_mc<8>(x)", "all_reduce"),
        ("kuserbuffers_pushsend(int*, int*, int4*, int4*, int)", "send_recv"),
        ("void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(x)", "all_reduce"),
        ("void c10d::symmetric_memory::two_shot_all_reduce_kernel_inplace<float, 8>(x)", "all_reduce"),
        ("void c10d::nvshmem_extension::allToAllV_2d(x)", "all_to_all"),
        ("ccl_allreduce_kernel<sycl>", "all_reduce"),
        ("oneccl_allreduce_pcie<Rt64_128_PCIE>", "all_reduce"),
        ("typeinfo name for AllgatherMediumKernel_read_write<float>", "all_gather"),
        ("oneccl_reduce_base<float, 2, 16, 1, 1, 2>", "unknown"),
        ("hcom_allReduce__503_0_1", "all_reduce"),
        ("void mscclpp::collective::allreduceAllPairs<float>(x)", "all_reduce"),
        ("_ZN7deep_ep9intranode8dispatchILi8ELi768ELi8192EEEvP4int4Pf", "all_to_all"),
        ("_ZN12_GLOBAL__N_114dispatchKernelILj4EEEvv", "all_to_all"),
        ("_Z41ncclDevKernel_AllReduce_Sum_f32_RING_LL24ncclDevKernelArgsStorageILm4096EE", "all_reduce"),
        ("mcclDevKernel_SendRecv(x)", "send_recv"),
        ("HcclBroadcast", "broadcast"),
        ("cnclReduceScatter", "reduce_scatter"),
        ("void somebody::else_s::fused_allgather_gemm_kernel<float>(x)", "all_gather"),
    ],
)
def test_every_library_s_kernels_communicate(name: str, op: str) -> None:
    assert DEFAULT_TABLE.find(name) is not None
    assert DEFAULT_TABLE.operation(name) == op


@pytest.mark.parametrize(
    "name",
    [
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)",
        "void cutlass::Kernel2<cutlass_80_tensorop_all_reduce_epilogue>(x)",
        "triton_poi_fused_all_gather_into_tensor_wait_tensor_3",
        "void blockAllReduceSum<float>(x)",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
        "void deep_ep::layout::get_dispatch_layout<256, 32, 4>(x)",
        "void at::native::(anonymous namespace)::dispatch_index_kernel<float>(x)",
        "void flashinfer::BatchDecodeWithPagedKVCacheKernel<1>(x)",
        "adam_kernel",
        "_ZN7cutlass7Kernel2I39cutlass_80_tensorop_all_reduce_epilogueEEvT_",
        "_Z99999999999999999999",
        "void accl_elementwise<float>(x)",
        "void occlusion_kernel(x)",
    ],
)
def test_kernels_that_compute_do_not(name: str) -> None:
    assert DEFAULT_TABLE.find(name) is None


def test_what_only_may_communicate_is_likely_and_no_more() -> None:
    assert DEFAULT_TABLE.is_likely("void vendor::moe_dispatch_tokens<4>(x)")
    assert DEFAULT_TABLE.find("void vendor::moe_dispatch_tokens<4>(x)") is None
    for name in (
        "ncclDevKernel_Generic(x)",
        "gemm_kernel",
        "void at::native::send_kernel(x)",
        "flash::flash_fwd_splitkv_combine_kernel<x>",
    ):
        assert not DEFAULT_TABLE.is_likely(name)


def test_a_name_is_without_type_parameters_and_template() -> None:
    assert function_name("void (anonymous namespace)::f<a<b>, (c)1>(d<e>)") == "f"
    assert function_name("typeinfo name for X<y>") == "X"
    assert function_name("void <unnamed>::g(int)") == "g"


def test_every_rule_has_a_source() -> None:
    assert all(all(attrgetter("library", "source")(rule)) for rule in TABLE)


def test_a_user_s_rules_come_first(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("pattern,operation,library,source\nvendor::.*tokens,all_to_all,Vendor,its manual\n^gemm_,none,,\n")
    table = kernel_table(["ncclDevKernel_Generic=broadcast", "a=b=barrier"], [path])
    assert table.operation("void vendor::moe_dispatch_tokens<4>(x)") == "all_to_all"
    assert table.operation("ncclDevKernel_Generic(x)") == "broadcast"
    assert table.operation("a=b") == "barrier"
    assert table.find("gemm_all_reduce_kernel(x)") is None
    assert not table.is_likely("gemm_dispatch(x)")
    assert table.find("ncclDevKernel_AllReduce(x)") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_operation", "give PATTERN=OPERATION"),
        ("x=all_the_things", "no operation all_the_things; one of all_reduce"),
        ("(=barrier", "no regular expression"),
        ("=barrier", "1 to 500 characters"),
        ("y" * 501 + "=barrier", "1 to 500 characters"),
    ],
)
def test_a_broken_rule_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        kernel_table([text], [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with the line pattern,operation,library,source"),
        ("pattern,operation,library,source\nx,barrier\n", "line 2 has 2 fields instead of 4"),
        ("pattern,operation,library,source\n(,barrier,,\n", "line 2: the pattern is no regular expression"),
        ("x" * (2**20 + 1), "larger than 1048576 bytes; this is not a table of kernels"),
    ],
)
def test_a_broken_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        kernel_table([], [path])


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("none.csv", "pipe.csv"):
        with pytest.raises(BadInput, match=rf"cannot read .*{name}"):
            kernel_table([], [tmp_path / name])
