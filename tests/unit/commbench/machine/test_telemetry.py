import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from commprof.commbench.errors import BadInput
from commprof.commbench.machine.facts import TelemetrySample
from commprof.commbench.machine.telemetry import HostSampler, telemetry, telemetry_file
from commprof.commbench.records.rundir import read_records
from tests.fake_nvml import H100_LINK, Card, FakeNvml
from tests.unit.commbench.machine.test_network import net, write
from tests.unit.commbench.machine.test_processes import process


def host(root: Path, *cards: Card, now: Callable[[], float] = lambda: 0.0) -> HostSampler:
    write(root / "proc", stat="cpu 100 0 0 100 0 0 0 0 0 0")
    net(root / "sys", "eth0")
    return HostSampler(nvml=FakeNvml(cards=cards, driver=bool(cards)), sys_root=root / "sys", proc=root / "proc", now=now)


@dataclass
class Scripted:
    """A sampler that tells each reading, and fails at one of them."""

    read: list[int] = field(default_factory=list)
    fails_at: int = -1
    enough: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def __call__(self) -> TelemetrySample:
        self.read.append(len(self.read))
        if len(self.read) == self.fails_at:
            self.enough.set()
            raise OSError("the card\x1b is gone")
        if len(self.read) >= 3:
            self.enough.set()
        at_s = float(len(self.read))
        return TelemetrySample(hostname="h", at_s=at_s, cpu_busy=None, cpu_clock_hz=None, gpus=(), interfaces=())

    def close(self) -> None:
        self.closed = True


def test_samples_come_at_once_every_interval_and_at_the_end(tmp_path: Path) -> None:
    sampler = Scripted()
    with telemetry(tmp_path / "t.jsonl", interval_s=1e-3, open_sampler=lambda: sampler):
        assert sampler.enough.wait(30)
        before = len(sampler.read)
    written = list(read_records(tmp_path / "t.jsonl", TelemetrySample))
    assert [sample.at_s for sample in written] == [float(n + 1) for n in sampler.read]
    assert len(written) > before
    assert sampler.closed
    assert not [thread for thread in threading.enumerate() if thread.name == "telemetry"]


def test_a_block_shorter_than_the_interval_has_its_two_ends(tmp_path: Path) -> None:
    with telemetry(tmp_path / "t.jsonl", interval_s=3600, open_sampler=Scripted):
        pass
    assert len(list(read_records(tmp_path / "t.jsonl", TelemetrySample))) == 2


def test_a_failing_read_ends_the_telemetry_and_not_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sampler = Scripted(fails_at=2)
    with telemetry(tmp_path / "t.jsonl", interval_s=1e-3, open_sampler=lambda: sampler):
        assert sampler.enough.wait(30)
        reached = True
    assert reached
    assert capsys.readouterr().err == "commprof: telemetry stopped, the run goes on: the card\\x1b is gone\n"
    assert len(list(read_records(tmp_path / "t.jsonl", TelemetrySample))) == 1
    with telemetry(tmp_path / "no" / "t.jsonl", open_sampler=Scripted):
        pass
    assert "No such file" in capsys.readouterr().err


def test_the_runs_own_error_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), telemetry(tmp_path / "t.jsonl", open_sampler=Scripted):
        raise ZeroDivisionError
    with pytest.raises(BadInput), telemetry(tmp_path / "t.jsonl", interval_s=0):
        pass


def test_a_sampler_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("commprof.commbench.machine.telemetry._END_TIMEOUT_S", 0.01)
    release, sampler = threading.Event(), Scripted()

    def hang() -> Scripted:
        release.wait(30)
        return sampler

    with telemetry(tmp_path / "t.jsonl", open_sampler=hang):
        pass
    assert "within 0.01 s" in capsys.readouterr().err
    release.set()


def test_a_sample_in_si_units(tmp_path: Path) -> None:
    times = iter([5.0, 5.0, 7.5])
    sampler = host(tmp_path, Card(links=[H100_LINK], throttle_bits=0x4, generation=4, width=8), now=lambda: next(times))
    first = sampler()
    write(tmp_path / "proc", stat="cpu 150 0 0 120 5 0 0 0 0 0")
    second = sampler()
    assert (first.at_s, second.at_s) == (0.0, 2.5)
    assert first.cpu_busy is None
    assert second.cpu_busy == pytest.approx(50 / 75)
    assert second.cpu_clock_hz is None
    assert [(card.name, card.tx_bytes) for card in second.interfaces] == [("eth0", 10)]
    gpu = second.gpus[0]
    assert gpu.power_w == pytest.approx(123.456)
    assert (gpu.sm_clock_hz, gpu.temperature_c, gpu.throttle_reasons) == (1.41e9, 41, ("software power cap",))
    assert gpu.pcie_tx_bytes_per_s == pytest.approx(2.5e6)
    assert (gpu.pcie_generation, gpu.pcie_width) == (4, 8)
    assert (gpu.nvlink_tx_bytes, gpu.nvlink_rx_bytes) == (138 * 1024, 139 * 1024)


def test_what_others_took_is_told_from_the_job(tmp_path: Path) -> None:
    """Of 100 ticks 40 are idle and 10 an interrupt's; of the 50 of processes the job's own took 30, a machine beside it 5."""
    sampler = host(tmp_path)
    sampler._job = 10
    process(tmp_path / "proc", 10, (1000, 0, 0, 0))
    sampler()
    process(tmp_path / "proc", 10, (1020, 10, 0, 0))
    write(tmp_path / "proc", stat="cpu 130 5 10 140 0 5 5 5 0 0")
    second = sampler()
    assert (second.cpu_busy, second.others_busy) == (pytest.approx(0.6), pytest.approx(0.2))


def test_gpus_take_turns_at_the_slow_question(tmp_path: Path) -> None:
    sampler = host(tmp_path, *[Card()] * 3)
    rated = [[gpu.index for gpu in sampler().gpus if gpu.pcie_rx_bytes_per_s is not None] for _ in range(4)]
    assert rated == [[0], [1], [2], [0]]


def test_the_clock_is_the_mean_of_cores_spread_over_the_host(tmp_path: Path) -> None:
    for core in range(16):
        write(tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq", scaling_cur_freq=f"{3_000_000 if core else 1_000_000}")
    assert host(tmp_path)().cpu_clock_hz == pytest.approx((7 * 3e9 + 1e9) / 8)


def test_every_host_has_a_file_of_its_own(tmp_path: Path) -> None:
    names = [telemetry_file(tmp_path, node).name for node in (0, 1)]
    assert names == ["telemetry.jsonl", "telemetry.node00001.jsonl"]
