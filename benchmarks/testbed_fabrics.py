"""The rows of testbed_truth.py on fabrics: lines inside hosts, shared and unequal ones, a narrow switch, delay and loss.

Each row makes its testbed, measures one figure in it (a bench's bus bandwidth, the payload of TCP streams, a round trip,
the frames that tc counts) and has beside it what was asked for.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import run_together
from commprof.analysis.runs.load import load_run
from commprof.commbench.machine.wire import parse_wire, payload_bytes_per_s
from commprof.testbed import network as testbed

SCRIPT = str(Path(sys.executable).parent / "commprof")
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricRow:
    """`asked` and what `measure` returns are in `unit`."""

    hosts: int
    ranks_per_host: int
    wire: str
    what: str
    asked: float
    unit: str
    measure: Callable[[], float]

    def measured(self) -> float:
        with testbed.testbed(self.hosts, parse_wire(self.wire), ranks_per_host=self.ranks_per_host):
            return self.measure()

    @property
    def name(self) -> str:
        return f"{self.hosts} x {self.ranks_per_host} | {self.wire} | {self.what}"


def busbw(message: str, *place: str) -> Callable[[], float]:
    """Return what benches the bus bandwidth of one message, MB/s, on the ranks that `place` says.

    Its time is the slowest rank's: the fastest, which a fit takes, leaves a ring with one slow line long before the message is
    through.
    """

    def measure() -> float:
        with tempfile.TemporaryDirectory() as root:
            run = Path(root) / "run"
            sweep = ("-b", message, "-e", message, "-n", "5", "-w", "2", "--place", "in", "--folder", str(run))
            run_together([[SCRIPT, "testbed", "exec", *place, "--", SCRIPT, "bench", *sweep]], TIMEOUT_S)
            return next(own.busbw_bytes_per_s for own in load_run(run).collectives) / 1e6

    return measure


def streams() -> dict[str, list[float]]:
    """Return what the streams from host 0 to host 1 found, by the name of the figure."""
    said = run_together(
        [[SCRIPT, "testbed", "exec", "--hosts", "2", "--", sys.executable, "-m", "benchmarks.testbed_stream"]], TIMEOUT_S
    )
    found: dict[str, list[float]] = {}
    for line in said.splitlines():
        for name, value in json.loads(line).items():
            found.setdefault(name, []).append(value)
    return found


def payload() -> float:
    return sum(streams()["bytes_per_s"]) / 1e6


def delay() -> float:
    """Return half of a round trip, ms."""
    return median(streams()["round_trip_s"]) / 2 * 1e3


def lost() -> float:
    """Return the share of host 1's frames that were lost, %."""
    streams()
    words = ("tc", "-n", "commprof-switch", "-s", "-j", "qdisc", "show", "dev", "port1")
    shown: list[dict[str, Any]] = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=10).stdout)
    counted = {queue["kind"]: queue for queue in shown}
    dropped, arrived = counted["clsact"]["drops"], counted["tbf"]["packets"]
    return float(dropped / (dropped + arrived) * 100)


def _mb_per_s(gbit_per_s: float) -> float:
    return payload_bytes_per_s(gbit_per_s * 1e9) / 1e6


def _row(
    size: tuple[int, int], wire: str, what: str, asked: float, measure: Callable[[], float], unit: str = "MB/s"
) -> FabricRow:
    return FabricRow(hosts=size[0], ranks_per_host=size[1], wire=wire, what=what, asked=asked, unit=unit, measure=measure)


ONE_HOST = ("--hosts", "1")
SLOW_THIRD = "1gbit,1gbit,200mbit,1gbit"
ROWS = (
    _row((2, 2), "1gbit", "two ranks' streams over one line", _mb_per_s(1), payload),
    _row((2, 2), "1gbit+inside2gbit", "ring in one host", _mb_per_s(2), busbw("32M", *ONE_HOST)),
    _row((2, 2), "1gbit+inside4gbit", "ring in one host", _mb_per_s(4), busbw("64M", *ONE_HOST)),
    _row((2, 2), "1gbit+inside10gbit", "ring in one host", _mb_per_s(10), busbw("128M", *ONE_HOST)),
    _row((2, 2), "1gbit+inside10gbit", "ring over both hosts", _mb_per_s(1), busbw("32M")),
    _row((2, 1), "1gbit,200mbit", "stream to the slow host", _mb_per_s(0.2), payload),
    _row((2, 1), "200mbit,1gbit", "stream from the slow host", _mb_per_s(0.2), payload),
    _row((4, 1), SLOW_THIRD, "ring, the slow line's rate", _mb_per_s(0.2), busbw("16M")),
    _row((2, 2), "1gbit+spine500mbit", "two streams through the switch", _mb_per_s(0.5), payload),
    _row((4, 1), "1gbit+spine2gbit", "ring, a quarter of the switch", _mb_per_s(0.5), busbw("32M")),
    _row((2, 1), "1gbit+5ms", "half a round trip", 5.0, delay, "ms"),
    _row((2, 1), "200mbit+5ms", "stream", _mb_per_s(0.2), payload),
    _row((2, 1), "100mbit+loss1%", "frames lost", 1.0, lost, "%"),
)


def fabric_table(repeats: int, rows: Sequence[FabricRow] = ROWS) -> Iterator[str]:
    """Measure each row so many times, interleaved, and yield the table."""
    found: dict[str, list[float]] = {row.name: [] for row in rows}
    for repeat in range(repeats):
        for row in rows:
            found[row.name].append(row.measured())
            sys.stderr.write(f"repeat {repeat + 1}/{repeats} {row.name}: {found[row.name][-1]:.4g} {row.unit}\n")
    yield "| hosts x ranks | wire | what | asked for | measured, median | error, median | range |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        errors = sorted(value / row.asked - 1 for value in found[row.name])
        middle = f"{median(found[row.name]):.4g} {row.unit}"
        spread = f"{errors[0]:+.1%} to {errors[-1]:+.1%}"
        yield f"| {row.name} | {row.asked:.4g} {row.unit} | {middle} | {median(errors):+.1%} | {spread} |"
