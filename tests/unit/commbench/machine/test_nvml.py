import re
from pathlib import Path

import pynvml
import pytest

from commprof.commbench.machine import gpus, nvml
from commprof.commbench.machine.facts import PcieLink
from commprof.commbench.machine.gpus import GpuFacts, read_gpus
from tests.fake_nvml import A100_LINK, H100_LINK, Card, FakeNvml, bus_id


def facts(*cards: Card, sys: Path = Path("/nowhere"), driver: bool = True) -> GpuFacts:
    nvml = FakeNvml(cards=cards, driver=driver)
    found = read_gpus(nvml, sys)
    assert nvml.opened == 0
    return found


def test_a_host_of_eight_switched_gpus(tmp_path: Path) -> None:
    for index in range(8):
        node = tmp_path / "bus/pci/devices" / f"0000:{0x10 + index:02x}:00.0" / "numa_node"
        node.parent.mkdir(parents=True)
        node.write_text(f"{index // 4}\n")
    found = facts(*[Card(links=[H100_LINK] * 18)] * 8, sys=tmp_path)
    last = found.gpus[7]
    assert found.driver == "580.159.03"
    assert found.driver_cuda == "13.1"
    assert found.topology[0] == ("X", *["NV18"] * 7)
    assert last.peer_access == (*[True] * 7, None)
    assert last.pci_bus_id == "0000:17:00.0"
    assert last.numa_node == 1
    assert {(link.version, link.active) for link in last.nvlinks} == {(4, True)}
    assert len(last.nvlinks) == 18
    assert last.sm_clock_hz == 1.41e9
    assert last.power_limit_w == pytest.approx(350)
    assert last.max_power_limit_w == pytest.approx(700)
    assert last.throttle_reasons == ()
    assert found.absent == {}


def test_a_card_trained_below_its_slot() -> None:
    found = facts(Card(generation=3, width=8, max_generation=4))
    assert found.gpus[0].pcie == PcieLink(generation=3, width=8, max_generation=4, max_width=16)
    assert found.gpus[0].nvlinks == ()
    assert "Not Supported" in found.absent["gpu0.nvlinks"]


def test_direct_links_join_only_the_gpus_at_their_ends() -> None:
    bridged = [Card(links=[A100_LINK] * 4, remote=bus_id(other)) for other in (1, 0, 3, 2)]
    found = facts(*bridged)
    assert found.topology[0] == ("X", "NV4", "SYS", "SYS")
    assert found.gpus[0].nvlinks[0].version == 3


def test_a_link_that_is_down_is_listed_and_not_counted() -> None:
    found = facts(Card(links=[H100_LINK] * 17 + [0]), Card(links=[H100_LINK] * 18))
    assert found.topology[1][0] == "NV17"
    bridged = facts(*[Card(links=[A100_LINK] * 3 + [0], remote=bus_id(other)) for other in (1, 0)])
    assert bridged.topology[0][1] == "NV3"
    assert [link.link for link in found.gpus[0].nvlinks if not link.active] == [17]


def test_without_a_driver_the_reason_stands_for_everything() -> None:
    found = facts(driver=False)
    assert found.gpus == ()
    assert found.driver is None
    assert all("Driver Not Loaded" in reason for reason in found.absent.values())
    assert {"gpus", "software.driver", "driver_cuda"} <= found.absent.keys()


def test_a_laptop_states_no_power_limit() -> None:
    missing = ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimitConstraints")
    found = facts(Card(missing=missing))
    assert found.gpus[0].power_limit_w is None
    assert found.absent["gpu0.power_limit_w"] == "NVML: Not Supported"
    assert "gpu0.max_power_limit_w" in found.absent
    assert found.gpus[0].max_sm_clock_hz == 1.98e9


def test_a_gpu_off_the_bus_leaves_the_others_readable() -> None:
    found = facts(Card(), Card(lost=True), Card(peers=False))
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert found.absent["gpu1"] == "NVML: GPU is lost"
    assert found.gpus[1].peer_access == (False, None)
    assert found.topology == (("X", "SYS"), ("SYS", "X"))


def test_old_drivers_name_what_throttles_them_by_the_older_call() -> None:
    found = facts(Card(throttle_bits=0x24 | 0x8000, missing=("nvmlDeviceGetCurrentClocksEventReasons",)))
    assert found.gpus[0].throttle_reasons == ("software power cap", "software thermal slowdown", "reasons 0x8000")
    assert "gpu0.throttle_reasons" not in found.absent


def test_a_newer_nvlink_is_not_taken_for_an_older_one() -> None:
    found = facts(Card(links=[9]))
    assert found.gpus[0].nvlinks[0].version is None
    assert "code 9" in found.absent["gpu0.nvlinks.0.version"]


def test_every_number_is_that_of_nvidia_ml_py() -> None:
    """NVML's enumerations are written out where pynvml's are wrong or missing in some version; here they are compared."""
    assert nvml._LINK_BYTES == (pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES, pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES)
    assert (nvml._SM, nvml._MEMORY) == (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM)
    assert (*pynvml.NVML_P2P_CAPS_INDEX_READ, pynvml.NVML_P2P_CAPS_INDEX_NVLINK) == (gpus._P2P_READ, gpus._P2P_NVLINK)
    known = {
        "NVML_P2P_STATUS_": gpus._P2P_STATUS,
        "NVML_COMPUTEMODE_": {**gpus._COMPUTE_MODE, pynvml.NVML_COMPUTEMODE_COUNT: None},
        "NVML_TOPOLOGY_": gpus._TOPOLOGY_LEVEL,
        "NVML_NVLINK_VERSION_": {**gpus._NVLINK_GENERATION, pynvml.NVML_NVLINK_VERSION_INVALID: None},
        "nvmlClocksEventReason": {
            **nvml._THROTTLE_REASONS,
            pynvml.nvmlClocksEventReasonNone: None,
            pynvml.nvmlClocksEventReasonAll: None,
        },
    }
    for prefix, ours in known.items():
        assert {value for name, value in vars(pynvml).items() if name.startswith(prefix)} == set(ours), prefix
    versions = {name: value for name, value in vars(pynvml).items() if re.fullmatch(r"NVML_NVLINK_VERSION_\d_\d", name)}
    assert {value: int(name[20]) for name, value in versions.items()} == gpus._NVLINK_GENERATION


def test_every_question_exists_in_nvidia_ml_py() -> None:
    sources = (Path(nvml.__file__).with_name(name) for name in ("nvml.py", "gpus.py", "telemetry.py"))
    asked = {name for source in sources for name in re.findall(r"\bnvml[A-Z]\w+(?=[\"(])", source.read_text())}
    assert len(asked) > 15
    assert not [name for name in asked if not callable(getattr(pynvml, name, None))]
