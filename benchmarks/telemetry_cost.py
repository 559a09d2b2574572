"""What does telemetry cost a run? The same work with it and without, in turns: A B B A, A B B A, ...

Two gloo ranks with one thread each do blocks of one kind of work, a matrix product or an all-reduce of 4 MiB. Rank 0 times the
blocks and, in the B ones, samples its host once a second and at both ends, which is more often than in a run. Each B is
compared with the A beside it, so a machine that drifts drifts for both. The control compares two A that stand side by side:
what it shows is noise. The CPU time of one sample is also measured alone.

    make benchmark-telemetry           about 4 minutes on 2 cores; results in docs/results/telemetry-cost.md
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from benchmarks.machine import describe_machine
from commprof.commbench.machine.telemetry import HostSampler, telemetry
from commprof.commbench.records.rundir import write_text
from commprof.commbench.spread import median_interval

REPO = Path(__file__).parents[1]
INTERVAL_S = 1.0
LIMIT = 0.01
MESSAGE_ELEMENTS = 2**20
PATTERN = (False, True, True, False)  # A B B A: whether the block has telemetry


def works() -> dict[str, Callable[[], object]]:
    matrix, message = torch.rand(512, 512), torch.ones(MESSAGE_ELEMENTS)

    def reduce_message() -> None:
        message.fill_(1.0)  # a sum that is never reset overflows
        dist.all_reduce(message)

    return {"matrix product, 512 x 512": lambda: matrix @ matrix, "all-reduce, 4 MiB": reduce_message}


def block_s(work: Callable[[], object], calls: int) -> float:
    """Time a block of calls from a barrier on, so that both ranks start it together."""
    dist.barrier()
    start_s = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start_s


def calls_for(work: Callable[[], object], seconds: float) -> int:
    """Return how many calls take that long on the slower rank; the same on both, so that their collectives match."""
    block_s(work, 20)
    needed = torch.tensor(seconds / (block_s(work, 50) / 50), dtype=torch.float64)
    dist.all_reduce(needed, op=dist.ReduceOp.MIN)
    return max(1, int(needed))


def rank_main(rank: int, folder: Path, repeats: int, seconds: float) -> None:
    """Do every block as one rank; rank 0 prints {work: [seconds of each block]} as JSON."""
    torch.set_num_threads(1)
    store = torch._C._distributed_c10d.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60 + 10 * seconds))
    times: dict[str, list[float]] = {}
    for name, work in works().items():
        calls = calls_for(work, seconds)
        for number, sampled in enumerate(PATTERN * repeats):
            with telemetry(folder / "telemetry.jsonl", interval_s=INTERVAL_S) if sampled and rank == 0 else nullcontext():
                times.setdefault(name, []).append(block_s(work, calls))
            if rank == 0:
                sys.stderr.write(f"{name}: block {number + 1}/{len(PATTERN) * repeats}\n")
    dist.destroy_process_group()
    if rank == 0:
        sys.stdout.write(json.dumps(times))


def measure(repeats: int, seconds: float) -> dict[str, list[float]]:
    """Start both ranks and return rank 0's times; none outlives this call."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.telemetry_cost", "--folder", folder]
        command += ["--repeats", str(repeats), "--seconds", str(seconds)]
        ranks = [
            subprocess.Popen([*command, "--rank", str(rank)], cwd=REPO, stdout=subprocess.PIPE, text=True) for rank in (0, 1)
        ]
        try:
            shown, _ = ranks[0].communicate(timeout=120 + 4 * 2 * len(PATTERN) * repeats * seconds)
            ranks[1].wait(timeout=60)
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        if any(rank.returncode for rank in ranks):
            raise SystemExit(f"ranks ended with {[rank.returncode for rank in ranks]}; their errors stand above")
        times: dict[str, list[float]] = json.loads(shown)
        return times


def ratios(times: list[float]) -> tuple[list[float], list[float]]:
    """Return with over without for each neighbouring A and B, and without over without for each A A (the control)."""
    quads = [times[first : first + 4] for first in range(0, len(times), 4)]
    cost = [ratio for a, b, c, d in quads for ratio in (b / a, c / d)]
    control = [after[0] / before[3] for before, after in pairwise(quads)]
    return cost, control


def sample_cpu_s(samples: int = 200) -> float:
    """Return the CPU time of one sample in its own thread."""
    sampler = HostSampler()
    sampler()
    start_s = time.thread_time()
    for _ in range(samples):
        sampler()
    return (time.thread_time() - start_s) / samples


def table(found: dict[str, list[float]]) -> Iterable[str]:
    yield "| work | without (median) | with (median) | cost: with/without - 1 | 95 % interval | control | 95 % interval |"
    yield "|---|---|---|---|---|---|---|"
    for name, times in found.items():
        without = median(time_s for time_s, sampled in zip(times, PATTERN * (len(times) // 4), strict=True) if not sampled)
        sampled = median(time_s for time_s, sampled in zip(times, PATTERN * (len(times) // 4), strict=True) if sampled)
        cells = " | ".join(f"{median(values) - 1:+.2%} | {interval(values)}" for values in ratios(times))
        yield f"| {name} | {without:.3f} s | {sampled:.3f} s | {cells} |"


def verdict(costs: list[list[float]]) -> str:
    """Say whether the median cost is within the limit, as far as its interval can tell."""
    bounds = [median_interval(values) for values in costs]
    if max(high for _, high in bounds) - 1 <= LIMIT:
        return f"The slowdown is at most {LIMIT:.0%} with 95 % confidence."
    if max(low for low, _ in bounds) - 1 > LIMIT:
        return f"The slowdown is above {LIMIT:.0%}."
    return f"The machine's noise is larger than {LIMIT:.0%}, so the wall times cannot tell; the CPU time of a sample can."


def interval(values: list[float]) -> str:
    low, high = median_interval(values)
    return f"{low - 1:+.2%} to {high - 1:+.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write telemetry-cost.md there (only printed)")
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="A B B A groups of each work, 2 or more (15)")
    parser.add_argument("--seconds", type=float, default=1.5, metavar="S", help="length of a block (1.5)")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank is not None:
        rank_main(args.rank, args.folder, args.repeats, args.seconds)
        return
    if args.repeats < 2:
        parser.error("--repeats must be 2 or more: the control stands between two groups")
    alone_s = sample_cpu_s()
    found = measure(args.repeats, args.seconds)
    lines = ["# Cost of telemetry", "", describe_machine()]
    lines += [f"- {args.repeats} groups A B B A of {args.seconds:g} s blocks, 2 gloo ranks, a sample every {INTERVAL_S:g} s"]
    lines += [
        "",
        *table(found),
        "",
        f"One sample takes {alone_s * 1e3:.2f} ms of CPU time: {alone_s / INTERVAL_S:.3%} of one core.",
    ]
    lines += [verdict([ratios(times)[0] for times in found.values()])]
    if args.out is not None:
        write_text(args.out / "telemetry-cost.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
