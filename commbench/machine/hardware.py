"""What machine is this?

GPUs are read in gpus, network interfaces in network; this module adds the processor, the memory and the software, and puts
them together. The environment is read through an allow-list: a job's variables can hold credentials.
"""

import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from commprof.commbench.machine.facts import HostInfo
from commprof.commbench.machine.gpus import driver_version, read_gpus
from commprof.commbench.machine.network import read_interfaces
from commprof.commbench.machine.nvml import Nvml
from commprof.commbench.records.masking import masked_variables
from commprof.commbench.records.types import SoftwareInfo
from commprof.commbench.units import parse_bytes

WIRE_VARIABLE = "COMMPROF_WIRE"  # the name of the emulated wire, set for each rank by whoever emulates it

ALLOWED_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "GLOO_SOCKET_IFNAME",
    "MKL_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_CGA_CLUSTER_SIZE",
    "NCCL_COLLNET_ENABLE",
    "NCCL_CONF_FILE",
    "NCCL_CROSS_NIC",
    "NCCL_CTA_POLICY",
    "NCCL_CUMEM_ENABLE",
    "NCCL_DEBUG",
    "NCCL_DMABUF_ENABLE",
    "NCCL_GRAPH_MIXING_SUPPORT",
    "NCCL_GRAPH_REGISTER",
    "NCCL_HOSTID",
    "NCCL_IB_ADAPTIVE_ROUTING",
    "NCCL_IB_DISABLE",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_HCA",
    "NCCL_IB_MERGE_NICS",
    "NCCL_IB_PCI_RELAXED_ORDERING",
    "NCCL_IB_QPS_PER_CONNECTION",
    "NCCL_IB_SL",
    "NCCL_IB_SPLIT_DATA_ON_QPS",
    "NCCL_IB_TC",
    "NCCL_IGNORE_CPU_AFFINITY",
    "NCCL_LAUNCH_MODE",
    "NCCL_LOCAL_REGISTER",
    "NCCL_MAX_CTAS",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MAX_P2P_NCHANNELS",
    "NCCL_MIN_CTAS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_MNNVL_ENABLE",
    "NCCL_MULTI_RANK_GPU_ENABLE",
    "NCCL_NET",
    "NCCL_NETDEVS_POLICY",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_NET_GDR_READ",
    "NCCL_NET_PLUGIN",
    "NCCL_NSOCKS_PERTHREAD",
    "NCCL_NTHREADS",
    "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_P2P_NET_CHUNKSIZE",
    "NCCL_PROTO",
    "NCCL_PXN_DISABLE",
    "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_IFNAME",
    "NCCL_SOCKET_NTHREADS",
    "NCCL_TOPO_FILE",
    "NCCL_TUNER_PLUGIN",
    "NCCL_WIN_ENABLE",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "SLURM_JOB_ID",
    "SLURM_JOB_NUM_NODES",
    "SLURM_JOB_PARTITION",
    "SLURM_NTASKS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING",
    "TORCH_NCCL_AVOID_RECORD_STREAMS",
    "TORCH_NCCL_BLOCKING_WAIT",
    "TORCH_NCCL_CUDA_EVENT_CACHE",
    "TORCH_NCCL_ENABLE_TIMING",
    "TORCH_NCCL_HIGH_PRIORITY",
    "TORCH_NCCL_USE_COMM_NONBLOCKING",
    "TORCH_NCCL_USE_TENSOR_REGISTER_ALLOCATOR_HOOK",
)


def allowed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that change how fast collectives and products run, without credentials; no other is recorded."""
    return masked_variables({name: environ[name] for name in ALLOWED_VARIABLES if name in environ})


def usable_cores() -> int:
    """Count the cores this process may run on, which a scheduler or container can make fewer than the machine's."""
    return len(os.sched_getaffinity(0))


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Name the kernel that runs here: hosts of one testbed, or containers side by side, share it; empty without Linux."""
    return path.read_text().strip() if path.exists() else ""


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory that can still be taken without swapping; None where Linux does not say."""
    return _meminfo_bytes("MemAvailable:", meminfo)


def _meminfo_bytes(name: str, meminfo: Path) -> int | None:
    if not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def last_level_cache_bytes(caches: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Return the size of the first core's largest cache; 64 MiB, more than most, where Linux does not say."""
    sizes = [(entry / "size").read_text().strip() for entry in caches.glob("index*") if (entry / "size").exists()]
    return max((parse_bytes(size) for size in sizes), default=64 * 2**20)


def has_nvidia_driver(proc: Path = Path("/proc/driver/nvidia"), wsl: Path = Path("/usr/lib/wsl/lib/libcuda.so.1")) -> bool:
    """Say whether NCCL could run here at all, without asking torch. Under WSL2 the driver is Windows', seen by its library."""
    return proc.exists() or wsl.exists()


def gpus_for_nccl(environ: Mapping[str, str], nvml: Any = None) -> int:  # noqa: ANN401  the pynvml module, or a stand-in
    """Count the GPUs that ranks started here can take, without torch; 0 where its CUDA or the driver is missing."""
    if _torch_cuda() is None:
        return 0
    listed = _gpu_count(nvml)
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if not listed or chosen is None:
        return listed
    words = [word.strip() for word in chosen.split(",")]
    valid = [word.startswith(("GPU-", "MIG-")) or (word.isdecimal() and int(word) < listed) for word in words]
    return [*valid, False].index(False)  # CUDA stops at the first that it does not know


def _gpu_count(module: Any = None) -> int:  # noqa: ANN401  the pynvml module, or a test's stand-in
    """Count the GPUs that the driver can open; 0 without one."""
    try:
        with closing(Nvml(module)) as nvml:
            return len(nvml.handles())
    except OSError:
        return 0


def system() -> str:
    """Name the kernel that runs here, and whether Windows runs it: transfers to a GPU are then Windows' own."""
    release = platform.release()
    return f"{platform.system()} {release}" + (" (WSL2)" if "microsoft" in release.lower() else "")


def device_name() -> str:
    """Name the processor as the kernel does; used for ranks that compute on the host."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def hostname() -> str:
    return socket.gethostname()


def host_info(
    environ: Mapping[str, str] | None = None,
    nvml: Any = None,  # noqa: ANN401  the pynvml module, or a test's stand-in
    sys: Path = Path("/sys"),
) -> HostInfo:
    """Collect everything that is recorded about this host, without torch: tens of milliseconds, and a few more a GPU."""
    facts = read_gpus(nvml, sys)
    interfaces, silent = read_interfaces(sys)
    software = replace(_torch_software(), driver=facts.driver)
    kernel = {
        "numa_nodes": len(list((sys / "devices/system/node").glob("node[0-9]*"))) or None,
        "memory_bytes": _meminfo_bytes("MemTotal:", Path("/proc/meminfo")),
    }
    unstated = {name: "Linux does not state it" for name, value in kernel.items() if value is None}
    return HostInfo(
        hostname=hostname(),
        processor=device_name(),
        cores_usable=usable_cores(),
        cores_total=os.cpu_count() or usable_cores(),
        numa_nodes=kernel["numa_nodes"],
        memory_bytes=kernel["memory_bytes"],
        software=software,
        gpus=facts.gpus,
        topology=facts.topology,
        interfaces=interfaces,
        environ=allowed_environment(os.environ if environ is None else environ),
        absent=unstated | _missing_software(software) | facts.absent | silent,
        driver_cuda=facts.driver_cuda,
        system=system(),
    )


def software_info() -> SoftwareInfo:
    """Collect versions without importing torch; a rank that has it loaded knows CUDA's and NCCL's from torch itself."""
    return replace(_torch_software(), driver=driver_version())


def _torch_software() -> SoftwareInfo:
    cuda = _torch_cuda()
    return SoftwareInfo(
        python=platform.python_version(),
        torch=_installed("torch"),
        cuda=cuda,
        nccl=_installed(f"nvidia-nccl-cu{cuda.partition('.')[0]}") if cuda else None,
    )


def _missing_software(software: SoftwareInfo) -> dict[str, str]:
    """Say why a version is missing; the driver's reason is NVML's."""
    if software.torch is None:
        return dict.fromkeys(("software.torch", "software.cuda", "software.nccl"), "torch is not installed")
    if software.cuda is None:
        return dict.fromkeys(("software.cuda", "software.nccl"), f"torch {software.torch} was built without CUDA")
    if software.nccl is None:
        return {"software.nccl": "no package names the version of torch's NCCL"}
    return {}


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch_cuda() -> str | None:
    """Return the CUDA that torch was built with, from the file that says so: importing torch takes over a second."""
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin is not None else None
    if file is None or not file.is_file():
        return None
    stated = re.search(r"^cuda\b[^=\n]*= *'([\d.]+)'", file.read_text(), re.MULTILINE)
    return stated[1] if stated else None


def git_commit(folder: Path) -> str | None:
    """Return the commit of the user's working tree, None outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
