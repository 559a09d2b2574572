"""How did the host fare while the run went on? Clocks, power, temperature, throttling, link and interface counters.

One sampler a host, on its first rank: a daemon thread that writes a TelemetrySample at once, every `interval_s` and when the
block ends. Nothing is kept in memory. A question that the machine does not answer is None in the record; a failure to read or
write ends the telemetry with one line on standard error, and never the run.

NVML averages each PCIe rate over 20 ms and makes its caller wait for them, so a sample asks one GPU for its two rates and the
next sample the next GPU; the others' are None. CPU clocks are of at most 8 cores: on some kernels a read interrupts its core.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.machine.facts import GpuSample, TelemetrySample
from commprof.commbench.machine.hardware import hostname
from commprof.commbench.machine.network import read_counters
from commprof.commbench.machine.nvml import Nvml
from commprof.commbench.machine.processes import tree_ticks
from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.units import printable

_MAX_CLOCKS = 8
_GPU_SENSOR, _PCIE_TX, _PCIE_RX = 0, 0, 1  # nvmlTemperatureSensors_t, nvmlPcieUtilCounter_t
_END_TIMEOUT_S = 5.0


class Sampler(Protocol):
    def __call__(self) -> TelemetrySample:
        """Read the host now; raise OSError or ValueError where it cannot be read."""

    def close(self) -> None:
        """Let go of what was opened."""


def telemetry_file(run: Path, node: int) -> Path:
    """Name a host's file: telemetry.jsonl on the first, telemetry.node00001.jsonl and so on; all match telemetry*.jsonl."""
    return run / ("telemetry.jsonl" if node == 0 else f"telemetry.node{node:05d}.jsonl")


@contextmanager
def telemetry(
    path: Path,
    *,
    interval_s: float = 1.0,
    gpus: Collection[int] | None = None,
    job: int | None = None,
    open_sampler: Callable[[], Sampler] | None = None,
) -> Iterator[None]:
    """Sample this host into `path` while the block runs.

    `gpus`: NVML's indices, None for all that it lists. `job`: the process of which the job's others here are children, None
    where this one has none.
    """
    if not interval_s > 0:
        raise BadInput(f"telemetry every {interval_s:g} s never comes; use an interval above 0")
    ended = threading.Event()
    opened = open_sampler or (lambda: HostSampler(gpus, job=job))
    thread = threading.Thread(target=_record, args=(path, interval_s, opened, ended), name="telemetry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_TIMEOUT_S)
        if thread.is_alive():
            _say(f"its last sample did not come within {_END_TIMEOUT_S:g} s and is left out")


@dataclass(frozen=True, slots=True)
class _CpuTimes:
    """Clock ticks of all cores since the host started, and of the job's processes since they did."""

    total: int
    idle: int
    processes: int
    own: int | None


class HostSampler:
    """Reads one host. CPU shares are over the time since the sample before, so the first sample has none."""

    def __init__(
        self,
        gpus: Collection[int] | None = None,
        *,
        job: int | None = None,
        nvml: Any = None,  # noqa: ANN401  the pynvml module, or a test's stand-in
        sys_root: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sys, self._proc, self._now = sys_root, proc, now
        self._hostname = hostname()
        self._start_s = now()
        self._job = os.getpid() if job is None else job
        self._cpu_times: _CpuTimes | None = None
        self._turn = 0
        self._clock_files = _clock_files(sys_root)
        try:
            self._nvml: Nvml | None = Nvml(nvml)
        except OSError:
            self._nvml = None  # no driver, no GPUs: environment.json says why
        handles = self._nvml.handles() if self._nvml is not None else {}
        self._handles = {index: handle for index, handle in handles.items() if gpus is None or index in gpus}

    def __call__(self) -> TelemetrySample:
        at_s = self._now() - self._start_s
        rated = list(self._handles)[self._turn % len(self._handles)] if self._handles else None
        self._turn += 1
        cpu_busy, others_busy = self._shares()
        return TelemetrySample(
            hostname=self._hostname,
            at_s=at_s,
            cpu_busy=cpu_busy,
            others_busy=others_busy,
            cpu_clock_hz=self._cpu_clock_hz(),
            gpus=tuple(self._gpu(index, rated == index) for index in self._handles),
            interfaces=read_counters(self._sys),
        )

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.close()

    def _shares(self) -> tuple[float | None, float | None]:
        """Return the share of all cores' time that was not idle, and what of it was not the job's.

        Waiting for a disk is idle. Interrupts are nobody's: the kernel may or may not count them to the process they meet.
        """
        user, nice, system, idle, disk, *interrupts, stolen = map(
            int, (self._proc / "stat").read_text().partition("\n")[0].split()[1:9]
        )
        processes = user + nice + system + stolen
        now = _CpuTimes(
            total=processes + idle + disk + sum(interrupts),
            idle=idle + disk,
            processes=processes,
            own=tree_ticks(self._job, self._proc),
        )
        before, self._cpu_times = self._cpu_times, now
        if before is None or now.total <= before.total:
            return None, None
        span = now.total - before.total
        busy = 1 - (now.idle - before.idle) / span
        if now.own is None or before.own is None:
            return busy, None
        return busy, max(0.0, (now.processes - before.processes - (now.own - before.own)) / span)

    def _cpu_clock_hz(self) -> float | None:
        clocks = [int(file.read_text()) * 1e3 for file in self._clock_files]
        return sum(clocks) / len(clocks) if clocks else None

    def _gpu(self, index: int, rated: bool) -> GpuSample:
        nvml, handle, name = self._nvml, self._handles[index], f"gpu{index}"
        assert nvml is not None
        sent, received = nvml.nvlink_bytes(name, handle)
        return GpuSample(
            index=index,
            sm_clock_hz=nvml.clock_hz(name, handle, memory=False),
            memory_clock_hz=nvml.clock_hz(name, handle, memory=True),
            power_w=nvml.scaled(name, 1e-3, "nvmlDeviceGetPowerUsage", handle),
            temperature_c=nvml.scaled(name, 1.0, "nvmlDeviceGetTemperature", handle, _GPU_SENSOR),
            throttle_reasons=nvml.throttle_reasons(name, handle),
            pcie_tx_bytes_per_s=nvml.scaled(name, 1e3, "nvmlDeviceGetPcieThroughput", handle, _PCIE_TX) if rated else None,
            pcie_rx_bytes_per_s=nvml.scaled(name, 1e3, "nvmlDeviceGetPcieThroughput", handle, _PCIE_RX) if rated else None,
            nvlink_tx_bytes=sent,
            nvlink_rx_bytes=received,
            pcie_generation=nvml.ask(name, "nvmlDeviceGetCurrPcieLinkGeneration", handle),
            pcie_width=nvml.ask(name, "nvmlDeviceGetCurrPcieLinkWidth", handle),
        )


def _clock_files(sys_root: Path) -> list[Path]:
    """Pick up to 8 cores spread over the machine; virtual machines state no clock."""
    files = sorted((sys_root / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return files[:: -(-len(files) // _MAX_CLOCKS)] if files else []


def _record(path: Path, interval_s: float, open_sampler: Callable[[], Sampler], ended: threading.Event) -> None:
    """Write a sample at once, one every interval, and one when the block has ended."""
    try:
        with RecordWriter(path) as writer, closing(open_sampler()) as sample:
            writer.append(sample())
            while not ended.wait(interval_s):
                writer.append(sample())
            writer.append(sample())
    except (OSError, ValueError, RunFailed) as error:
        _say(f"stopped, the run goes on: {error}")


def _say(text: str) -> None:
    sys.stderr.write(f"commprof: telemetry {printable(text)}\n")
    sys.stderr.flush()
