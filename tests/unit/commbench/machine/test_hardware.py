import json
import sys
from pathlib import Path

import msgspec
import pytest

from commprof.commbench.machine import hardware
from commprof.commbench.machine.facts import HostInfo
from commprof.commbench.machine.hardware import allowed_environment, available_memory_bytes, host_info, usable_cores
from tests.fake_nvml import Card, FakeNvml
from tests.unit.commbench.machine.test_network import net


def test_no_variable_beyond_the_list_is_recorded() -> None:
    environ = {"NCCL_DEBUG": "INFO", "AWS_SECRET_ACCESS_KEY": "s", "NCCL_SECRET": "s", "OMP_NUM_THREADS": "4"}
    assert allowed_environment(environ) == {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "4"}


CHANGES_RESULTS = """
    CUDA_DEVICE_MAX_CONNECTIONS CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_VISIBLE_DEVICES NVIDIA_TF32_OVERRIDE
    PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF NCCL_ALGO NCCL_CROSS_NIC NCCL_CTA_POLICY NCCL_CUMEM_ENABLE
    NCCL_GRAPH_MIXING_SUPPORT NCCL_IB_MERGE_NICS NCCL_IB_PCI_RELAXED_ORDERING NCCL_IB_SPLIT_DATA_ON_QPS
    NCCL_LOCAL_REGISTER NCCL_MAX_CTAS NCCL_MIN_CTAS NCCL_MULTI_RANK_GPU_ENABLE NCCL_NET NCCL_NET_GDR_LEVEL
    NCCL_NETDEVS_POLICY NCCL_NVLS_ENABLE NCCL_P2P_LEVEL NCCL_PROTO NCCL_TOPO_FILE NCCL_TUNER_PLUGIN
    TORCH_NCCL_ASYNC_ERROR_HANDLING TORCH_NCCL_BLOCKING_WAIT TORCH_NCCL_HIGH_PRIORITY TORCH_NCCL_USE_COMM_NONBLOCKING
"""


def test_what_changes_a_result_is_recorded() -> None:
    """As the user guides of CUDA, NCCL and torch have them."""
    environ = dict.fromkeys(CHANGES_RESULTS.split(), "1")
    assert allowed_environment(environ) == environ


def test_windows_driver_counts_and_its_kernel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libcuda.so.1"
    assert not hardware.has_nvidia_driver(tmp_path / "nvidia", library)
    library.touch()
    assert hardware.has_nvidia_driver(tmp_path / "nvidia", library)
    monkeypatch.setattr("platform.release", lambda: "5.15.153.1-microsoft-standard-WSL2")
    assert hardware.system() == "Linux 5.15.153.1-microsoft-standard-WSL2 (WSL2)"


def test_the_host_says_its_memory_and_cores(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert available_memory_bytes(tmp_path / "meminfo") == 2 * 2**20
    assert available_memory_bytes(tmp_path / "none") is None
    assert usable_cores() >= 1


def test_one_document_holds_every_fact_or_its_reason(tmp_path: Path) -> None:
    net(tmp_path, "eth0", speed="-1")
    host = host_info(
        {"NCCL_ALGO": "Ring", "HF_TOKEN": "secret"}, FakeNvml(cards=[Card(missing=("nvmlDeviceGetName",))]), tmp_path
    )
    document = msgspec.json.encode(host)
    assert msgspec.json.decode(document, type=HostInfo) == host
    assert b"secret" not in document
    assert b"HF_TOKEN" not in document
    unstated = {name for name, value in json.loads(document).items() if value is None}
    unstated |= {f"software.{name}" for name, value in json.loads(document)["software"].items() if value is None}
    assert unstated <= host.absent.keys()
    assert {"gpu0.name", "gpu0.numa_node", "eth0.speed_bits_per_s", "numa_nodes"} <= host.absent.keys()


@pytest.mark.parametrize(
    ("stated", "cuda"), [("cuda: Optional[str] = '13.0'", "13.0"), ("cuda = None", None), ("xcuda = '1.0'", None)]
)
def test_torchs_cuda_is_read_without_importing_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str, cuda: str | None
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "torch/version.py").write_text(f"__version__ = '1'\n{stated}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert hardware.software_info().cuda == cuda
