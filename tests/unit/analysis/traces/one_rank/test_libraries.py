"""Kernels that communicate are recognised by name, with their operation; a user's rules come first; what is likely is named."""

import os
from operator import attrgetter
from pathlib import Path

import pytest

from commprof.analysis.traces.one_rank.kernel_names.libraries import DEFAULT_TABLE, function_name, kernel_table
from commprof.analysis.traces.one_rank.kernel_names.table import TABLE
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
        ("void nvshmemi_reduce_kernel<float, (rdxn_ops)4>(int)", "all_reduce"),
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
        ("void nccl_ep::internode_ll::dispatch<true, 7168>(void*)", "all_to_all"),
        ("nccl_ep_jit_ht_combine_kernel", "all_to_all"),
        ("void ubx_kernel_a2av_token_bf16_mxfp8<8>(x)", "all_to_all"),
        ("ubx_kernel_barrier(x)", "barrier"),
        ("void ubx_kernel_allreduce_2shot_mc<8>(x)", "all_reduce"),
        ("reshardKernelUserWindow(x)", "unknown"),
        ("void niin_stream_put_signal_kernel<float>(x)", "send_recv"),
        ("void ctran::allgatherp::ncclKernelAllGatherPDirect(int*)", "all_gather"),
        ("void meta::comms::ddaAllReduceFlatIpc<float, 8>(x)", "all_reduce"),
        ("UCC_REDUCE_CUDA_MULTI_DST_SUM", "unknown"),
        ("void nixl_ep::ht::notify_dispatch<false, 2>(x)", "all_to_all"),
        ("void nixl_ep::ep_kernels::combine<true, 7168>(x)", "all_to_all"),
        ("void mooncake::elastic::hybrid_dispatch_impl<8>(x)", "all_to_all"),
        ("void deep_ep::elastic::engram_fetch_impl<8>(x)", "unknown"),
        ("void comms::prims::link_ep::kernels::ll_dispatch_kernel<x>(y)", "all_to_all"),
        ("OneShotBroadcastSdmaSubGroupKernel_u32", "broadcast"),
        ("_ZN4mori5shmem12_static_init15_barrier_kernelEv.kd", "barrier"),
        ("mori_EpDispatchIntraNode_bf16.kd", "all_to_all"),
        ("kernel_dispatch_token_intra_node", "all_to_all"),
        ("void flash_comm::ep::intranode::kernels::kernel_combine_intranode<1>(x)", "all_to_all"),
        ("_forward_push_2d_ll_kernel", "all_gather"),
        ("barrier_all_intra_node_kernel", "barrier"),
        ("void bytedance::flux::a2a_single_kernel<8>(x)", "all_to_all"),
        ("void bytedance::flux::ep_topk_gather_rs_kernel_v2<x>(y)", "reduce_scatter"),
        ("void vllm::cross_device_reduce_scatter<float, 8>(x)", "reduce_scatter"),
        ("void vllm::cross_device_all_gather<8>(x)", "all_gather"),
        ("void vllm::mnnvl_lamport_all_gather<float, 4>(x)", "all_gather"),
        ("void aiter::cross_device_reduce_2stage<std::bfloat16_t, 8, false>(aiter::RankData*", "all_reduce"),
        ("_dcp_a2a_pack_send_kernel.kd", "all_to_all"),
        ("(anonymous namespace)::direct_dcp_q_gather_multimem_kernel(uint4 const*, uint4*,", "all_gather"),
        ("void (anonymous namespace)::wait_lse_combine_kernel<__nv_bfloat16>(__nv_bfloat16 const*", "all_to_all"),
        ("void tensorrt_llm::kernels::mnnvl::rmsNormLamport<2, 8>(x)", "all_reduce"),
        ("void tensorrt_llm::kernels::minimax_ar::minimax_reduce_rms_kernel_lamport<float, 8>(x)", "all_reduce"),
        ("void tensorrt_llm::kernels::lowPrecisionTwoShotAllReduceKernel<8>(x)", "all_reduce"),
        ("tensorrt_llm::kernels::mnnvl::mnnvlAllGatherSplitKernel(x)", "all_gather"),
        ("void store_publish_dedup_fp8_kernel<8>(x)", "all_to_all"),
        ("void turbomind::comm::Broadcast_NVLS_V2<x>(y)", "broadcast"),
        ("void push_pull_halos_1d_kernel<float>(x)", "send_recv"),
        ("c10d::nccl_extension::lsa_put_signal_kernel(void**, void**)", "send_recv"),
        ("c10d::symmetric_memory::nixl_wait_signal_kernel(unsigned int**)", "send_recv"),
        ("mscclKernel_Sum_hip_bfloat16_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)", "unknown"),
        ("ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>) [clone .kd]", "unknown"),
        ("typeinfo name for NoCopyKernel_all_sum<sycl::half>", "all_reduce"),
        ("write_monolithic_kernel_3_bfloat16_sum", "unknown"),
        ("aiv_all_reduce_910b_bfloat16_t", "all_reduce"),
        ("allgatherAicpuKernel", "all_gather"),
        ("hcom_receive__486_1_1", "send_recv"),
        ("hcom_batchSendRecv__101_0_1", "send_recv"),
        ("aiv_allreduce_mesh1d_twoshot_half", "all_reduce"),
        ("aiv_alltoallv_float", "all_to_all"),
        ("aclnnMoeDistributeDispatchV3_MoeDistributeDispatchV2_MoeDistributeDispatchV2", "all_to_all"),
        ("MoeDistributeDispatchV2", "all_to_all"),
        ("std::enable_if<(a<b>)1, void>::type vllm::cross_device_reduce_1stage<float>(x)", "all_reduce"),
        (
            "kernel_cutlass_kernel_vllmmodelskimi_k3nvidiaopscute_dsllatent_moe_tailallreduce_rmsnorm_reduce_scatter_ear",
            "all_reduce",
        ),
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
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, float>>>(x)",
        "void at::native::_scatter_gather_elementwise_kernel<128, 8, at::native::x>(int)",
        "void at::native::vectorized_gather_kernel<16, long>(char*, char*)",
        "void at::native::indexSelectSmallIndex<float, long, unsigned int, 2, 2, -2>(x)",
        "void at::native::sbtopk::gatherTopK<float, unsigned int, 2, false>(x)",
        "void cub::DeviceReduceSingleTileKernel<x>(y)",
        "void cub::detail::reduce::DeviceReduceKernel<x>(y)",
        "void cutlass::reduction::kernel::ReduceSplitK<x>(y)",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float>(x)",
        "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, all_reduce>(x)",
        "(anonymous namespace)::softmax_warp_forward<float, float, float, 10, false, false>(x)",
        "void vllm::moe::topkGatingSoftmax<8, 128>(x)",
        "void moe_permute_kernel<float>(x)",
        "void unpermute_kernel<float>(x)",
        "void turbomind::MoeReduceKernel<x>(y)",
        "void tensorrt_llm::kernels::cutlass_kernels::finalizeMoeRoutingKernel<x>(y)",
        "void flashinfer::trtllm_allreduce::reduce_fusion::rms_norm_kernel<x>(y)",
        "void flashinfer::trtllm_alltoall::moe_prepare::computeCumsumDevice(int*)",
        "void smallReduceKernel<float>(x)",
        "void small_gather_kernel<float>(x)",
        "void WarpAllReduce<float>(x)",
        "void subgroup_allreduce_sum<float>(x)",
        "kn_mla_reduce_v1",
        "__amd_rocclr_copyBuffer.kd",
        "triton_red_fused_all_reduce_mean_0",
        "void (anonymous namespace)::elementwise_kernel_with_index<int, x>(y)",
        "void nv::topk::radix_kernel<x>(y)",
        "void deep_ep::elastic::combine_reduce_epilogue_impl<8>(x)",
        "Cijk_Alik_Bljk_BBS_BH_Bias_MT128x64x32_allreduce_WG64_4_1",
        "nvjet_sm90_tst_128x64_splitK_TNT_reduce_scatter",
        "void at::native::broadcast_allreduce_kernel<float>(x)",
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
    assert function_name("std::enable_if<(a > b), void>::type n::h<int>(x)") == "n::h"
    assert function_name("unsigned long k(") == "k"
    assert function_name("n::dispatch.kd") == "n::dispatch"
    assert function_name("a<b") == "a"
    assert function_name("") == ""
    assert function_name("<" * 100_000) == ""


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
