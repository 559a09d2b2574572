"""A real card and driver: NVML and torch must speak of the same one."""

from typing import Any

import pytest
import torch

from commprof.commbench.machine.hardware import host_info
from commprof.commbench.machine.telemetry import HostSampler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]


def test_nvml_and_torch_describe_the_same_card() -> None:
    seen: Any = torch.cuda.get_device_properties(0)
    bus_id = f"{seen.pci_domain_id:04x}:{seen.pci_bus_id:02x}:{seen.pci_device_id:02x}.0"
    host = host_info()
    gpu = next(gpu for gpu in host.gpus if gpu.pci_bus_id == bus_id)
    assert gpu.name == seen.name
    assert gpu.memory_bytes is not None
    assert gpu.memory_bytes >= seen.total_memory
    assert host.software.cuda == torch.version.cuda
    assert host.software.driver is not None
    assert all(host.absent.values())


def test_a_sample_of_a_real_card_is_in_si_units() -> None:
    sampler = HostSampler([0])
    (gpu,) = sampler().gpus
    sampler.close()
    assert gpu.power_w is None or 1 < gpu.power_w < 3000
    assert gpu.temperature_c is None or 5 < gpu.temperature_c < 120
    assert gpu.sm_clock_hz is not None
    assert 1e7 < gpu.sm_clock_hz < 1e10
