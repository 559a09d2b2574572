"""How do time and memory of `commprof trace` grow with the ranks, from traces and from what ranks reduced beside the training?

    make benchmark-trace-growth          about 3 minutes; results in docs/results/trace-growth.md

A training of two gloo ranks is traced for ten steps. Every further rank is one of the two again, under its own number, on a
host of its own whose clock is up to a second off, so that there are clocks to align. Then 1,024 made-up ranks with 1,000
collectives each, reduced, show what is left to do when ranks are many.

Each `commprof trace` is a process of its own: seconds from start to end, the interpreter's included, and the peak memory of
the largest process among it and those that it starts. Reducing is timed for all ranks on this machine; a job shares it among
its nodes. A repeat runs everything once, the next in the opposite order.
"""

import argparse
import gzip
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from benchmarks.startup import SCRIPT
from commprof.analysis.traces.one_rank.collectives import Collective
from commprof.analysis.traces.one_rank.header import TraceHeader
from commprof.analysis.traces.one_rank.kineto import ReadingNotes
from commprof.analysis.traces.one_rank.rank_trace import RankTrace
from commprof.analysis.traces.one_rank.reduced import SUFFIX, write_reduced
from commprof.analysis.traces.one_rank.spans import NONE, union
from commprof.analysis.traces.one_rank.steps import StepWindow
from commprof.commbench.errors import CommprofError
from commprof.commbench.records.rundir import write_text

RANKS = (1, 2, 4, 8, 16, 32, 64)
MADE_UP = (64, 256, 1024)
TIMEOUT_S = 600.0
_NUM_STEPS, _NUM_COLLECTIVES, _PERIOD_NS = 5, 1000, 10_000_000
_CONFIG = """
model: {vocabulary: 12000, d_model: 128, layers: 2, heads: 8, feed_forward: 512}
training: {batch_size: 8, max_steps: 30, evaluate: false}
distributed: {threads_per_rank: 1, bucket_cap_mb: 0.5}
profiling: {trace_steps: 10}
"""
_MEASURE = """
import json, resource, subprocess, sys, time
start_s = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start_s
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


def traced_ranks(folder: Path) -> list[bytes]:
    """Train on two ranks and return their traces' text."""
    write_text(folder / "config.yaml", _CONFIG)
    run_together(
        [[str(SCRIPT), "train", str(folder / "config.yaml"), "--nproc", "2", "--folder", str(folder / "run")]], TIMEOUT_S
    )
    return [gzip.decompress(path.read_bytes()) for path in sorted((folder / "run" / "traces").iterdir())]


def repeated(texts: Sequence[bytes], num_ranks: int, folder: Path) -> Path:
    """Write traces of so many ranks, each on a host and a clock of its own."""
    folder.mkdir()
    for rank in range(num_ranks):
        text = texts[rank % len(texts)]
        place = b'"rank": %d, "world_size": %d' % (rank, num_ranks)
        text = re.sub(rb'"rank": \d+, "world_size": \d+', place, text)
        text = re.sub(rb'"host_name": "[^"]*"', b'"host_name": "host%d"' % rank, text)
        base = re.search(rb'"baseTimeNanoseconds": (\d+)', text)
        assert base is not None
        text = text.replace(base[0], b'"baseTimeNanoseconds": %d' % (int(base[1]) + _offset_ns(rank)))
        (folder / f"rank{rank:05d}.trace.json.gz").write_bytes(gzip.compress(text, 6))
    return folder


def _offset_ns(rank: int) -> int:
    return rank * 379_721_013 % 1_000_000_000


def made_up(num_ranks: int, folder: Path) -> Path:
    """Write reduced traces of made-up ranks, of which rank 3 comes last to every second collective."""
    rng = np.random.default_rng(0)
    for rank in range(num_ranks):
        late_ns = rng.integers(0, 500_000, _NUM_COLLECTIVES) + (rank == 3) * 400_000 * (np.arange(_NUM_COLLECTIVES) % 2)
        end_ns = 1_500_000 + rng.integers(0, 5000, _NUM_COLLECTIVES)
        write_reduced(folder / f"rank{rank:05d}{SUFFIX}", _rank(rank, num_ranks, late_ns.tolist(), end_ns.tolist()))
    return folder


def _rank(rank: int, num_ranks: int, late_ns: Sequence[int], end_ns: Sequence[int]) -> RankTrace:
    offset_ns = _offset_ns(rank)
    starts_ns = offset_ns + _PERIOD_NS * np.arange(_NUM_COLLECTIVES)
    per_step = _NUM_COLLECTIVES // _NUM_STEPS
    collectives = tuple(
        Collective(
            op="all_reduce",
            start_ns=start_ns + late,
            end_ns=start_ns + end,
            step=index // per_step,
            message_bytes=2**20,
            dtype="Float",
            group="0 [0, ...]",
            group_ranks=None,
            group_size=num_ranks,
            sequence=index,
        )
        for index, (start_ns, late, end) in enumerate(zip(starts_ns.tolist(), late_ns, end_ns, strict=True))
    )
    first_ns = starts_ns[::per_step].tolist()
    gemms_ns = offset_ns + _PERIOD_NS // 10 * np.arange(10 * _NUM_COLLECTIVES)
    return RankTrace(
        path=f"rank{rank}",
        header=TraceHeader(rank=rank, world_size=num_ranks, backend="nccl", host_name=f"host{rank // 8}-{rank}"),
        notes=ReadingNotes(text_bytes=1, lost_bytes=0, damage="", num_events=1, num_unreadable=0, num_python=0, whole_us=False),
        on_gpu=True,
        windows=tuple(
            StepWindow(number=step, start_ns=start_ns, end_ns=start_ns + per_step * _PERIOD_NS)
            for step, start_ns in enumerate(first_ns)
        ),
        collectives=collectives,
        compute=union(gemms_ns, gemms_ns + _PERIOD_NS // 20),
        memory=NONE,
        launch_idle=NONE,
        lag_ns=None,
        num_gpu_events=len(gemms_ns),
        num_orphans=0,
        span_ns=_PERIOD_NS * _NUM_COLLECTIVES,
    )


Costs = dict[str, list[tuple[float, int]]]


def measure(commands: dict[str, list[str]], repeats: int) -> Costs:
    """Return seconds and peak bytes of each command, once a repeat."""
    found: Costs = {name: [] for name in commands}
    for repeat in range(repeats):
        for name in list(commands)[:: 1 if repeat % 2 == 0 else -1]:
            seconds, peak = json.loads(run_together([[sys.executable, "-c", _MEASURE, *commands[name]]], TIMEOUT_S))
            found[name].append((seconds, peak))
            sys.stderr.write(f"{name}: {seconds:.2f} s, {peak / 1e6:.0f} MB\n")
    return found


def cells(costs: Sequence[tuple[float, int]]) -> str:
    seconds = [own for own, _ in costs]
    peak = median(own for _, own in costs)
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}) | {peak / 1e6:.0f} MB"


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def from_traces(folder: Path, repeats: int) -> list[str]:
    """Measure and lay out raw against reduced."""
    texts = traced_ranks(folder)
    raw = {ranks: repeated(texts, ranks, folder / f"raw{ranks}") for ranks in RANKS}
    reduced = {ranks: folder / f"reduced{ranks}" for ranks in RANKS}
    reducing = {
        f"reduce {ranks}": [str(SCRIPT), "trace", "--reduce", str(raw[ranks]), "--out", str(reduced[ranks])] for ranks in RANKS
    }
    costs = measure(reducing, repeats)
    costs |= measure({f"raw {ranks}": [str(SCRIPT), "trace", str(raw[ranks])] for ranks in RANKS}, repeats)
    costs |= measure({f"merge {ranks}": [str(SCRIPT), "trace", str(reduced[ranks])] for ranks in RANKS}, repeats)
    small_kb = size_mb(reduced[RANKS[-1]]) / RANKS[-1] * 1e3
    return [
        f"Traces of {len(texts[0]) / 1e6:.1f} MB of JSON a rank; reduced {small_kb:.1f} kB.",
        "",
        "| ranks | traces, packed | `trace` | peak | `trace --reduce` | peak | reduced | `trace` of reduced | peak |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {ranks} | {size_mb(raw[ranks]):.1f} MB | {cells(costs[f'raw {ranks}'])} | {cells(costs[f'reduce {ranks}'])} | "
            f"{size_mb(reduced[ranks]):.2f} MB | {cells(costs[f'merge {ranks}'])} |"
            for ranks in RANKS
        ),
    ]


def from_made_up(folder: Path, repeats: int) -> list[str]:
    """Measure and lay out what merging costs when ranks are many."""
    folders = {ranks: made_up(ranks, folder / f"made-up{ranks}") for ranks in MADE_UP}
    costs = measure({f"made-up {ranks}": [str(SCRIPT), "trace", str(own)] for ranks, own in folders.items()}, repeats)
    return [
        f"Made-up ranks, {_NUM_COLLECTIVES:,} collectives each in {_NUM_STEPS} steps, every rank on a clock of its own:",
        "",
        "| ranks | reduced | `trace` of reduced | peak |",
        "|---|---|---|---|",
        *(f"| {ranks:,} | {size_mb(own):.1f} MB | {cells(costs[f'made-up {ranks}'])} |" for ranks, own in folders.items()),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="interleaved repeats (3)")
    args = parser.parse_args()
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    try:
        with tempfile.TemporaryDirectory() as folder:
            tables = [*from_traces(Path(folder), args.repeats), "", *from_made_up(Path(folder), args.repeats)]
    except CommprofError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    lines = [
        "# Traces of many ranks",
        "",
        describe_machine(),
        f"- {args.repeats} interleaved repeats, median (range); load before them {busy} (1, 5, 15 minutes)",
        "",
        *tables,
    ]
    write_text(args.out / "trace-growth.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
