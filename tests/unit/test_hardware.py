from pathlib import Path
from types import SimpleNamespace

import pytest

from commbench.hardware import allowed_environment, available_memory_bytes, gloo_ceiling, gpu_ceiling, usable_cores


class NVMLError(Exception):
    pass


def fake_nvml(*, links: list[int], generation: int = 4, width: int = 16) -> SimpleNamespace:
    """NVML with `links` as the version of each NVLink, 0 for one that is down; asking beyond them fails as NVML does."""

    def link_of(handle: object, index: int) -> int:
        if index >= len(links):
            raise NVMLError("Not Supported")
        return links[index]

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_NVLINK_MAX_LINKS=18,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetNvLinkState=lambda handle, index: link_of(handle, index) > 0,
        nvmlDeviceGetNvLinkVersion=link_of,
        nvmlDeviceGetCurrPcieLinkGeneration=lambda handle: generation,
        nvmlDeviceGetCurrPcieLinkWidth=lambda handle: width,
    )


def test_nvlink_counts_only_links_that_are_up() -> None:
    ceiling = gpu_ceiling(0, fake_nvml(links=[4] * 11 + [0]))
    assert ceiling.bytes_per_s == pytest.approx(11 * 25e9)
    assert "11 NVLinks" in ceiling.reason


def test_without_nvlink_the_pcie_link_as_trained_counts() -> None:
    assert gpu_ceiling(0, fake_nvml(links=[], generation=3, width=8)).bytes_per_s == pytest.approx(8 * 0.985e9)


def test_what_nvml_does_not_say_is_not_guessed() -> None:
    nvml = fake_nvml(links=[])
    nvml.nvmlDeviceGetHandleByIndex = lambda index: (_ for _ in ()).throw(NVMLError("Driver Not Loaded"))
    ceiling = gpu_ceiling(0, nvml)
    assert ceiling.bytes_per_s is None
    assert "Driver Not Loaded" in ceiling.reason


def interface(root: Path, name: str, *, real: bool, speed: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "speed").write_text(speed)
    if real:
        (root / name / "device").mkdir()
    return root


def test_gloo_knows_a_real_cards_rate_and_only_across_hosts(tmp_path: Path) -> None:
    interface(tmp_path, "eth0", real=True, speed="25000\n")
    assert gloo_ceiling(2, "eth0", tmp_path).bytes_per_s == pytest.approx(25e9 / 8)
    assert gloo_ceiling(1, "eth0", tmp_path).bytes_per_s is None
    assert gloo_ceiling(2, None, tmp_path).bytes_per_s is None


def test_a_virtual_or_silent_interface_states_no_speed(tmp_path: Path) -> None:
    interface(tmp_path, "veth0", real=False, speed="10000\n")
    interface(tmp_path, "eth1", real=True, speed="-1\n")
    assert "virtual" in gloo_ceiling(2, "veth0", tmp_path).reason
    assert "cable" in gloo_ceiling(2, "eth1", tmp_path).reason
    assert gloo_ceiling(2, "gone", tmp_path).bytes_per_s is None


def test_no_variable_beyond_the_list_is_recorded() -> None:
    environ = {"NCCL_DEBUG": "INFO", "AWS_SECRET_ACCESS_KEY": "s", "NCCL_SECRET": "s", "OMP_NUM_THREADS": "4"}
    assert allowed_environment(environ) == {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "4"}


def test_the_host_says_its_memory_and_cores(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert available_memory_bytes(tmp_path / "meminfo") == 2 * 2**20
    assert available_memory_bytes(tmp_path / "none") is None
    assert usable_cores() >= 1
