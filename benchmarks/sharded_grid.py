"""How far off are the predicted steps of sharded trainings, and is the fastest strategy the one that was named?

    make benchmark-sharded-grid      about three hours as root; results in docs/results/sharded-grid.md

45 sharded cells and 18 of DDP on the testbed: three models, two and four hosts, three rates; FSDP, ZeRO-2, HSDP on four, FSDP
without prefetch, FSDP with two micro-batches. Each cell's compute-only run, its two predictions (from ranks side by side and
from one rank) and its check follow one another, and the predictions are on disk before the check starts. Every second cell is
held out, in the order of `cells()`: where a choice is made from these figures, it is made from the others alone, the open ones.
Of these `large-fsdp-n2-4gbit`, `wide-fsdp-n2-800mbit` and `small-fsdp-n2-800mbit` have been looked at, mark by mark.

What is done already is read, not run again. `--minutes` ends before a cell that would begin later; `--only` takes cells whose
name holds a word. `--rounds` takes each cell's runs so often, in turn, for a machine whose pace drifts: every round predicts,
from all compute-only runs so far, before its check, and a cell's error is the median of its rounds'.

`--again` runs nothing: it predicts the open cells that are done anew, from the same runs by the model as it
is now, and prints that beside what was predicted then; the held-out ones and the result are left alone.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

from benchmarks.machine import describe_machine
from benchmarks.sharded_cells import Cell, Expected, Row, by_cell, summary, table
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


def run_cell(cell: Cell, root: Path, rounds: int) -> None:
    """Predict and then measure one cell, whatever of it is not there yet."""
    place = root / cell.name
    place.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        if not _prediction(place, number).exists():
            write_document(_prediction(place, number), expected_of(cell, root, number))
        run_once(_check(place, number), *on_hosts(cell.hosts, *train(cell)))


def _prediction(place: Path, number: int) -> Path:
    return place / f"prediction{_of_round(number)}.json"


def _check(place: Path, number: int) -> Path:
    return place / f"check{_of_round(number)}"


def _of_round(number: int) -> str:
    return f"-{number + 1}" if number else ""


def expected_of(cell: Cell, root: Path, number: int) -> Expected:
    """Return what is predicted of a cell in a round, from runs that are made where they are missing."""
    shared = [profile(cell, root), *benches(cell, root)]
    silent = on_hosts(cell.hosts, *train(cell, "distributed.synchronisation=compute_only"))
    compute = [run_once(root / cell.name / f"compute{_of_round(k)}", *silent) for k in range(number + 1)]
    return Expected(side_by_side=predicted(cell, [*shared, *compute]), one_rank=predicted(cell, shared))


def predicted(cell: Cell, paths: Sequence[Path]) -> StrategyAnswer:
    """Return the answer for the cell's strategy; raise RuntimeError where it cannot be told."""
    strategy = MODES[cell.mode][0]
    asked = Asked(strategies=(strategy,), prefetch=cell.mode != "no-prefetch")
    (choice,) = choose(load_runs(paths), [cell.hosts], asked)
    (answer,) = choice.answers
    if answer.cannot:
        raise RuntimeError(f"{cell.name} cannot be predicted: {answer.cannot}")
    return answer


def run_grid(wanted: Sequence[Cell], root: Path, minutes: float, rounds: int) -> None:
    """Run the cells one after the other until the time is over."""
    deadline_s = time.monotonic() + 60 * minutes
    for rate in dict.fromkeys(cell.rate for cell in wanted):
        missing = [cell for cell in wanted if cell.rate == rate and not is_done(root / cell.name, rounds - 1)]
        if not missing or time.monotonic() > deadline_s:
            continue
        with testbed.testbed(4, parse_wire(rate)):
            for cell in missing:
                if time.monotonic() > deadline_s:
                    return
                start_s = time.monotonic()
                run_cell(cell, root, rounds)
                sys.stderr.write(f"{cell.name}: {time.monotonic() - start_s:.0f} s\n")


def is_done(place: Path, number: int) -> bool:
    check = _check(place, number)
    return _prediction(place, number).exists() and check.exists() and load_run(check).info.status == "completed"


def rows_of(wanted: Sequence[Cell], root: Path, rounds: int) -> list[Row]:
    return [
        Row(
            cell=cell,
            number=number,
            expected=read_document(_prediction(root / cell.name, number), Expected),
            measured_s=load_run(_check(root / cell.name, number)).median_step_s(),
        )
        for cell in wanted
        for number in range(rounds)
        if is_done(root / cell.name, number)
    ]


def again(rows: Sequence[Row], root: Path) -> Iterator[str]:
    """Yield the open cells' errors as they were predicted and as they would be now."""
    now = [replace(row, expected=expected_of(row.cell, root, row.number)) for row in rows]
    yield from (f"then: {line[2:]}" for line in summary(rows))
    yield from (f"now:  {line[2:]}" for line in summary(now))
    for row, other in zip(rows, now, strict=True):
        then, anew = (own.error(own.expected.side_by_side) for own in (row, other))
        yield f"{row.cell.name:32} {format_seconds(row.measured_s):>9} {then:+7.1%} {anew:+7.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs/sharded-grid"), metavar="DIR", help="where the cells go")
    parser.add_argument("--minutes", type=float, default=240.0, metavar="M", help="begin no cell later than this (240)")
    parser.add_argument("--rounds", type=int, default=1, metavar="R", help="take each cell's runs so often, in turn (1)")
    parser.add_argument("--only", default="", metavar="WORD", help="only cells whose name holds it")
    parser.add_argument("--again", action="store_true", help="predict the open cells that are done anew, and run nothing")
    args = parser.parse_args()
    wanted = [cell for cell in cells() if args.only in cell.name]
    if args.again:
        done = rows_of([cell for cell in wanted if not cell.held_out], args.runs, args.rounds)
        sys.stdout.write("\n".join(again(done, args.runs)) + "\n")
        return
    args.runs.mkdir(parents=True, exist_ok=True)
    run_grid(wanted, args.runs.resolve(), args.minutes, args.rounds)
    rows = rows_of(wanted, args.runs.resolve(), args.rounds)
    head = ["# Sharded steps on the testbed: predicted before the runs, and measured", "", describe_machine()]
    note = f"- {len(by_cell(rows))} of {len(wanted)} cells are done; all hosts share the machine's cores"
    text = "\n".join([*head, note, "", *summary(rows), "", *table(rows)]) + "\n"
    write_text(args.out / "sharded-grid.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
