"""Which kernels do libraries of communication launch? A table: pattern, operation, library, source. The first that fits counts.

A pattern is searched in the function's own name with its namespaces, without parameters, template arguments and return type:
what a GEMM carries in its template says nothing of it. An operation of "" stands in the name itself. A source is where the
names were read: the repository and the files that define the kernels; `profiles` where only names in traces were seen.

What a library runs beside its exchanges and on this GPU alone (layouts, routing maps, casts, the copy behind a dispatch) is not
here: it computes.
"""

import re
from dataclasses import dataclass

UNKNOWN_OP = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRule:
    """How kernels of a library that communicate are recognised, and which collective they are ("": the name tells)."""

    pattern: re.Pattern[str]
    operation: str
    library: str
    source: str


def _rules(library: str, source: str, *patterns: tuple[str, str]) -> tuple[KernelRule, ...]:
    return tuple(
        KernelRule(pattern=re.compile(pattern), operation=operation, library=library, source=source)
        for pattern, operation in patterns
    )


_TORCH = _rules(
    "torch symmetric memory",
    "pytorch/pytorch torch/csrc/distributed/c10d/symm_mem: *.cu, ops/*.cu",
    (r"\b(?:exchangeSplitAndOffset|allToAll(?:V|Get))", "all_to_all"),
    (r"\b(?:one|two)_shot_\w*kernel|\bmultimem_\w*kernel", ""),
    (r"(?:^|::)barrier_kernel$", "barrier"),
    (r"(?:^|::)(?:put|wait)_signal_kernel$", "send_recv"),
    (r"\blsa_(?:put|get)(?:_signal)?_kernel|\bnixl_wait_\w*kernel", "send_recv"),
)

_NCCL = (
    *_rules(
        "NCCL EP",
        "NVIDIA/nccl contrib/nccl_ep/device: low_latency.cu, jit/*_jit.cuh",
        (r"\bnccl_ep(?:::\w+)*(?:::|_jit_(?:\w+_)?)(?:dispatch|combine)", "all_to_all"),
    ),
    *_rules(
        "NCCL, RCCL, NCCLX",
        "NVIDIA/nccl src/device: common.h, symmetric/generate.py; ROCm/rccl src/device; "
        "meta-pytorch/torchcomms comms/ctran/algos",
        (r"^(?:\w+::)*[nr]ccl", ""),
    ),
    *_rules(
        "NCCL, contributed",
        "NVIDIA/nccl contrib/nccl_ubx/csrc/ubx.cu, contrib/nccl_m2n/src; torchcomms comms/ncclx contrib/niin, contrib/pace",
        (r"\bubx_kernel_(?:a2a|combine|alltoall)", "all_to_all"),
        (r"\bubx_kernel_(?:allgather|allreduce|barrier)", ""),
        (r"\b(?:directR|r)eshardKernelUserWindow", UNKNOWN_OP),
        (r"\bniin_stream_\w+_kernel", "send_recv"),
        (r"\bpace::scattergather", UNKNOWN_OP),
    ),
    *_rules("MSCCL", "ROCm/rccl src/include/msccl/msccl_kernel.h", (r"^(?:\w+::)*msccl_?[kK]ernel", UNKNOWN_OP)),
    *_rules("MSCCL++", "microsoft/mscclpp src/core/include/execution_kernel.hpp, src/ext/collectives", (r"\bmscclpp::", "")),
    *_rules(
        "UCC",
        "openucx/ucc src/components/ec/*/kernel: the sums inside its collectives",
        (r"\bUCC_REDUCE_(?:CUDA|ROCM)_", UNKNOWN_OP),
    ),
)

_EXPERTS = (
    *_rules(
        "DeepEP, its forks, UCCL, NIXL EP, Mooncake EP",
        "deepseek-ai/DeepEP csrc/kernels, deep_ep/include/deep_ep/impls; uccl-project/uccl ep/src; "
        "ai-dynamo/nixl examples/device/ep; kvcache-ai/Mooncake mooncake-ep",
        (r"\b(?:intra|inter)node(?:_ll)?(?:_\w+)?::(?:dispatch|combine|notify|cached_notify)", "all_to_all"),
        (r"\b(?:intra|inter)node(?:_ll)?::(?:barrier|clean_low_latency_buffer)", "barrier"),
        (r"\b(?:deep_ep|mooncake)::(?:\w+::)*(?:hybrid_)?(?:dispatch|combine)(?:_impl)?$", "all_to_all"),
        (r"\bnixl_ep::(?:\w+::)*(?:dispatch|combine|notify|cached_notify)", "all_to_all"),
        (r"\bnixl_ep::(?:\w+::)*barrier", "barrier"),
        (r"\bdeep_ep::(?:\w+::)*(?:cached_)?notify", "all_to_all"),
        (r"\bdeep_ep::(?:\w+::)*barrier", "barrier"),
        (r"\bdeep_ep::(?:\w+::)*pp_(?:send|recv)_impl", "send_recv"),
        (r"\bdeep_ep::(?:\w+::)*engram_fetch", UNKNOWN_OP),
        (r"\bhybrid_ep::(?:dispatch|combine)_kernel", "all_to_all"),
        (r"\bep::(?:\w+::)*(?:dispatch|combine)$", "all_to_all"),
    ),
    *_rules(
        "torchcomms",
        "meta-pytorch/torchcomms comms/prims/collectives",
        (r"\blink_ep::(?:\w+::)*(?:\w+_)?(?:dispatch|combine)_kernel", "all_to_all"),
        (r"\bprims::ib::send_recv_kernel", "send_recv"),
    ),
    *_rules(
        "pplx-kernels, pplx-garden",
        "perplexityai/pplx-kernels csrc/all_to_all/*.cu; perplexityai/pplx-garden p2p-all-to-all",
        (r"(?:^|::)(?:dispatch|combine)Kernel$", "all_to_all"),
        (r"\ba2a_(?:dispatch|combine)_(?:send|recv)_kernel", "all_to_all"),
    ),
    *_rules(
        "MORI",
        "ROCm/mori src/ops/dispatch_combine, src/ops/kernels, src/collective/kernels, src/io/kernels, include/mori/shmem",
        (r"(?:^|::|\bmori_)Ep(?:Dispatch|Combine)(?!Handle)", "all_to_all"),
        (r"\bReduceScatterAllGatherFusedKernel", "all_reduce"),
        (r"\bOneShotBroadcast\w*Kernel", "broadcast"),
        (r"\bFusedRing(?:Local|Remote)GatherKernel", "all_gather"),
        (r"\bmori_shmem_barrier|\bmori::shmem::(?:\w+::)*\w*_barrier\w*_kernel|\bShmemBarrier", "barrier"),
        (r"\b(?:fabricCopy|scatterGatherCopy)Kernel", "send_recv"),
    ),
    *_rules(
        "Triton-distributed",
        "ByteDance-Seed/Triton-distributed FlashComm/csrc/ep/kernels, python/triton_dist/kernels",
        (r"\bkernel_(?:dispatch|combine)_(?:intranode$|token)", "all_to_all"),
        (r"\bkernel_(?:pre|post)_attn_(?:qkv_pack_)?a2a", "all_to_all"),
        (r"\b_forward_(?:pull|push_(?:numa_)?\dd)(?:_\w+)?_kernel", "all_gather"),
        (r"\b(?:kernel_)?(?:copy_and_)?barrier_all_(?:\w+_)?(?:kernel|on_stream)", "barrier"),
        (r"\bp2p_(?:put_kernel|copy_(?:remote_to_local_)?kernel|(?:set|wait)_signal)", "send_recv"),
    ),
    *_rules(
        "Flux",
        "bytedance/flux src/coll, src/cuda/cudaipc_barrier_all.cu, src/gemm_a2a_transpose, src/gemm_rs, src/moe_gather_rs",
        (r"\bflux::ag_a2a_mode", "all_gather"),
        (r"\bflux::\w*a2a|\bflux::dis_scatter_(?:pre_comm|(?:forward|backward)_(?!build))", "all_to_all"),
        (r"\bflux::CudaIpcBarrierAll", "barrier"),
        (r"\bflux::\w*topk_gather_rs|\bflux::packed_ring_reduction", "reduce_scatter"),
    ),
)

_INFERENCE = (
    *_rules(
        "vLLM, SGLang, aiter, FlashInfer (cross device)",
        "vllm-project/vllm csrc/custom_all_reduce.cuh, custom_all_gather_reduce_scatter.cuh; "
        "ROCm/aiter csrc/include/custom_all_reduce*.cuh; "
        "sgl-project/sglang sgl-kernel/csrc/allreduce; flashinfer include/flashinfer/comm",
        (r"\bcross_device_reduce(?!_?scatter)", "all_reduce"),
        (r"\bcross_device_", ""),
        (r"\breduce_scatter_(?:cross_device_store|split)|\brs_gfx\d+_", "reduce_scatter"),
        (r"\ballgather_(?:naive|vec|lastdim)|\bag_gfx\d+_", "all_gather"),
        (r"\bar_(?:ll_)?gfx\d+", "all_reduce"),
    ),
    *_rules(
        "vLLM, SGLang (decode context parallel)",
        "vllm-project/vllm csrc/libtorch_stable/attention: dcp_direct_*.cu; _dcp_a2a_*, dispatch_output_lse: profiles",
        (r"\b_?dcp_a2a_|\b(?:wait_lse_combine|dispatch_output_lse)_kernel", "all_to_all"),
        (r"\b(?:direct_)?dcp_\w*gather", "all_gather"),
        (r"\bdirect_dcp::", UNKNOWN_OP),
    ),
    *_rules(
        "quickreduce",
        "mk1-project/quickreduce csrc; ROCm/aiter csrc/include/quick_all_reduce.cuh",
        (r"\bquickreduce::|\ballreduce_(?:\w+_)?prototype", "all_reduce"),
    ),
    *_rules(
        "TensorRT-LLM, FlashInfer",
        "flashinfer include/flashinfer/comm/*.cuh, csrc/nv_internal/tensorrt_llm/kernels; NVIDIA/TensorRT-LLM "
        "cpp/tensorrt_llm/kernels/communicationKernels: MiniMaxReduceRMSKernel.cu, kimiK3MoeTailFusion.cu",
        (r"\bmoeA2A\w*(?:Dispatch|Combine)Kernel|\bmoeAllToAllKernel|\bulysses_a2a_kernel", "all_to_all"),
        (r"\bipc_(?:topo_)?rsag|\bpush_oneshot_param_kernel|\bipc_tp2_remote_push_kernel", "all_reduce"),
        (
            r"\brmsNormLamport|\bminimax_reduce_\w*lamport|\bkimi_k3_moe_tail_kernel",
            "all_reduce",
        ),  # they wait for others' parts
        (r"\bkimi_k3_stripe_ag", "all_gather"),
    ),
    *_rules(
        "FlashInfer, experts by push",
        "flashinfer flashinfer/moe_ep/kernel_src/sm90/push_style_megamoe/src/a2a/sm90_push_a2a_ops.cu",
        (r"\b(?:reserve|store|combine)_publish_(?:\w+_)?kernel|\bwait_(?:acks|combine|prefix)_kernel", "all_to_all"),
    ),
    *_rules("LMDeploy", "InternLM/lmdeploy src/turbomind/comm/cuda_ipc", (r"\bturbomind::comm::", "")),
)

_LIBRARIES = (
    *_rules(
        "Transformer Engine and TensorRT-LLM userbuffers",
        "NVIDIA/TransformerEngine transformer_engine/common/comm_gemm_overlap/userbuffers/userbuffers.cu; NVIDIA/TensorRT-LLM "
        "cpp/tensorrt_llm/kernels/userbuffers",
        (r"userbuffers_\w*_(?:ag\b|\w*allgather)", "all_gather"),
        (r"userbuffers_\w*_rs(?:_|\b)", "reduce_scatter"),
        (r"userbuffers_\w*sum_inplace", "all_reduce"),
        (r"\bkuserbuffers_(?:push|pull)", "send_recv"),
    ),
    *_rules(
        "Apex", "NVIDIA/apex apex/contrib/csrc/peer_memory/peer_memory_cuda.cu", (r"\bpush_pull_halos_1d_kernel", "send_recv")
    ),
    *_rules(
        "NVSHMEM, rocSHMEM, ISHMEM",
        "NVIDIA/nvshmem src/host; ROCm/rocSHMEM src",
        (r"\b(?:nv|roc|i)shmem\w*_reduce(?!_?scatter)", "all_reduce"),  # OpenSHMEM's reduction ends on all
        (r"\b(?:nv|roc|i)shmem", ""),
    ),
    *_rules(
        "NVSHMEM on a stream",
        "NVIDIA/nvshmem src/include/internal/non_abi/nvshmemi_h_to_d_coll_defs.cuh",
        (r"\b(?:sync|barrier)_on_stream_kernel", "barrier"),
        (r"\b\w*_on_stream_kernel", ""),
    ),
    *_rules(
        "oneCCL",
        "uxlfoundation/oneCCL src/coll/algorithms/*/sycl, src/kernels; oneccl_reduce_base: intel/torch-xpu-ops issue 5384",
        (r"\boneccl_reduce_base", UNKNOWN_OP),  # an all-reduce ran it; the name alone does not say so
        (r"\b(?:one)?ccl_|\bccl::|(?:gather_from_remote|distribute_to_remote_ranks|Kernel_rankSync)", ""),
        (r"^(?:NoCopy)?Kernel_(?:all_sum|compute|load_input_to_temp_buffer|write_output|2rank|GlobalSync)$", "all_reduce"),
        (
            r"^(?:read_)?(?:write|reduce)_monolithic_kernel_|^(?:reduce_(?:single_)?local|local_reduce|reduce_read_write)_\w*kernel_",
            UNKNOWN_OP,
        ),
    ),
    *_rules(
        "HCCL",
        "hicann/hcomm task_profiling_pub.h: PROF_OP_NAME; hicann/hccl src/ops/*/template/aiv/kernel/aiv_*_op.h; Ascend/msprof "
        "analysis: *AicpuKernel, *AivKernel; sgl-project/sgl-kernel-npu csrc/deepep",
        (r"\bhcom_|\bhccl", ""),  # hcom_allReduce__503_0_1: the group's last digits, a counter, the iteration
        (r"\baiv_(?:all|reduce|broadcast|scatter|send|recv|sync)", ""),
        (r"(?:reduce|gather|scatter|alltoall\w*|broadcast|send|receive|recv)Ai(?:cpu|v)Kernel$", ""),
        (r"MoeDistribute(?:Dispatch|Combine)|\bmoe_distribute_(?:dispatch|combine)", "all_to_all"),
        (r"(?:CamMoe|MoeLowLatency)(?:Dispatch|Combine)|\b(?:cam_moe|moe_low_latency)_(?:dispatch|combine)", "all_to_all"),
        (r"\bNotifyDispatch|\bDispatchNormal|\bnotify_dispatch(?:_a2)?$|\bdispatch_normal_a2$", "all_to_all"),
    ),
)

TABLE = (*_TORCH, *_NCCL, *_EXPERTS, *_INFERENCE, *_LIBRARIES)
