"""Does `commprof links` time copies between host and GPU as a plain loop with CUDA events does? Target: within 3 %.

    make benchmark-copies              a few minutes on a machine with a GPU; results in docs/results/host-device-copies.md

Both measure the first visible GPU in turn, pinned and pageable, both directions. A figure is the median over the repeats of
each repeat's median; the ratio is commprof's over the loop's, its range that of the repeats.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import describe_machine
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import read_records, write_text
from commprof.commbench.units import format_bytes, format_rate

SCRIPT = Path(sys.executable).parent / "commprof"
SIZES = (2**20, 2**24, 2**28)  # -b 1M -e 256M -f 16
ITERATIONS, WARMUP_ITERATIONS = 20, 3
TARGET = 0.03

Copy = tuple[str, bool, int]  # kind, pinned, bytes


def by_commprof(folder: Path) -> dict[Copy, float]:
    """Return the median seconds of each copy, as `commprof links` writes them down."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    words = ["-b", "1M", "-e", "256M", "-f", "16", "-n", str(ITERATIONS), "-w", str(WARMUP_ITERATIONS), "--folder", str(folder)]
    subprocess.run(
        [str(SCRIPT), "links", *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "CUDA_VISIBLE_DEVICES": first}
    )
    measured = read_records(folder / "links.jsonl", LinkMeasurement)
    return {(m.kind, m.pinned, m.message_bytes): m.median_s for m in measured if m.pinned is not None}


def by_plain_loop() -> dict[Copy, float]:
    """Return the same from a loop that anybody would write."""
    found: dict[Copy, float] = {}
    for pinned, size in product((True, False), SIZES):
        host = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
        gpu = torch.ones(size, dtype=torch.uint8, device="cuda")
        found["host_to_device", pinned, size] = median(copy_times_s(host, gpu))
        found["device_to_host", pinned, size] = median(copy_times_s(gpu, host))
    return found


def copy_times_s(source: torch.Tensor, target: torch.Tensor) -> Iterator[float]:
    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(ITERATIONS)]  # type: ignore[no-untyped-call]
    for _ in range(WARMUP_ITERATIONS):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    for start, end in events:
        start.record()
        target.copy_(source, non_blocking=True)
        end.record()
    torch.cuda.synchronize()
    return (start.elapsed_time(end) * 1e-3 for start, end in events)


def table(ours: list[dict[Copy, float]], plain: list[dict[Copy, float]]) -> list[str]:
    """Lay out one row per copy."""
    lines = ["| copy | memory | size | commprof links | plain loop | ratio of times | range | within 3 % |", "|" + "---|" * 8]
    for kind, pinned, size in sorted(plain[0]):
        copy = (kind, pinned, size)
        ratios = [left[copy] / right[copy] for left, right in zip(ours, plain, strict=True)]
        left_s, right_s = median(run[copy] for run in ours), median(run[copy] for run in plain)
        lines.append(
            f"| {kind.replace('_', ' ')} | {'pinned' if pinned else 'pageable'} | {format_bytes(size)} | "
            f"{format_rate(size / left_s)} | {format_rate(size / right_s)} | {left_s / right_s:.3f} | "
            f"{min(ratios):.3f} to {max(ratios):.3f} | {'yes' if abs(left_s / right_s - 1) <= TARGET else 'no'} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="interleaved repeats (9)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("host_device_copies: error: torch sees no NVIDIA GPU here; run this on a machine that has one\n")
        return 2
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            ours.append(by_commprof(Path(folder) / str(repeat)))
            plain.append(by_plain_loop())
    facts = [describe_machine(), f"- GPU: {torch.cuda.get_device_name()}", f"- {args.repeats} interleaved repeats"]
    lines = ["# Copies between host and GPU", "", *facts, "", *table(ours, plain)]
    write_text(args.out / "host-device-copies.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
