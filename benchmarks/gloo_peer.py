"""What does commprof's all-reduce add to gloo's? `commprof bench` beside gloo's own C++ benchmark and PARAM's comms.py.

    make benchmark-gloo GLOO=path/to/gloo PARAM=path/to/param      about 10 minutes; results in docs/results/gloo-peer.md

GLOO is gloo's benchmark (built with cmake -DBUILD_BENCHMARK=1) or the checkout it was built in, PARAM a checkout. Without
them only our figures are taken. Two processes on this host, sum of float32, over TCP on the interface of the host's name,
the same number of calls, after warm-ups long enough for the second or so in which freshly started processes are slower. A
repeat runs every tool once at one size, one right after the other, and the next repeat in the opposite order; a ratio is
that of two neighbours, so that a machine that drifts drifts for both.

What each tool calls the time of one call, and which figure of ours is alike
- gloo's runner times every blocking call on rank 0 alone. Calls come back to back, no barrier between them, in place, one
  buffer; p50 over calls. The ring itself keeps the ranks in step. Our like is the *isolated in-place call, fastest rank*:
  it left the barrier last, so it waited for nobody either. It is the smaller of two times, which on a busy machine flatters
  us: back to back, the same call then takes up to a seventh longer.
- The *slowest rank* is what our table prints. It includes the time by which one rank left our barrier before the other.
  gloo has no such barrier and no such time, so this figure is an upper bound of the like.
- *Pipelined* calls are launched together and waited for once. torch works on two of them at a time; gloo's runner never does.
- PARAM's comms.py (blocking) also has a barrier before each call. A rank's figure is its mean over calls, and its p50 is taken
  over ranks, for two ranks their mean. Our like is the mean over isolated calls and over both ranks: no p50 at all.

Two of gloo's algorithms: allreduce_ring_chunked (fixed buffers, set up once: 7 messages a call and rank on 2 ranks) and
new_allreduce_ring, which is what torch calls, here without torch (12 messages: ends announce every segment to each other).
torch adds two hand-overs between threads, Python a few microseconds. A hand-over is cheap when the woken thread runs at
once, which --real-time grants to all tools alike (chrt -r 5, for root); else it waits where two processes of four threads
share two cores. Large messages turn it round: the chunked ring copies what it gathers out of an inbox, and the runner gives
the new one an input apart from the output; torch receives in place.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.commbench.errors import BadInput, CommprofError, RunFailed
from commprof.commbench.machine.hardware import git_commit
from commprof.commbench.records.rundir import read_records, write_text
from commprof.commbench.records.types import CollectiveMeasurement
from commprof.commbench.units import format_bytes, format_seconds, parse_bytes

CALLS = {"4K": 500, "64K": 500, "1M": 300, "4M": 100, "16M": 40, "64M": 15}
WARMUPS = {"4K": 1000, "64K": 1000, "1M": 300, "4M": 50, "16M": 10, "64M": 5}
REAL_TIME = ("chrt", "-r", "5")
TIMEOUT_S = 300.0
GLOO_ALGORITHMS = ("allreduce_ring_chunked", "new_allreduce_ring")
PARAM = "comms.py"
OUR_MEAN = "isolated, mean of calls and ranks"

Figures = dict[str, float]  # name of a statistic -> seconds per call
Tool = Callable[["Size"], Figures]  # what a tool says of one call


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One message size, how often it is timed and warmed up, and what is put before every command."""

    num_bytes: int
    calls: int
    warmups: int
    prefix: tuple[str, ...]


def run_commprof(size: Size) -> Figures:
    """Bench one size in place and return each mode's medians over calls, for the fastest and for the slowest rank."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        sweep = ("-b", str(size.num_bytes), "-e", str(size.num_bytes), "-n", str(size.calls), "-w", str(size.warmups))
        bench = (str(Path(sys.executable).parent / "commprof"), "bench", "all_reduce", "--nproc", "2", "--backend", "gloo")
        alike = ("--place", "in", "--hot", "--mode", "isolated,pipelined")  # gloo's runner has one buffer
        run_together([[*size.prefix, *bench, *alike, *sweep, "--folder", str(folder)]], TIMEOUT_S)
        records = list(read_records(folder / "collectives.jsonl", CollectiveMeasurement))
    figures: Figures = {}
    for record in records:
        figures[f"{record.mode}, fastest rank"] = median(record.fastest_rank_s)
        figures[f"{record.mode}, slowest rank"] = median(record.slowest_rank_s)
        if record.mode == "isolated":
            figures[OUR_MEAN] = fmean((*record.slowest_rank_s, *record.fastest_rank_s))
    return figures


def run_gloo(binary: Path, size: Size) -> Figures:
    """Run both algorithms on two processes and return rank 0's p50."""
    return {algorithm: gloo_p50_s(_gloo_output(binary, algorithm, size), size.num_bytes) for algorithm in GLOO_ALGORITHMS}


def _gloo_output(binary: Path, algorithm: str, size: Size) -> str:
    interface = os.environ.get("GLOO_SOCKET_IFNAME")  # torch's gloo follows it
    elements = size.num_bytes // 4
    # Its check expects sums of 4 i + 1, which float32 cannot hold from 2^24 on, and calls the right result wrong there.
    checked = 4 * elements <= 2**24
    with tempfile.TemporaryDirectory() as store:
        ranks = [
            [
                *(*size.prefix, str(binary), "--size", "2", "--rank", str(rank), "--shared-path", store, "--prefix", "peer"),
                *("--transport", "tcp", *(("--tcp-device", interface) if interface else ()), "--nanos"),
                *("--elements", str(elements), "--warmup-iters", str(size.warmups), *(() if checked else ("--no-verify",))),
                *("--iteration-count", str(size.calls), algorithm),
            ]
            for rank in range(2)
        ]
        return run_together(ranks, TIMEOUT_S)


def gloo_p50_s(output: str, num_bytes: int) -> float:
    """Find the row of a size in what gloo's benchmark printed: bytes, elements, min, p50, ... in ns."""
    for words in map(str.split, output.splitlines()):
        if len(words) == 8 and words[0] == str(num_bytes):
            return int(words[3]) * 1e-9
    raise RunFailed(f"gloo's benchmark printed no row for {num_bytes} bytes; build it from a current checkout")


def run_param(checkout: Path, size: Size) -> Figures:
    """Run comms.py, blocking, on two ranks and return its p50."""
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "param_bench").symlink_to(checkout.absolute())  # the name its modules import each other by
        command = [
            *size.prefix,
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "param_bench.train.comms.pt.comms", "--collective", "all_reduce", "--backend", "gloo", "--device", "cpu"),
            *("--begin-size", str(size.num_bytes), "--end-size", str(size.num_bytes), "--blocking", "1"),
            *("--num_iters", str(size.calls), "--w", str(size.warmups)),
        ]
        output = run_together([command], TIMEOUT_S, {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    return {PARAM: param_p50_s(output, size.num_bytes)}


def param_p50_s(output: str, num_bytes: int) -> float:
    """Find the row of a size in what comms.py printed: name, bytes, elements, p50, ... in us."""
    for words in map(str.split, output.splitlines()):
        if len(words) > 3 and words[0].startswith("COMMS-RES-all_reduce") and words[1] == str(num_bytes):
            return float(words[3]) * 1e-6
    raise RunFailed(f"PARAM's comms.py printed no row for {num_bytes} bytes; take a current checkout")


def gloo_binary(path: Path) -> Path:
    """Return the benchmark that `path` is or contains; raise BadInput where there is none."""
    for candidate in (path, path / "build/gloo/benchmark/benchmark"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.absolute()
    raise BadInput(f"--gloo {path} is no program and has no build/gloo/benchmark/benchmark; build with -DBUILD_BENCHMARK=1")


def param_checkout(path: Path) -> Path:
    """Return PARAM's checkout; raise BadInput where it is not one."""
    if not (path / "train/comms/pt/comms.py").is_file():
        raise BadInput(f"--param {path} has no train/comms/pt/comms.py; name a checkout of PARAM")
    return path


def measure(tools: list[Tool], sizes: list[str], repeats: int, prefix: tuple[str, ...]) -> Iterator[tuple[str, Figures]]:
    """Yield (size, all tools' figures) once a repeat and size."""
    for repeat in range(repeats):
        for size in sizes:
            figures: Figures = {}
            for tool in tools if repeat % 2 == 0 else reversed(tools):
                figures |= tool(Size(num_bytes=parse_bytes(size), calls=CALLS[size], warmups=WARMUPS[size], prefix=prefix))
            sys.stderr.write(f"repeat {repeat + 1}/{repeats}, {size}: {_brief(figures)}\n")
            yield size, figures


def _brief(figures: Figures) -> str:
    return "; ".join(f"{name} {format_seconds(seconds)}" for name, seconds in figures.items())


def report(found: dict[str, list[Figures]]) -> Iterator[str]:
    """Yield Markdown: our own figures, then each peer's beside ours, then gloo's two algorithms beside each other."""
    names = {name for repeats in found.values() for figures in repeats for name in figures}
    peers = [name for name in (*GLOO_ALGORITHMS, PARAM) if name in names]
    ours = sorted(names - {*peers, OUR_MEAN})
    yield from _own_table(found, ours)
    for peer in peers:
        yield from _ratio_table(found, [OUR_MEAN] if peer == PARAM else ours, peer, f"Beside {peer}")
    if set(GLOO_ALGORITHMS) <= names:
        yield from _ratio_table(found, GLOO_ALGORITHMS[1:], GLOO_ALGORITHMS[0], "gloo's two algorithms")


def _own_table(found: dict[str, list[Figures]], ours: Sequence[str]) -> Iterator[str]:
    yield from ("", "## commprof bench", "", "| statistic | size | median | range |", "|---|---|---|---|")
    for name in ours:
        for size, repeats in found.items():
            times_s = [figures[name] for figures in repeats]
            span = f"{format_seconds(min(times_s))} to {format_seconds(max(times_s))}"
            yield f"| {name} | {_title(size)} | {format_seconds(median(times_s))} | {span} |"


def _ratio_table(found: dict[str, list[Figures]], ours: Sequence[str], peer: str, title: str) -> Iterator[str]:
    yield from (
        "",
        f"## {title}",
        "",
        f"| statistic | size | time | {peer} | ratio | range |",
        "|---|---|---|---|---|---|",
    )
    for name in ours:
        for size, repeats in found.items():
            own_s, peer_s = (median(figures[key] for figures in repeats) for key in (name, peer))
            ratios = [figures[name] / figures[peer] for figures in repeats]
            yield (
                f"| {name} | {_title(size)} | {format_seconds(own_s)} | {format_seconds(peer_s)} | {median(ratios):.2f} | "
                f"{min(ratios):.2f} to {max(ratios):.2f} |"
            )


def _title(size: str) -> str:
    return format_bytes(parse_bytes(size))


def _settings(args: argparse.Namespace) -> Iterator[str]:
    yield describe_machine()
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    yield f"- 2 processes, {args.repeats} interleaved repeats, load before them {load} (1, 5, 15 minutes)"
    calls = ", ".join(f"{CALLS[size]} at {_title(size)} ({WARMUPS[size]})" for size in args.sizes)
    yield f"- calls per run (untimed before them): {calls}"
    yield f"- scheduling: {'chrt -r 5 for every tool' if args.real_time else 'as started'}"
    for name, path in (("gloo", args.gloo), ("PARAM", args.param)):
        if path is not None:
            folder = path if path.is_dir() else path.parent
            yield f"- {name}: commit {(git_commit(folder) or 'unknown')[:12]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result there (printed only)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="interleaved repeats (5)")
    parser.add_argument("--sizes", nargs="+", choices=CALLS, default=list(CALLS), metavar="SIZE", help="which sizes (all)")
    parser.add_argument("--gloo", type=Path, metavar="PATH", help="gloo's benchmark, or the checkout it was built in")
    parser.add_argument("--param", type=Path, metavar="DIR", help="a checkout of PARAM")
    parser.add_argument("--real-time", action="store_true", help="run every tool under chrt -r 5, which needs root")
    args = parser.parse_args()
    prefix = REAL_TIME if args.real_time else ()
    try:
        tools: list[Tool] = [run_commprof]
        if args.gloo is not None:
            tools.append(partial(run_gloo, gloo_binary(args.gloo)))
        if args.param is not None:
            tools.append(partial(run_param, param_checkout(args.param)))
        lines = ["# All-reduce on 2 processes beside gloo's own benchmark", "", *_settings(args)]
        found: dict[str, list[Figures]] = {size: [] for size in args.sizes}
        for size, figures in measure(tools, args.sizes, args.repeats, prefix):
            found[size].append(figures)
    except CommprofError as error:
        sys.stderr.write(f"gloo_peer: error: {error}\n")
        return error.exit_code
    lines += report(found)
    if args.out is not None:
        write_text(args.out / f"gloo-peer{'-real-time' if args.real_time else ''}.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
