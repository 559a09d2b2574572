"""Do HolisticTraceAnalysis, TraceLens and `commprof trace` find the same in a trace, and at what cost?

    make benchmark-trace-peers PEERS=/path/to/python TRACES="a.json.gz b.json.gz"    docs/results/trace-peers.md

PEERS is the Python of an environment in which both peers can be imported; neither is a dependency of ours. Each tool reads
each trace in processes of its own. All are asked what is the same in their definitions, over the whole trace: the time from the
first GPU event to the end of the last, the union of kernels that do not communicate, what no GPU work covers, and
communication that no computation covers. Seconds are the processor's, loading and what the answer takes. Then, of traces whose
collectives carry a size, each kind's number, median duration and bytes over it, which TraceLens tells as well.
"""

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.commbench.records.rundir import write_text

_DEADLINE_S = 300
_PEAK = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024"
_HEAD = """
import json, logging, resource, sys, time, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
"""
_PROGRAMS = {
    "HTA": _HEAD
    + f"""
from hta.trace_analysis import TraceAnalysis
start = time.process_time()
found = TraceAnalysis(trace_files={{0: sys.argv[1]}}, include_last_profiler_step=True)
own = found.get_temporal_breakdown(visualize=False).to_dict("records")[0]
overlap = found.get_comm_comp_overlap(visualize=False).to_dict("records")[0]["comp_comm_overlap_pctg"]
print(json.dumps({{"span": own["kernel_time(us)"], "compute": own["compute_time(us)"], "idle": own["idle_time(us)"],
    "overlap": overlap, "cpu_s": time.process_time() - start, "peak_bytes": {_PEAK}}}))
""",
    "TraceLens": _HEAD
    + f"""
from TraceLens import NcclAnalyser, TreePerfAnalyzer
def collectives():
    try:
        table = NcclAnalyser([sys.argv[1]], 1).build_df_long()
    except Exception as error:  # a trace without collectives is one there, of no type of its own
        print('no collectives:', repr(error), file=sys.stderr)
        return []
    if "In msg size (MB)" not in table:
        return []
    table = table[table["In msg size (MB)"].notna()]
    table = table.assign(size=(table[["In msg size (MB)", "Out msg size (MB)"]].max(axis=1) * 2**20).round().astype(int))
    return [[name.lower().lstrip("_").split("_base")[0], size, len(own), float(own["dur"].median())]
        for (name, size), own in table.groupby(["Collective name", "size"])]
start = time.process_time()
found = TreePerfAnalyzer.from_file(sys.argv[1]).get_df_gpu_timeline().set_index("type")["time ms"] * 1000
cpu_s, peak_bytes = time.process_time() - start, {_PEAK}
total, exposed = found["total_comm_time"], found["exposed_comm_time"]
print(json.dumps({{"span": found["total_time"], "compute": found["computation_time"], "idle": found["idle_time"],
    "exposed": exposed, "overlap": 100 * (1 - exposed / total) if total else 0.0, "collectives": collectives(),
    "cpu_s": cpu_s, "peak_bytes": peak_bytes}}))
""",
    "commprof": _HEAD
    + f"""
from collections import defaultdict
from pathlib import Path
from statistics import median
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.one_rank.spans import common, length_ns, merged, union, without
start = time.process_time()
own = reduce_trace(read_trace(Path(sys.argv[1])))
sent = union([one.start_ns for one in own.collectives], [one.end_ns for one in own.collectives])
busy = merged(own.compute, own.memory, sent)
cpu_s, peak_bytes = time.process_time() - start, {_PEAK}
kinds = defaultdict(list)
for one in own.collectives:
    if one.message_bytes:
        kinds[one.op, one.message_bytes].append((one.end_ns - one.start_ns) / 1e3)
span, total = int(busy[-1, 1] - busy[0, 0]), length_ns(sent)
print(json.dumps({{"span": span / 1e3, "compute": length_ns(own.compute) / 1e3, "idle": (span - length_ns(busy)) / 1e3,
    "exposed": length_ns(without(sent, own.compute)) / 1e3,
    "overlap": 100 * length_ns(common(sent, own.compute)) / total if total else 0.0,
    "collectives": [[*kind, len(times), median(times)] for kind, times in kinds.items()],
    "cpu_s": cpu_s, "peak_bytes": peak_bytes}}))
""",
}
_DIFFERENCES = """
Where two differ, and why:

- **idle and compute against HTA**, on clocks of nanoseconds: HTA rounds each event's start up and its end down to whole
  microseconds, so kernels are shorter and gaps longer. On clocks of whole microseconds all agree to the microsecond.
- **GPU events without a launch call** (lost correlation, work launched before the trace began): HTA leaves them out, TraceLens
  those without an arrow from their launch. So their spans and computation are shorter and their idle time longer; ours are the
  GPU's, whoever launched it, and a finding counts such events: 872 of 7,747 in queue_length, 614 of 15,632 in trace_diff_test,
  968 of 3,653 in resnet. Without them our idle time is HTA's to the microsecond on the first two (848,216 and 51,692 us), and,
  by arrows, TraceLens' on resnet (416.7 us idle) and mi300-qwen (a span of 33,131.3 us).
- **trace_diff_test against TraceLens**: it follows arrows of category `ac2g`, and this older trace calls them
  `async_cpu_to_gpu`. It is left with what `cudaGraphLaunch` ran, which it joins by correlation: the 12 launches' 5,046 of
  15,632 GPU events have a span of 647,801, computation of 266,796 and idle time of 380,790 us, its figures exactly, and no NCCL
  kernel is among them.
- **xdit_sd35 against HTA**: it takes for GPU work whatever carries a stream, and the operators by which torch.compile launches
  Triton kernels do (`stream: 0`), though they run on the CPU: 2,076 of them. With these and its rounding the union is its
  718,469 us of computation, and 718,924 us of everything, which leaves its 452,703 us of idle time. The file's 8,042 kernels
  alone are 703,942 us rounded and 712,014.0 us exact, which is ours.
- **b200-eager**: vLLM's all-reduces through torch's symmetric memory (`multimem_all_reduce_kernel`, 73 times) communicate for
  us; for the peers they compute.
- **compute against TraceLens**: it counts fills (memset) as computation, so a little less communication is exposed; ours are
  memory, as HTA's are.
- **overlap**: HTA's is of the union of communication kernels, as ours is; TraceLens' is one less exposed over total.
- A dash is what a tool does not tell, or where it ended in an error of its own, named below. Without GPU work (gloo) our
  figures are of the CPU's operators.
"""
_KINDS = (
    "Collectives that carry a size: this rank's kernels alone, so a duration holds the waiting for others. HTA tells none.",
    "",
    "| trace | tool | operation | bytes | count | median us | GB/s |",
    "|---|---|---|---:|---:|---:|---:|",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool found in a trace, in microseconds and percent; or why it found nothing."""

    found: dict[str, float]
    refusal: str
    collectives: tuple[tuple[str, int, int, float], ...] = ()


def ask(python: Path, tool: str, trace: Path) -> Answer:
    """Run one tool on one trace in a process of its own."""
    done = subprocess.run(
        [str(python), "-c", _PROGRAMS[tool], str(trace.resolve())],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    if done.returncode:
        return Answer({}, (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:160])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Answer(found, "", tuple(tuple(own) for own in found.pop("collectives", ())))


def ask_often(python: Path, tool: str, trace: Path, repeats: int) -> Answer:
    """Run one tool on one trace so many times, and return the answer that took the processor least: others disturb it."""
    answers = [ask(python, tool, trace) for _ in range(repeats)]
    return min(answers, key=lambda own: own.found.get("cpu_s", float("inf")))


def results(traces: list[Path], peers: Path, own: Path, note: str, repeats: int) -> str:
    """Ask all tools about all traces and return the page; `note` says which versions the peers are of."""
    rows, refusals, kinds = [], [], []
    seconds: dict[str, list[float | None]] = {tool: [] for tool in _PROGRAMS}
    for trace in traces:
        name = trace.name
        for tool in _PROGRAMS:
            answer = ask_often(own if tool == "commprof" else peers, tool, trace, repeats)
            rows.append(_row(name, tool, answer.found))
            seconds[tool].append(answer.found.get("cpu_s"))
            kinds += [_kind_row(name, tool, own) for own in sorted(answer.collectives)]
            if answer.refusal:
                refusals.append(f"- {tool} on {name}: `{answer.refusal}`")
    head = "| trace | tool | span us | compute us | idle us | exposed us | overlap % | CPU s | peak MB |"
    table = "\n".join([head, "|---|---|---:|---:|---:|---:|---:|---:|---:|", *rows])
    return (
        f"# Traces, beside other tools\n\n{describe_machine()}\n- peers: {note}\n- CPU s: the least of {repeats}\n\n{table}\n\n"
        f"{_times_as_long(seconds)}\n{_DIFFERENCES}\n"
        + "\n".join([*_KINDS, *kinds, "", "Where a tool ended in an error of its own:", ""])
        + "\n".join(refusals)
        + "\n"
    )


def _times_as_long(seconds: dict[str, list[float | None]]) -> str:
    """Say how many times as much of the processor each peer takes, over the traces that it answers."""
    said = []
    for tool in _PROGRAMS:
        pairs = zip(seconds[tool], seconds["commprof"], strict=True)
        ratios = sorted(theirs / ours for theirs, ours in pairs if theirs and ours)
        if tool != "commprof" and ratios:
            said.append(f"{tool} {ratios[0]:.1f} to {ratios[-1]:.1f} times ({median(ratios):.1f} in the median)")
    return f"Of the processor, beside commprof: {', '.join(said)}."


def _kind_row(name: str, tool: str, own: tuple[str, int, int, float]) -> str:
    op, size, count, median_us = own
    return f"| {name} | {tool} | {op} | {size:,} | {count} | {median_us:,.2f} | {size / median_us / 1e3:.3f} |"


def _row(name: str, tool: str, found: dict[str, float]) -> str:
    cells = [f"{found[key]:,.1f}" if key in found else "-" for key in ("span", "compute", "idle", "exposed")]
    cells += [
        f"{found['overlap']:.2f}" if found and found["overlap"] == found["overlap"] else "-",
        f"{found['cpu_s']:.2f}" if found else "-",
    ]
    cells += [f"{found['peak_bytes'] / 1e6:.0f}" if found else "-"]
    return f"| {name} | {tool} | {' | '.join(cells)} |"


def main() -> None:
    """Write docs/results/trace-peers.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--peers", required=True, type=Path, help="the Python of an environment with both peers")
    parser.add_argument("--own", required=True, type=Path, help="the Python of ours")
    parser.add_argument("--note", default="versions not named", help="which versions the peers are of")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is asked (3)")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    write_text(args.out / "trace-peers.md", results(args.traces, args.peers, args.own, args.note, args.repeats))


if __name__ == "__main__":
    main()
