"""How far off are predictions on trainings that nothing here was fitted on, and do 90 % intervals hold 90 %?

    make benchmark-foreign-grid      hours as root, in pieces: MINUTES=60; results in docs/results/foreign-grid.md

64 cells of four loops (benchmarks/foreign_loops) on the testbed: 2, 4 and 8 hosts, 0.2 to 4 Gbit/s, five ways to send; each
twice on a quiet machine, twice beside a neighbour that takes half a core in bursts. In a cell, one after the other: a profile
of one rank, a compute-only run, the predictions, written to disk, and the run that checks them. The wire and contention of each
number of hosts and rate are measured once; on 8 hosts neither is. Plain cells foretell what other ways to send would save, too.
Ways to predict:

    given      profile, bench and contention at N, as docs/own-loop.md has it     (2 and 4 hosts)
    compute    these and the compute-only run                                    (2 and 4 hosts)
    carried    profile, compute-only run and the bench and contention of 2 hosts (4 and 8 hosts)

The halves that may be fitted on in turn, stated before any cell was run, are `HALVES`. A cell that is done has a cell.json and
is not run again, one that was broken off is run anew; the order is shuffled once, so that any part of the grid is a sample.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Final

from benchmarks.foreign_summary import Cell, CellResult, Savings, WayResult, results_text
from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.analysis.runs.load import Run, load_run, load_runs
from commprof.analysis.step.estimate import Setting, estimate, interval, saved
from commprof.analysis.step.evidence.pools import compute_only_s
from commprof.analysis.step.gather import gather
from commprof.analysis.step.inputs import Gathered, StepInputs
from commprof.analysis.step.predict import predict_all
from commprof.analysis.step.results import Prediction
from commprof.commbench.errors import CommprofError
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.rundir import write_document, write_text
from commprof.testbed import network as testbed

HALVES: Final = {"A": ("gpt", "dlrm"), "B": ("resnet", "lstm")}
PLAIN: Final = (
    *product((2,), ("200mbit", "300mbit", "1gbit", "3gbit", "4gbit")),
    *product((4,), ("300mbit", "1gbit", "3gbit")),
    *product((8,), ("300mbit", "1gbit")),
)
MODES: Final = (
    *product((2,), ("1gbit",), ("cap5", "accumulate", "fp16", "static")),
    *product((4,), ("1gbit",), ("accumulate", "fp16")),
)
CHANGES: Final = {
    "cap5": Setting(caps_bytes=(5 * 2**20, 5 * 2**20)),
    "accumulate": Setting(accumulation=2),
    "fp16": Setting(sent_share=0.5),
}
STEPS, PROFILE_STEPS = 30, 40
TIMEOUT_S = 600.0
SCRIPT = str(Path(sys.executable).parent / "commprof")
LOOPS = Path(__file__).parent / "foreign_loops"
NEIGHBOUR = (
    "import random, time\nrandom.seed(1)\n"
    "while True:\n"
    "    span = random.uniform(0.2, 1.0)\n    end = time.monotonic() + span\n"
    "    while time.monotonic() < end: sum(range(10000))\n"
    "    time.sleep(span)\n"
)


def cells() -> list[Cell]:
    """Return the whole grid in the order in which it is run."""
    models = [model for half in HALVES.values() for model in half]
    shapes = [(n, rate, "plain") for n, rate in PLAIN] + list(MODES)
    found = [
        Cell(model=model, hosts=n, rate=rate, mode=mode, disturbed=disturbed, repeat=repeat)
        for repeat, disturbed, model, (n, rate, mode) in product((1, 2), (False, True), models, shapes)
    ]
    random.Random(20).shuffle(found)
    return found


def run_cell(cell: Cell, runs: Path) -> CellResult:
    """Predict a cell, write that down, run it and return both; its wire is there afterwards."""
    folder = runs / cell.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with testbed.testbed(cell.hosts, parse_wire(cell.rate)):
        for hosts in sorted({min(cell.hosts, 4), 2} if cell.hosts < 8 else {2}):
            _measure_wire(runs, hosts, cell.rate)
        with _neighbour(enabled=cell.disturbed):
            profile = _record(cell, folder / "profile", hosts=1)
            compute = _record(cell, folder / "compute", hosts=cell.hosts, compute_only=True)
            ways = {way: _predict(cell, own, folder / f"prediction-{way}.json") for way, own in _inputs(cell, runs, folder)}
            check = _record(cell, folder / "check", hosts=cell.hosts)
    measured_s = load_run(check).median_step_s()
    return CellResult(
        **asdict(cell),
        single_s=load_run(profile).median_step_s(),
        compute_s=compute_only_s(load_run(compute)),
        measured_s=measured_s,
        ways=ways,
    )


def _inputs(cell: Cell, runs: Path, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the ways to predict that a cell has, and the runs behind each."""
    profile, compute = folder / "profile", folder / "compute"
    if cell.hosts <= 4:
        yield "given", [profile, *_wire_runs(runs, cell.hosts, cell.rate)]
        yield "compute", [profile, compute, *_wire_runs(runs, cell.hosts, cell.rate)]
    if cell.hosts > 2:
        yield "carried", [profile, compute, *_wire_runs(runs, 2, cell.rate)]


def savings_now(results: Sequence[CellResult], runs: Path) -> dict[str, Savings]:
    """Return what the model as it is now says that each change saves, of the plain cells whose savings were foretold."""
    names = {result.name for result in results if result.mode == "plain" and "compute" in result.ways}
    found = {}
    for cell in cells():
        if cell.name in names:
            paths = dict(_inputs(cell, runs, runs / cell.name))["compute"]
            found[cell.name] = _savings(_gathered(cell, paths).at[0])
    return found


def _gathered(cell: Cell, paths: Sequence[Path]) -> Gathered:
    return gather([_told(cell, run) for run in load_runs(paths)], [cell.hosts])


def _predict(cell: Cell, paths: Sequence[Path], file: Path) -> WayResult:
    """Predict a cell from these runs alone, and write it to disk."""
    gathered = _gathered(cell, paths)
    (inputs,) = gathered.at
    found = predict_all(inputs, estimate(inputs), gathered.single.step_s, gathered.anchor, gathered.workload.scaling)
    result = _way(found, _savings(inputs) if cell.mode == "plain" else {})
    write_document(file, result)
    return result


def _savings(inputs: StepInputs) -> Savings:
    """Return what each change would save a batch, and the ends of its 90 % interval, seconds."""
    now, found = estimate(inputs), {}
    for mode, setting in CHANGES.items():
        saved_s = saved(now.per_batch_s, estimate(inputs, setting).per_batch_s, inputs.drift, inputs.between)
        span = interval(saved_s)
        found[mode] = (float(saved_s[0]), span.low, span.high)
    return found


def _way(found: Sequence[Prediction], savings: Savings) -> WayResult:
    schedule, others = found[0], {p.model: p.step_s for p in found}
    span = schedule.interval_s
    return WayResult(
        savings=savings,
        step_s=schedule.step_s,
        low_s=None if span is None else span.low,
        high_s=None if span is None else span.high,
        exposed_s=schedule.exposed_s,
        ring_s=others["ring"],
        amdahl_s=others["amdahl"],
        assumptions=schedule.assumptions,
    )


def _told(cell: Cell, run: Run) -> Run:
    """Tell what the user of a loop knows and one rank cannot show, as `predict --sent-share` and `record --bucket-cap` do."""
    work = run.info.workload
    if work is None or run.world_size > 1:
        return run
    told = replace(work, communication_hook="fp16") if cell.mode == "fp16" else work
    return replace(run, info=replace(run.info, workload=told))


def _record(cell: Cell, path: Path, *, hosts: int, compute_only: bool = False) -> Path:
    """Record the cell's loop on so many hosts; one is this machine, without a testbed."""
    loop = [sys.executable, str(LOOPS / f"{cell.model}.py"), "--mode", cell.mode]
    started = loop if hosts == 1 else [SCRIPT, "testbed", "exec", "--hosts", str(hosts), "--", *loop]
    asked = ["--max-steps", str(PROFILE_STEPS if hosts == 1 else STEPS), "--folder", str(path)]
    asked += ["--compute-only"] if compute_only else []
    asked += ["--bucket-cap", "5M"] if hosts == 1 and cell.mode == "cap5" else []
    run_together([[SCRIPT, "record", *asked, "--", *started]], TIMEOUT_S, {"OMP_NUM_THREADS": "1"})
    return path


def _wire_runs(runs: Path, hosts: int, rate: str) -> tuple[Path, Path]:
    return runs / f"bench-n{hosts}-{rate}", runs / f"contention-n{hosts}-{rate}"


def _measure_wire(runs: Path, hosts: int, rate: str) -> None:
    """Bench the wire and measure contention on it where that is not done yet."""
    bench, contention = _wire_runs(runs, hosts, rate)
    sweeps = ((bench, ["bench", "-b", "1K", "-e", "64M"]), (contention, ["contention", "-b", "1M", "-e", "16M", "-n", "12"]))
    for path, words in sweeps:
        if path.exists() and load_run(path).info.status == "completed":
            continue
        shutil.rmtree(path, ignore_errors=True)
        command = [SCRIPT, "testbed", "exec", "--hosts", str(hosts), "--", SCRIPT, *words, "--folder", str(path)]
        run_together([command], TIMEOUT_S, {"OMP_NUM_THREADS": "1"})


@contextmanager
def _neighbour(*, enabled: bool) -> Iterator[None]:
    """Keep half a core busy in bursts meanwhile."""
    if not enabled:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def finished(runs: Path) -> list[CellResult]:
    """Return what is done of the grid."""
    paths = (runs / cell.name / "cell.json" for cell in cells())
    return [CellResult.read(json.loads(path.read_text())) for path in paths if path.exists()]


def run_grid(runs: Path, minutes: float, only: str) -> None:
    """Run what is left of the grid, or of the cells whose name holds `only`, until the time is used up.

    Begins no cell that would take longer than is left, by the longest so far.
    """
    end_s, longest_s = time.monotonic() + 60 * minutes, 0.0
    for cell in cells():
        done = runs / cell.name / "cell.json"
        if only not in cell.name or done.exists():
            continue
        start_s = time.monotonic()
        if start_s + longest_s > end_s:
            return
        try:
            result = run_cell(cell, runs)
            write_document(done, result)
            sys.stderr.write(f"{cell.name}: {result.told}\n")
        except CommprofError as error:
            sys.stderr.write(f"{cell.name} failed and is left for the next time: {error}\n")
        longest_s = max(longest_s, time.monotonic() - start_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/foreign-grid"), metavar="DIR", help="where the cells go (runs/foreign-grid)"
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="begin no cell that would not be done by then (60)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cells whose name holds it, such as gpt-n2-1gbit-plain-quiet-r1"
    )
    args = parser.parse_args()
    run_grid(args.runs.absolute(), args.minutes, args.only)
    results = finished(args.runs)
    text = results_text(results, len(cells()), HALVES, describe_machine(), savings_now(results, args.runs))
    write_text(args.out / "foreign-grid.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
