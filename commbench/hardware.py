"""What machine is this, and how fast could its links be at best?

PCIe and NVLink are decided by what NVML reports, never guessed from a card's name. The environment is read through an
allow-list: a job's variables can hold credentials.
"""

import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from commbench.records import SoftwareInfo

ALLOWED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "GLOO_SOCKET_IFNAME",
    "MKL_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_DEBUG",
    "NCCL_HOSTID",
    "NCCL_IB_DISABLE",
    "NCCL_IB_HCA",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_PROTO",
    "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_IFNAME",
    "OMP_NUM_THREADS",
    "SLURM_JOB_ID",
    "SLURM_JOB_NUM_NODES",
    "SLURM_JOB_PARTITION",
    "SLURM_NTASKS",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING",
)

# One direction, payload before protocol overhead, bytes/s. PCIe per lane by generation (PCI-SIG line rates after 128b/130b);
# NVLink per link by version: NVLink 1 20, 2 to 4 25, 5 50 GB/s (NVIDIA architecture white papers).
_PCIE_LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
_NVLINK_BYTES_PER_S = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most a link can carry in one direction, and where that figure comes from. None: the machine does not say."""

    bytes_per_s: float | None
    reason: str


def allowed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that change how collectives run; nothing else is ever recorded."""
    return {name: environ[name] for name in ALLOWED_VARIABLES if name in environ}


def usable_cores() -> int:
    """Count the cores this process may run on, which a scheduler or container can make fewer than the machine's."""
    return len(os.sched_getaffinity(0))


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory that can still be taken without swapping; None where Linux does not say."""
    if not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


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


def software_info() -> SoftwareInfo:
    """Collect versions without importing torch; a rank that has it loaded adds CUDA's and NCCL's."""
    return SoftwareInfo(python=platform.python_version(), torch=metadata.version("torch"), driver=_driver_version())


def git_commit(folder: Path) -> str | None:
    """Return the commit of the user's working tree, None outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def gloo_ceiling(num_nodes: int, interface: str | None, sys_net: Path = Path("/sys/class/net")) -> Ceiling:
    """Return the line rate under gloo: the network card's, where ranks are on several nodes and the card is real."""
    if num_nodes == 1:
        return Ceiling(bytes_per_s=None, reason="ranks share one host and talk through its memory; no link to read")
    if interface is None:
        return Ceiling(bytes_per_s=None, reason="set GLOO_SOCKET_IFNAME to have the interface's speed read")
    card = sys_net / interface
    if not (card / "device").exists():
        return Ceiling(bytes_per_s=None, reason=f"{interface} is a virtual interface and states no true speed")
    try:
        megabits = int((card / "speed").read_text())
    except (OSError, ValueError):
        megabits = -1
    if megabits <= 0:
        return Ceiling(bytes_per_s=None, reason=f"{interface} reports no speed; is its cable in?")
    return Ceiling(bytes_per_s=megabits * 1e6 / 8, reason=f"{interface} runs at {megabits / 1e3:g} Gbit/s")


def gpu_ceiling(index: int, nvml: Any = None) -> Ceiling:  # noqa: ANN401  the pynvml module, or a test's stand-in
    """Return one direction of a GPU's fastest peer link: NVLink where links are up, else PCIe as trained now."""
    if nvml is None:
        nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return _nvlink_ceiling(nvml, handle) or _pcie_ceiling(nvml, handle)
    except nvml.NVMLError as error:
        return Ceiling(bytes_per_s=None, reason=f"NVML does not say: {error}")


def _nvlink_ceiling(nvml: Any, handle: Any) -> Ceiling | None:  # noqa: ANN401
    versions = []
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if nvml.nvmlDeviceGetNvLinkState(handle, link):
                versions.append(int(nvml.nvmlDeviceGetNvLinkVersion(handle, link)))
        except nvml.NVMLError:
            break  # the card has no more links; NVML has no call that counts them
    known = [_NVLINK_BYTES_PER_S[version] for version in versions if version in _NVLINK_BYTES_PER_S]
    if not known:
        return None
    return Ceiling(bytes_per_s=sum(known), reason=f"{len(known)} NVLinks of version {max(versions)}")


def _pcie_ceiling(nvml: Any, handle: Any) -> Ceiling:  # noqa: ANN401
    generation = int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle))
    width = int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle))
    lane = _PCIE_LANE_BYTES_PER_S.get(generation)
    if lane is None:
        return Ceiling(bytes_per_s=None, reason=f"PCIe generation {generation} is unknown")
    return Ceiling(bytes_per_s=lane * width, reason=f"PCIe generation {generation}, {width} lanes, as trained now")


def _driver_version() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)
