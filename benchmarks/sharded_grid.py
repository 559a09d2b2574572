"""How far off are the predicted steps of sharded trainings, and is the fastest strategy the one that was named?

    make benchmark-sharded-grid      about three hours as root; results in docs/results/sharded-grid.md

45 sharded cells and 18 of DDP on the testbed: three models, two and four hosts, three rates; FSDP, ZeRO-2, HSDP on four, FSDP
without prefetch, FSDP with two micro-batches. Each cell's compute-only run, its two predictions (from ranks side by side and
from one rank) and its check follow one another, and the predictions are on disk before the check starts. Every second cell is
held out, in the order of `cells()`: where a choice is made from these figures, it is made from the others alone, the open ones.
Of these `large-fsdp-n2-4gbit`, `wide-fsdp-n2-800mbit` and `small-fsdp-n2-800mbit` have been looked at, mark by mark.

What is done already is read, not run again. `--minutes` ends before a cell that would begin later; `--only` takes cells whose
name holds a word. `--again` runs nothing: it predicts the open cells that are done anew, from the same runs by the model as it
is now, and prints that beside what was predicted then; the held-out ones and the result are left alone.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Final

from benchmarks.machine import describe_machine
from commprof.analysis.runs.load import load_run, load_runs
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.results import Strategy, StrategyAnswer
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.rundir import read_document, write_document, write_text
from commprof.commbench.units import format_seconds
from commprof.testbed import network as testbed

REPO = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).parent / "commprof")
TIMEOUT_S = 900.0
RATES = ("200mbit", "800mbit", "4gbit")
STEPS = {"small": 24, "large": 14, "wide": 14}
BENCHED = ("all_gather", "reduce_scatter", "all_reduce")
COMMON = (
    "training.evaluate=false", "profiling.trace_steps=0", "profiling.warmup_steps=4",
    "distributed.threads_per_rank=1", "distributed.backend=gloo",
)  # fmt: skip
MODES: Final[dict[str, tuple[Strategy, tuple[str, ...]]]] = {
    "ddp": ("ddp", ()),
    "fsdp": ("fsdp", ("distributed.strategy=fsdp",)),
    "zero2": ("zero2", ("distributed.strategy=fsdp", "distributed.reshard_after_forward=false")),
    "hsdp": ("hsdp", ("distributed.strategy=hsdp",)),
    "no-prefetch": ("fsdp", ("distributed.strategy=fsdp", "distributed.prefetch=false")),
    "accumulation": ("fsdp", ("distributed.strategy=fsdp", "training.accumulation=2")),
}
_OF_HOSTS = {2: ("ddp", "fsdp", "zero2"), 4: ("ddp", "fsdp", "hsdp")}
_MORE = {"small": "no-prefetch", "large": "accumulation", "wide": "zero2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    model: str
    hosts: int
    rate: str
    mode: str
    held_out: bool

    @property
    def name(self) -> str:
        return f"{self.model}-{self.mode}-n{self.hosts}-{self.rate}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was on disk before the check: the answer from ranks side by side that sent nothing, and from one rank."""

    side_by_side: StrategyAnswer
    one_rank: StrategyAnswer


def cells() -> list[Cell]:
    """Return the grid, the cells of one wire together."""
    combined = [
        (model, hosts, rate, mode)
        for rate, hosts, model in product(RATES, (2, 4), STEPS)
        for mode in (*_OF_HOSTS[hosts], *([_MORE[model]] if hosts == 4 else []))
    ]
    return [
        Cell(model=model, hosts=hosts, rate=rate, mode=mode, held_out=number % 2 == 1)
        for number, (model, hosts, rate, mode) in enumerate(combined)
    ]


def run_once(folder: Path, *command: str) -> Path:
    """Run a command that makes a run folder, unless it is whole already; one that is not is begun anew."""
    if folder.exists() and load_run(folder).info.status == "completed":
        return folder
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}-{time.time_ns()}"))
    subprocess.run([*command, "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    return folder


def on_hosts(hosts: int, *command: str) -> tuple[str, ...]:
    return (SCRIPT, "testbed", "exec", "--hosts", str(hosts), "--", SCRIPT, *command)


def train(cell: Cell, *words: str) -> tuple[str, ...]:
    config = str(REPO / "configs" / f"{cell.model}.yaml")
    return ("train", config, *COMMON, f"training.max_steps={STEPS[cell.model]}", *MODES[cell.mode][1], *words)


def profile(cell: Cell, root: Path) -> Path:
    """Return one rank's run: plain for DDP, else sharded over itself, with as many micro-batches as the cell has."""
    kind = cell.mode if cell.mode in ("ddp", "accumulation") else "fsdp"
    alone = Cell(model=cell.model, hosts=1, rate="", mode=kind, held_out=False)
    return run_once(root / f"profile-{cell.model}-{kind}", SCRIPT, *train(alone))


def benches(cell: Cell, root: Path) -> list[Path]:
    """Return the benches of the cell's wire: of as many ranks as it has hosts, and of HSDP's groups of two."""
    sizes = {cell.hosts, 2} if cell.mode == "hsdp" else {cell.hosts}
    sweep = ("-b", "64K", "-e", "32M", "--seconds", "12")
    return [
        run_once(root / f"bench-{op}-n{n}-{cell.rate}", *on_hosts(n, "bench", op, *sweep))
        for n in sorted(sizes)
        for op in BENCHED
    ]


def run_cell(cell: Cell, root: Path) -> None:
    """Predict and then measure one cell, whatever of it is not there yet."""
    place = root / cell.name
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "prediction.json").exists():
        write_document(place / "prediction.json", expected_of(cell, root))
    run_once(place / "check", *on_hosts(cell.hosts, *train(cell)))


def expected_of(cell: Cell, root: Path) -> Expected:
    """Return what is predicted of a cell from runs that are made where they are missing."""
    shared = [profile(cell, root), *benches(cell, root)]
    silent = on_hosts(cell.hosts, *train(cell, "distributed.synchronisation=compute_only"))
    compute = run_once(root / cell.name / "compute", *silent)
    return Expected(side_by_side=predicted(cell, [*shared, compute]), one_rank=predicted(cell, shared))


def predicted(cell: Cell, paths: Sequence[Path]) -> StrategyAnswer:
    """Return the answer for the cell's strategy; raise RuntimeError where it cannot be told."""
    strategy = MODES[cell.mode][0]
    asked = Asked(strategies=(strategy,), prefetch=cell.mode != "no-prefetch")
    (choice,) = choose(load_runs(paths), [cell.hosts], asked)
    (answer,) = choice.answers
    if answer.cannot:
        raise RuntimeError(f"{cell.name} cannot be predicted: {answer.cannot}")
    return answer


def run_grid(wanted: Sequence[Cell], root: Path, minutes: float) -> None:
    """Run the cells one after the other until the time is over."""
    deadline_s = time.monotonic() + 60 * minutes
    for rate in dict.fromkeys(cell.rate for cell in wanted):
        missing = [cell for cell in wanted if cell.rate == rate and not is_done(root / cell.name)]
        if not missing or time.monotonic() > deadline_s:
            continue
        with testbed.testbed(4, parse_wire(rate)):
            for cell in missing:
                if time.monotonic() > deadline_s:
                    return
                start_s = time.monotonic()
                run_cell(cell, root)
                sys.stderr.write(f"{cell.name}: {time.monotonic() - start_s:.0f} s\n")


def is_done(place: Path) -> bool:
    check = place / "check"
    return (place / "prediction.json").exists() and check.exists() and load_run(check).info.status == "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    cell: Cell
    expected: Expected
    measured_s: float

    def error(self, answer: StrategyAnswer) -> float:
        assert answer.step_s is not None
        return answer.step_s / self.measured_s - 1

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds the measured step; None where the machine was too disturbed for one."""
        span = self.expected.side_by_side.interval_s
        return None if span is None else span.low <= self.measured_s <= span.high


def rows_of(wanted: Sequence[Cell], root: Path) -> list[Row]:
    return [
        Row(
            cell=cell,
            expected=read_document(root / cell.name / "prediction.json", Expected),
            measured_s=load_run(root / cell.name / "check").median_step_s(),
        )
        for cell in wanted
        if is_done(root / cell.name)
    ]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a row a cell."""
    yield "| model | hosts | wire | mode | predicted | 90 % interval | measured | error | from one rank | held out |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        cell, own = row.cell, row.expected.side_by_side
        assert own.step_s is not None
        ends = own.interval_s
        span = "none" if ends is None else f"{format_seconds(ends.low)} to {format_seconds(ends.high)}"
        yield (
            f"| {cell.model} | {cell.hosts} | {cell.rate} | {cell.mode} | {format_seconds(own.step_s)} | {span} | "
            f"{format_seconds(row.measured_s)} | {row.error(own):+.1%} | {row.error(row.expected.one_rank):+.1%} | "
            f"{'yes' if cell.held_out else 'no'} |"
        )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the errors of sharded cells, all and held out, how often intervals held, and how often the fastest was named."""
    sharded = [row for row in rows if row.cell.mode != "ddp"]
    for name, some in (("all", sharded), ("held out", [row for row in sharded if row.cell.held_out])):
        if len(some) > 1:
            inside = [row.inside for row in some if row.inside is not None]
            yield f"- {name}, {len(some)} cells: side by side {_errors([row.error(row.expected.side_by_side) for row in some])}"
            yield f"  from one rank {_errors([row.error(row.expected.one_rank) for row in some])}"
            yield f"  intervals hold {sum(inside)} of {len(inside)}, {len(some) - len(inside)} cells have none"
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        if row.cell.mode not in ("no-prefetch", "accumulation"):
            groups.setdefault((row.cell.model, row.cell.hosts, row.cell.rate), []).append(row)
    compared = [group for group in groups.values() if len(group) > 1]
    named = sum(_predicted_fastest(group) is min(group, key=lambda row: row.measured_s) for group in compared)
    yield f"- the fastest strategy was predicted to be the fastest in {named} of {len(compared)} groups"


def again(rows: Sequence[Row], root: Path) -> Iterator[str]:
    """Yield the open cells' errors as they were predicted and as they would be now."""
    now = [Row(cell=row.cell, expected=expected_of(row.cell, root), measured_s=row.measured_s) for row in rows]
    yield from (f"then: {line[2:]}" for line in summary(rows))
    yield from (f"now:  {line[2:]}" for line in summary(now))
    for row, other in zip(rows, now, strict=True):
        then, anew = (own.error(own.expected.side_by_side) for own in (row, other))
        yield f"{row.cell.name:32} {format_seconds(row.measured_s):>9} {then:+7.1%} {anew:+7.1%}"


def _predicted_fastest(group: Sequence[Row]) -> Row:
    return min(group, key=lambda row: row.expected.side_by_side.step_s or float("inf"))


def _errors(errors: Sequence[float]) -> str:
    tenths = quantiles(map(abs, errors), n=10, method="inclusive")
    return f"median {tenths[4]:.1%}, 90th percentile {tenths[8]:.1%}, worst {max(errors, key=abs):+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs/sharded-grid"), metavar="DIR", help="where the cells go")
    parser.add_argument("--minutes", type=float, default=240.0, metavar="M", help="begin no cell later than this (240)")
    parser.add_argument("--only", default="", metavar="WORD", help="only cells whose name holds it")
    parser.add_argument("--again", action="store_true", help="predict the open cells that are done anew, and run nothing")
    args = parser.parse_args()
    wanted = [cell for cell in cells() if args.only in cell.name]
    if args.again:
        done = rows_of([cell for cell in wanted if not cell.held_out], args.runs)
        sys.stdout.write("\n".join(again(done, args.runs)) + "\n")
        return
    args.runs.mkdir(parents=True, exist_ok=True)
    run_grid(wanted, args.runs.resolve(), args.minutes)
    rows = rows_of(wanted, args.runs.resolve())
    head = ["# Sharded steps on the testbed: predicted before the runs, and measured", "", describe_machine()]
    note = f"- {len(rows)} of {len(wanted)} cells are done; all hosts share the machine's cores"
    text = "\n".join([*head, note, "", *summary(rows), "", *table(rows)]) + "\n"
    write_text(args.out / "sharded-grid.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
