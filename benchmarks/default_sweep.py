"""How long does the default all-reduce sweep take on two gloo ranks, and how well does it know its medians afterwards?

    make benchmark-sweep      about 6 minutes; results in docs/results/default-sweep.md

`commprof bench --nproc 2` as users start it, 8 B to 64 MiB, in and out of place, whole command timed. Every second sweep runs
under `chrt -r 5` where the system allows it: a real-time priority lets a woken thread run at once, so the difference between
the two is what the scheduler does to ranks, each with four threads, that share cores. A size counts as known when the 95 %
interval of its median is within 2 % of the median, in every placement.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.commbench.records.rundir import read_records, write_text
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.spread import relative_half_width

PRECISION = 0.02
TIMEOUT_S = 300.0
REAL_TIME = ("chrt", "-r", "5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep: its wall time and, per size, the worst placement's relative half width of the median."""

    elapsed_s: float
    half_widths: dict[int, float]

    @property
    def known(self) -> float:
        return sum(width <= PRECISION for width in self.half_widths.values()) / len(self.half_widths)


def sweep(prefix: tuple[str, ...]) -> Sweep:
    """Run the default sweep once."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        command = [*prefix, str(Path(sys.executable).parent / "commprof"), "bench", "--nproc", "2", "--folder", str(folder)]
        start_s = time.monotonic()
        run_together([command], TIMEOUT_S)
        elapsed_s = time.monotonic() - start_s
        widths: dict[int, float] = {}
        for record in read_records(folder / "collectives.jsonl", CollectiveMeasurement):
            size = record.message_bytes
            widths[size] = max(widths.get(size, 0.0), relative_half_width(record.slowest_rank_s))
    return Sweep(elapsed_s=elapsed_s, half_widths=widths)


def real_time_allowed() -> bool:
    """Say whether this user may take a real-time priority."""
    if shutil.which("chrt") is None:
        return False
    return subprocess.run([*REAL_TIME, "true"], capture_output=True, check=False).returncode == 0


def report(found: dict[str, list[Sweep]]) -> Iterator[str]:
    """Yield Markdown: one row a way of scheduling."""
    yield from ("| scheduling | sweeps | wall time, median (range) | sizes known to 2 %, median (range) |", "|---|---|---|---|")
    for name, sweeps in found.items():
        times, known = sorted(s.elapsed_s for s in sweeps), sorted(s.known for s in sweeps)
        yield (
            f"| {name} | {len(sweeps)} | {median(times):.1f} s ({times[0]:.1f} to {times[-1]:.1f}) | "
            f"{median(known):.0%} ({known[0]:.0%} to {known[-1]:.0%}) |"
        )
    yield from ("", "Half width of the median's 95 % interval, median over sweeps:", "")
    yield from (f"| size (B) | {' | '.join(found)} |", "|---|" + "---|" * len(found))
    for size in next(iter(found.values()))[0].half_widths:
        widths = (median(s.half_widths[size] for s in sweeps) for sweeps in found.values())
        yield f"| {size} | {' | '.join(f'{width:.1%}' for width in widths)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result there (printed only)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="sweeps of each kind, interleaved (3)")
    args = parser.parse_args()
    ways: dict[str, tuple[str, ...]] = {"as started": ()}
    if real_time_allowed():
        ways["under chrt -r 5"] = REAL_TIME
    found: dict[str, list[Sweep]] = {name: [] for name in ways}
    for repeat in range(args.repeats):
        for name, prefix in ways.items():
            found[name].append(sweep(prefix))
            sys.stderr.write(f"{repeat + 1}/{args.repeats} {name}: {found[name][-1].elapsed_s:.1f} s\n")
    lines = ["# The default sweep on two gloo ranks", "", describe_machine(), "", *report(found)]
    if args.out is not None:
        write_text(args.out / "default-sweep.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
