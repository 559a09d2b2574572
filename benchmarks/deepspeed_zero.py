"""How far off are the steps that are predicted of DeepSpeed's ZeRO stages from one rank's profile?

    make benchmark-deepspeed-zero      about half an hour as root; needs deepspeed; results in docs/results/deepspeed-zero.md

Stages 1, 2 and 3 of DeepSpeed's engine under gloo (benchmarks/zero_loop.py) on the testbed: two models, two and four hosts, two
rates, and one loop with two micro-batches. Each cell's prediction, from a recording of the same script on one rank and a bench
of the wire, is on disk before the run that checks it begins. What is done already is read, not run again.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import quantiles

from benchmarks.machine import describe_machine
from commprof.analysis.runs.load import load_run, load_runs
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.results import Strategy, StrategyAnswer
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.rundir import read_document, write_document, write_text
from commprof.commbench.units import format_bytes, format_seconds
from commprof.testbed import network as testbed

REPO = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).parent / "commprof")
LOOP = str(REPO / "benchmarks" / "zero_loop.py")
TIMEOUT_S = 200.0
CALM_CORES = 0.3  # fewer than these that others keep busy disturb a run little (analysis/runs/disturbance.py)
RATES = ("2gbit", "400mbit")
STAGES: dict[int, Strategy] = {1: "zero1", 2: "zero2", 3: "zero3"}
BENCHED = ("all_gather", "reduce_scatter", "all_reduce")
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541"}
ON_THE_HOST = {"DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    model: str
    stage: int
    hosts: int
    rate: str
    accumulation: int = 1

    @property
    def loop(self) -> str:
        return f"{self.model}-zero{self.stage}" + ("-accumulation" if self.accumulation > 1 else "")

    @property
    def name(self) -> str:
        return f"{self.loop}-n{self.hosts}-{self.rate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What else the machine did while a cell was checked."""

    others_cores: float


def cells() -> list[Cell]:
    """Return the grid, the cells of one wire together."""
    found = [
        Cell(model=model, stage=stage, hosts=2, rate=rate) for rate, model, stage in product(RATES, ("mlp", "encoder"), STAGES)
    ]
    more = [Cell(model="mlp", stage=stage, hosts=4, rate=RATES[0]) for stage in STAGES]
    return [*found, Cell(model="mlp", stage=2, hosts=2, rate=RATES[0], accumulation=2), *more]


def run_once(folder: Path, command: Sequence[str], **variables: str) -> Path:
    """Run a command that makes a run folder, unless it is whole already; one that is not is begun anew."""
    if folder.exists() and load_run(folder).info.status == "completed":
        return folder
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}-{time.time_ns()}"))
    log = folder.with_suffix(".log")
    with log.open("w") as written:
        subprocess.run(command, check=True, stdout=written, stderr=written, timeout=TIMEOUT_S, env={**os.environ, **variables})
    return folder


def recorded(cell: Cell, folder: Path, *, hosts: int) -> Path:
    """Record the cell's loop on so many hosts; alone it needs no launcher but its variables."""
    loop = [sys.executable, LOOP, "--model", cell.model, "--stage", str(cell.stage), "--accumulation", str(cell.accumulation)]
    started = loop if hosts == 1 else [SCRIPT, "testbed", "exec", "--hosts", str(hosts), "--", *loop]
    command = [SCRIPT, "record", "--folder", str(folder), "--", *started]
    return run_once(folder, command, **ON_THE_HOST, **(ALONE if hosts == 1 else {}))


def benches(cell: Cell, root: Path) -> list[Path]:
    sweep = ("-b", "4", "-e", "32M", "--seconds", "8")
    return [
        run_once(
            root / f"bench-{op}-n{cell.hosts}-{cell.rate}",
            [SCRIPT, "testbed", "exec", "--hosts", str(cell.hosts), "--", SCRIPT, "bench", op, *sweep, "--folder",
             str(root / f"bench-{op}-n{cell.hosts}-{cell.rate}")],
        )
        for op in BENCHED
    ]  # fmt: skip


def run_cell(cell: Cell, root: Path) -> None:
    """Predict and then measure one cell, whatever of it is not there yet."""
    place = root / cell.name
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "prediction.json").exists():
        write_document(place / "prediction.json", predicted(cell, root))
    with watched(place / "surroundings.json"):
        recorded(cell, place / "check", hosts=cell.hosts)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Write how many cores others kept busy meanwhile: what the machine did beyond what this process' children did."""
    start_s, busy_s, own_s = time.monotonic(), _busy_s(), _children_s()
    yield
    others_s = (_busy_s() - busy_s) - (_children_s() - own_s)
    write_document(path, Surroundings(others_cores=max(0.0, others_s / (time.monotonic() - start_s))))


def _busy_s() -> float:
    """Return the seconds that all cores together were busy since the machine started, the hypervisor's among them."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _children_s() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def predicted(cell: Cell, root: Path) -> StrategyAnswer:
    """Return what is predicted of a cell, from runs that are made where they are missing."""
    runs = [recorded(cell, root / f"profile-{cell.loop}", hosts=1), *benches(cell, root)]
    (choice,) = choose(load_runs(runs), [cell.hosts], Asked(strategies=(STAGES[cell.stage],)))
    (answer,) = choice.answers
    if answer.cannot:
        raise RuntimeError(f"{cell.name} cannot be predicted: {answer.cannot}")
    return answer


def run_grid(wanted: Sequence[Cell], root: Path, minutes: float) -> None:
    deadline_s = time.monotonic() + 60 * minutes
    for rate in dict.fromkeys(cell.rate for cell in wanted):
        missing = [cell for cell in wanted if cell.rate == rate and not (root / cell.name / "surroundings.json").exists()]
        if not missing or time.monotonic() > deadline_s:
            continue
        with testbed.testbed(4, parse_wire(rate)):
            for cell in missing:
                if time.monotonic() > deadline_s:
                    return
                run_cell(cell, root)
                sys.stderr.write(f"{cell.name}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    cell: Cell
    expected: StrategyAnswer
    measured_s: float
    others_cores: float

    @property
    def error(self) -> float:
        assert self.expected.step_s is not None
        return self.expected.step_s / self.measured_s - 1

    @property
    def inside(self) -> bool | None:
        span = self.expected.interval_s
        return None if span is None else span.low <= self.measured_s <= span.high


def rows_of(wanted: Sequence[Cell], root: Path, *, anew: bool) -> list[Row]:
    """Return the cells that are done; `anew` by the model as it is now, in place of what was on disk before."""
    return [
        Row(
            cell=cell,
            expected=predicted(cell, root) if anew else read_document(root / cell.name / "prediction.json", StrategyAnswer),
            measured_s=load_run(root / cell.name / "check").median_step_s(),
            others_cores=read_document(root / cell.name / "surroundings.json", Surroundings).others_cores,
        )
        for cell in wanted
        if (root / cell.name / "surroundings.json").exists()
    ]


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| model | stage | hosts | wire | predicted | 90 % interval | exposed | memory | measured | error | others' cores |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        cell, own = row.cell, row.expected
        assert own.step_s is not None and own.exposed_s is not None and own.memory is not None
        span = own.interval_s
        ends = "none" if span is None else f"{format_seconds(span.low)} to {format_seconds(span.high)}"
        model = cell.model + (", 2 micro-batches" if cell.accumulation > 1 else "")
        yield (
            f"| {model} | {cell.stage} | {cell.hosts} | {cell.rate} | "
            f"{format_seconds(own.step_s)} | {ends} | {format_seconds(own.exposed_s)} | {format_bytes(own.memory.total)} | "
            f"{format_seconds(row.measured_s)} | {row.error:+.1%} | {row.others_cores:.2f} |"
        )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    calm = [row for row in rows if row.others_cores < CALM_CORES]
    groups = {"all": rows, f"where others kept less than {CALM_CORES} cores busy": calm}
    groups |= {f"stage {stage}": [row for row in rows if row.cell.stage == stage] for stage in STAGES}
    for name, some in groups.items():
        if len(some) > 1:
            errors = [row.error for row in some]
            tenths = quantiles(map(abs, errors), n=10, method="inclusive")
            inside = [row.inside for row in some if row.inside is not None]
            yield (
                f"- {name}, {len(some)} cells: median {tenths[4]:.1%}, 90th percentile {tenths[8]:.1%}, worst "
                f"{max(errors, key=abs):+.1%}; {sum(inside)} of {len(inside)} intervals hold"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs/deepspeed-zero"), metavar="DIR", help="where the cells go")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="begin no cell later than this (60)")
    parser.add_argument("--only", default="", metavar="WORD", help="only cells whose name holds it")
    parser.add_argument("--again", action="store_true", help="run nothing, and predict what is done by the model as it is now")
    args = parser.parse_args()
    if find_spec("deepspeed") is None:
        sys.exit("deepspeed is not installed, whose steps are measured here: pip install deepspeed beside torch, then again")
    wanted = [cell for cell in cells() if args.only in cell.name]
    args.runs.mkdir(parents=True, exist_ok=True)
    root = args.runs.resolve()
    if not args.again:
        run_grid(wanted, root, args.minutes)
    rows = rows_of(wanted, root, anew=args.again)
    head = ["# DeepSpeed's ZeRO stages on the testbed: predicted before the runs, and measured", "", describe_machine()]
    note = f"- {len(rows)} of {len(wanted)} cells are done; all hosts share the machine's cores"
    text = "\n".join([*head, note, "", *summary(rows), "", *table(rows)]) + "\n"
    if not args.again:
        write_text(args.out / "deepspeed-zero.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
