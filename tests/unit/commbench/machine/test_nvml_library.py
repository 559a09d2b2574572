"""The real nvidia-ml-py over a library that answers as NVML does: what `env`, telemetry and `check` make of each host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from commprof.analysis.health.evidence import Evidence
from commprof.analysis.health.machine import machine_health
from commprof.analysis.health.results import Verdict
from commprof.analysis.runs.load import Run
from commprof.commbench.machine.facts import HostInfo, TelemetrySample
from tests.factory import collective, run_info
from tests.forked import DEADLINE_S

STUB = Path(__file__).parents[3] / "nvml_stub.c"
READ = """
import msgspec, sys
from commprof.commbench.machine.hardware import host_info
from commprof.commbench.machine.telemetry import HostSampler
print(msgspec.json.encode((host_info(), HostSampler()())).decode())
"""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc, which builds the stand-in for NVIDIA's library"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    words = ("gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", folder / "libnvidia-ml.so.1", STUB)
    subprocess.run(words, check=True, timeout=DEADLINE_S)
    return folder


def environ(library: Path, host: str) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "NVML_HOST": host}


def read(library: Path, host: str) -> tuple[HostInfo, TelemetrySample]:
    words = [sys.executable, "-c", READ]
    done = subprocess.run(words, env=environ(library, host), capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=tuple[HostInfo, TelemetrySample])


def verdicts(host: HostInfo, sample: TelemetrySample) -> dict[str, Verdict]:
    run = Run(
        path=Path("r"), info=run_info(backend="nccl"), collectives=(collective(2**20, [1.0] * 10),), steps={}, gradients=None
    )
    found = machine_health(Evidence(run=run, hosts=(host,), telemetry=(sample,), bursts=(), links=()))
    return {verdict.name: verdict for verdict in found}


def test_a_switched_box_is_read_whole_and_passes(library: Path) -> None:
    host, sample = read(library, "hgx")
    assert host.topology[0] == ("X", *["NV18"] * 7)
    assert {gpu.mig for gpu in host.gpus} == {False}
    assert {(gpu.pcie_generation, gpu.pcie_width) for gpu in sample.gpus} == {(5, 16)}
    assert {(gpu.nvlink_tx_bytes, gpu.nvlink_rx_bytes) for gpu in sample.gpus} == {(138 * 1024, 139 * 1024)}
    assert not [name for name in host.absent if name.startswith("gpu") and not name.endswith("numa_node")]
    assert all(verdict.ok for verdict in verdicts(host, sample).values())


def test_a_lost_gpu_is_judged_and_the_others_keep_their_places(library: Path) -> None:
    host, sample = read(library, "lost")
    assert [gpu.index for gpu in host.gpus] == [0, 1, 2, 4, 5, 6, 7]
    found = verdicts(host, sample)
    assert found["gpus"].ok is False
    assert "gpu3 (NVML: GPU is lost)" in found["gpus"].message
    assert found["peer access"].message == "all 21 pairs of GPUs reach each other's memory"


@pytest.mark.parametrize(
    ("name", "ok", "words"),
    [
        ("chipset", True, "(PIX, not supported by the chipset)"),
        ("geforce", True, "(PHB, not supported by this kind of GPU)"),
        ("disabled", False, "(PIX, disabled by a driver setting)"),
        ("bridge", True, "(SYS, not supported across this host's topology)"),
    ],
)
def test_peer_access_fails_only_where_it_was_to_be_had(library: Path, name: str, ok: bool, words: str) -> None:
    found = verdicts(*read(library, name))["peer access"]
    assert (found.ok, found.note) == (ok, ok)
    assert words in found.message


def test_a_card_cut_into_instances_says_so(library: Path) -> None:
    host, sample = read(library, "mig")
    assert host.gpus[0].mig is True
    assert verdicts(host, sample)["mig"].note


def test_nvlink_5_is_counted_link_by_link(library: Path) -> None:
    host, sample = read(library, "blackwell")
    assert {(gpu.nvlink_tx_bytes, gpu.nvlink_rx_bytes) for gpu in sample.gpus} == {(18 * 202, 18 * 204)}
    assert host.gpus[0].nvlinks[0].version == 5
    unknown, sample = read(library, "uncounted")
    assert {gpu.nvlink_tx_bytes for gpu in sample.gpus} == {None}
    assert unknown.absent["gpu0.nvlink_bytes"] == "NVML: Not Supported"


def test_without_permission_the_reason_is_the_refusal(library: Path) -> None:
    host, _ = read(library, "denied")
    assert {host.absent[f"gpu0.{name}"] for name in ("memory_bytes", "throttle_reasons", "mig", "pcie", "nvlinks")} == {
        "NVML: Insufficient Permissions"
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lost", "gpu3 not stated: NVML: GPU is lost"),
        ("geforce", "to none; else not supported by this kind of GPU"),
        ("mig", "MIG on; memory and clocks are the whole card's"),
        ("uncounted", "bytes not counted (NVML: Not Supported)"),
        ("denied", "not stated: NVML: Insufficient Permissions"),
        ("mismatch", "not stated: NVML: RM has detected an NVML/RM version mismatch."),
    ],
)
def test_env_answers_in_words_on_every_host(library: Path, name: str, words: str) -> None:
    script = Path(sys.executable).with_name("commprof")
    done = subprocess.run([script, "env"], env=environ(library, name), capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert words in " ".join(done.stdout.split())
