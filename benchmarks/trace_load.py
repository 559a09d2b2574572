"""How fast is a trace read, and in how much memory? `commprof trace`'s reader beside HolisticTraceAnalysis on the same file.

    make benchmark-trace-load TRACE=trace.json.gz HTA=folder      about 5 minutes; results in docs/results/trace-load.md

TRACE is a real trace of torch.profiler in Kineto's layout; its events are repeated until the text has 320 MB. HTA is a folder
for HolisticTraceAnalysis' own virtual environment, made there (pip, several 100 MB) if it is empty; without it only our figures
are taken.

Every load is a process of its own: seconds from the call to the result, imports not counted, and the process' peak memory
(VmHWM of /proc, which does not hold what the process was forked from). Ours is read into columns, and read and reduced, with
launches joined to kernels and steps; HolisticTraceAnalysis is `TraceAnalysis(trace_files=...)`, which joins them too. A repeat
runs every tool once, the next repeat in the opposite order; a ratio is that of one repeat's two.
"""

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.records.rundir import write_text

TEXT_BYTES = 320_000_000
TIMEOUT_S = 600.0
_EVENTS = re.compile(rb'"traceEvents":\s*\[')
_MEASURE = """
import json, re, sys, time
{imports}
start_s = time.perf_counter()
{load}
seconds = time.perf_counter() - start_s
peak_kib = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]
print(json.dumps([seconds, int(peak_kib) * 1024]))
"""
_IMPORTS = """from pathlib import Path
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace"""
COLUMNS = _MEASURE.format(imports=_IMPORTS, load="read_trace(Path(sys.argv[1]))")
REDUCED = _MEASURE.format(imports=_IMPORTS, load="reduce_trace(read_trace(Path(sys.argv[1])))")
PEER = _MEASURE.format(
    imports="import logging; logging.disable()\nfrom hta.trace_analysis import TraceAnalysis",
    load="TraceAnalysis(trace_files={0: sys.argv[1]})",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load: how long, and the process' peak memory."""

    seconds: float
    peak_bytes: int


def repeated(trace: Path, folder: Path) -> tuple[Path, Path, int]:
    """Write the trace with its events repeated, plain and packed; return both files and the number of repetitions."""
    text = gzip.decompress(trace.read_bytes()) if trace.suffix == ".gz" else trace.read_bytes()
    found = _EVENTS.search(text)
    if found is None:
        raise BadInput(f"{trace} has no traceEvents")
    head, events = text[: found.end()], text[found.end() : text.rindex(b"]")].rstrip()
    copies = max(1, round(TEXT_BYTES / len(events)))
    plain, packed = folder / "trace.json", folder / "trace.json.gz"
    whole = head + b",".join([events] * copies) + b"\n  ]" + text[text.rindex(b"]") + 1 :]
    plain.write_bytes(whole)
    packed.write_bytes(gzip.compress(whole, 6))
    return plain, packed, copies


def peer_python(folder: Path) -> Path:
    """Return the interpreter of HolisticTraceAnalysis' own environment, which is made where the folder is empty."""
    python = folder / "bin" / "python"
    if not python.exists():
        sys.stderr.write(f"installing HolisticTraceAnalysis into {folder}\n")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=TIMEOUT_S)
        wanted = ["HolisticTraceAnalysis", "pandas<3"]  # it fails on pandas 3
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True, timeout=TIMEOUT_S)
    return python


def peer_version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('HolisticTraceAnalysis'), version('pandas'))"
    hta, pandas = run_together([[str(python), "-c", code]], 60).split()
    return f"HolisticTraceAnalysis {hta} on pandas {pandas}"


def measure(commands: dict[str, list[str]], repeats: int) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for name in list(commands)[:: 1 if repeat % 2 == 0 else -1]:
            seconds, peak = json.loads(run_together([commands[name]], TIMEOUT_S).splitlines()[-1])
            loads[name].append(Load(seconds=seconds, peak_bytes=peak))
            sys.stderr.write(f"{name}: {seconds:.2f} s, {peak / 1e6:.0f} MB\n")
    return loads


def table(loads: dict[str, list[Load]], num_bytes: int) -> list[str]:
    lines = ["| reader | load | range | text per second | peak memory |", "|---|---|---|---|---|"]
    for name, own in loads.items():
        seconds = [load.seconds for load in own]
        peak = median(load.peak_bytes for load in own) / 1e6
        lines.append(
            f"| {name} | {median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s | "
            f"{num_bytes / median(seconds) / 1e6:.0f} MB/s | {peak:.0f} MB |"
        )
    return lines


def ratios(ours: Sequence[Load], peer: Sequence[Load]) -> str:
    speed = [theirs.seconds / own.seconds for own, theirs in zip(ours, peer, strict=True)]
    memory = [own.peak_bytes / theirs.peak_bytes for own, theirs in zip(ours, peer, strict=True)]
    return (
        f"Of the plain file, commprof's load is {median(speed):.1f} times as fast ({min(speed):.1f} to {max(speed):.1f}) "
        f"and takes {median(memory):.3f} of the memory ({min(memory):.3f} to {max(memory):.3f})."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE", help="a real trace, .json or .json.gz")
    parser.add_argument("--hta", type=Path, metavar="DIR", help="HolisticTraceAnalysis' virtual environment")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="interleaved repeats (5)")
    args = parser.parse_args()
    try:
        lines = run(args)
    except CommprofError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    write_text(args.out / "trace-load.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def run(args: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        plain, packed, copies = repeated(args.trace, Path(folder))
        commands = {
            "commprof, .json": [sys.executable, "-c", REDUCED, str(plain)],
            "commprof, .json.gz": [sys.executable, "-c", REDUCED, str(packed)],
            "commprof, .json, columns alone": [sys.executable, "-c", COLUMNS, str(plain)],
        }
        peer = None if args.hta is None else peer_python(args.hta)
        if peer is not None:
            commands["HolisticTraceAnalysis, .json"] = [str(peer), "-c", PEER, str(plain)]
        busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        loads = measure(commands, args.repeats)
        num_bytes, packed_bytes = plain.stat().st_size, packed.stat().st_size
    first, _, _, *rest = loads.values()
    return [
        "# Loading a trace",
        "",
        describe_machine(),
        f"- {args.repeats} interleaved repeats, load before them {busy} (1, 5, 15 minutes)",
        f"- file: {args.trace.name}, its events {copies} times: {num_bytes / 1e6:.0f} MB of JSON, "
        f"{packed_bytes / 1e6:.0f} MB packed",
        *([f"- peer: {peer_version(peer)}"] if peer is not None else []),
        "",
        *table(loads, num_bytes),
        *(["", ratios(first, rest[0])] if rest else []),
    ]


if __name__ == "__main__":
    sys.exit(main())
