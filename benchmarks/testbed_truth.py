"""Does a bench find the wire that the testbed made, and what does starting ranks there cost?

    make benchmark-testbed      about 6 minutes as root; results in docs/results/testbed-truth.md

Two and four hosts at 0.2, 1 and 2.5 Gbit/s, the cells interleaved over the repeats: the fitted bus bandwidth beside the payload
that the line carries (94.9 % of its rate). The launcher: a command that does nothing on four hosts, and a bench of one small
message, which opens the process group, both timed from outside.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.benched import fit_costs
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.rundir import write_text
from commprof.testbed import network as testbed

SCRIPT = str(Path(sys.executable).parent / "commprof")
SIZES = {"200mbit": ("2M", "8M"), "1gbit": ("4M", "32M"), "2.5gbit": ("8M", "64M")}
CELLS = [(rate, num_hosts) for rate in SIZES for num_hosts in (2, 4)]
TIMEOUT_S = 120.0


def fitted(rate: str, num_hosts: int) -> float:
    """Return the fitted bus bandwidth, B/s."""
    smallest, largest = SIZES[rate]
    with tempfile.TemporaryDirectory() as root, testbed.testbed(num_hosts, parse_wire(rate)):
        run = Path(root) / "run"
        sweep = ["-b", smallest, "-e", largest, "-f", "2", "-n", "7", "-w", "2", "--place", "in", "--folder", str(run)]
        run_together([[SCRIPT, "testbed", "exec", "--", SCRIPT, "bench", *sweep]], TIMEOUT_S)
        (cost,) = fit_costs([load_run(run)]).values()
    return cost.busbw_bytes_per_s


def elapsed(*command: str) -> float:
    """Return the seconds that a command takes on four hosts, from outside."""
    start_s = time.monotonic()
    subprocess.run(
        [SCRIPT, "testbed", "exec", "--", SCRIPT, *command], check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S
    )
    return time.monotonic() - start_s


def start_times(repeats: int) -> dict[str, list[float]]:
    """Return the seconds of an empty command and of a bench of one message, interleaved."""
    found: dict[str, list[float]] = {"empty verb (commprof --version)": [], "bench of one message of 4 B, one sample": []}
    empty, bench = found.values()
    with tempfile.TemporaryDirectory() as root, testbed.testbed(4, parse_wire("1gbit")):
        for repeat in range(repeats):
            empty.append(elapsed("--version"))
            bench.append(
                elapsed("bench", "-b", "4", "-e", "4", "-n", "1", "-w", "0", "--folder", str(Path(root) / str(repeat)))
            )
    return found


def tables(busbw: dict[tuple[str, int], list[float]], starts: dict[str, list[float]]) -> Iterator[str]:
    """Yield the two tables."""
    yield "| line | hosts | payload of the line | fitted busbw, median | error, median | range |"
    yield "|---|---|---|---|---|---|"
    for (rate, num_hosts), values in busbw.items():
        line = parse_wire(rate).payload_bytes_per_s
        errors = sorted(value / line - 1 for value in values)
        yield (
            f"| {rate} | {num_hosts} | {line / 1e6:.2f} MB/s | {median(values) / 1e6:.2f} MB/s | {median(errors):+.1%} | "
            f"{errors[0]:+.1%} to {errors[-1]:+.1%} |"
        )
    yield ""
    yield "| started on 4 hosts | median | range |"
    yield "|---|---|---|"
    for name, values in starts.items():
        yield f"| {name} | {median(values):.2f} s | {min(values):.2f} to {max(values):.2f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=4, metavar="N", help="benches per cell (4)")
    args = parser.parse_args()
    busbw: dict[tuple[str, int], list[float]] = {cell: [] for cell in CELLS}
    for repeat in range(args.repeats):
        for cell in CELLS:
            busbw[cell].append(fitted(*cell))
            sys.stderr.write(f"repeat {repeat + 1}/{args.repeats} {cell[0]} on {cell[1]}: {busbw[cell][-1] / 1e6:.1f} MB/s\n")
    found = list(tables(busbw, start_times(args.repeats + 1)))
    head = [
        "# The testbed's wire, found again",
        "",
        describe_machine(),
        f"- {args.repeats} benches a cell (make benchmark-testbed)",
    ]
    text = "\n".join([*head, "", *found]) + "\n"
    write_text(args.out / "testbed-truth.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
