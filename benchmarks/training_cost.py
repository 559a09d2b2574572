"""What do the recorder, `record` and the trainer cost a training step? One model, in turns: A R W T A, A T W R A, ...

A is the bare loop that people write: model, loss, backward, optimizer, batches ready in memory. R is the same loop in a
StepRecorder. W is the bare loop watched as `commprof record` watches it, telemetry too. T is `commprof train`'s own loop with
its recorder, data loader and progress line. All of them train one model in one process per rank, so that nothing but the loop
differs; a step is what passes between two optimizer steps, on the clock and of the process' processor time. Each block begins
with steps that DDP needs to lay its buckets out; they are left out. What disturbs a step only ever adds to it, so a block's
step is the lower quartile of its own. Each R, W and T is compared with the two A around them; the control compares those two
with each other: what it shows is noise. Blocks are short and many, and batches small: a recorder costs a step the same
whatever the batch, so that a share of these steps is more than one of the steps people take.

The own work is timed by itself in blocks of their own, inside of the same steps: between gradients the caches hold a
training's data, and the same work takes several times as long as in an empty loop. What torch takes to call it is in the loops'
times alone. What is done between steps, a probe of the machine's pace and a save, is in no block's steps: it is told apart, and
spread over 500 steps.

    make benchmark-training-cost    under 6 minutes on 2 quiet cores; results in docs/results/training-cost.md
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from benchmarks.training_cost_loops import BATCHES, KINDS, ORDERS, SKIPPED, STEPS
from commprof.commbench.records.rundir import write_text
from commprof.commbench.spread import median_interval, quantile

Found = dict[str, list[Any]]

ARMS: Final = {"R": "recorder", "W": "record", "T": "trainer", "control": "control (noise)"}
GROUPS: Final = {"small": 24, "large": 8}
TIMEOUT_S = 1800.0
LONG_RUN, PROBES, SAVES = 500, 8, 7  # in so many steps; both come after 8, 16, 32 ..., a probe before the first as well


def measure(name: str, num_ranks: int) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        own = ["-m", "benchmarks.training_cost_loops", name, str(GROUPS[name]), folder]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
        command = [sys.executable, *(torchrun if num_ranks > 1 else []), *own]
        found: Found = json.loads(run_together([command], TIMEOUT_S, {"OMP_NUM_THREADS": "1"}))
        return found


def undisturbed(times: list[float]) -> float:
    return quantile(times, 0.25)


def ratios(blocks: list[list[float]]) -> dict[str, list[float]]:
    """Return each arm over the mean of its group's two A, and, as the control, one of these A over the other."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    size = len(ORDERS[0])
    for group in range(len(blocks) // size):
        own = [undisturbed(block) for block in blocks[size * group : size * group + size]]
        for arm, step_s in zip(ORDERS[group % 2][1:-1], own[1:-1], strict=True):
            found[arm].append(2 * step_s / (own[0] + own[-1]))
        found["control"].append(own[-1] / own[0])
    return found


def rows(name: str, num_ranks: int, found: Found) -> Iterator[str]:
    size = len(ORDERS[0])
    for kind, told in KINDS.items():
        blocks = found[kind]
        step_s = median(undisturbed(blocks[index]) for index in range(0, len(blocks), size))
        shares = [f"{median(values) - 1:+.2%} ({interval(values)})" for values in ratios(blocks).values()]
        own = [own_work(found[f"own {arm}"], step_s) for arm in "RW"] if kind == "wall" else ["", ""]
        cells = [name, str(num_ranks), str(len(blocks) // size), told, f"{step_s * 1e3:.1f} ms", *shares, *own]
        yield "| " + " | ".join(cells) + " |"


def own_work(blocks: list[list[float]], step_s: float) -> str:
    """Say what recording itself takes of a step, the median of all that were metered and the blocks' range, and its share."""
    middles, middle = sorted(map(median, blocks)), median(each for block in blocks for each in block)
    return f"{1e6 * middle:.0f} us ({1e6 * middles[0]:.0f} to {1e6 * middles[-1]:.0f}), {middle / step_s:.2%}"


def between(name: str, num_ranks: int, found: Found) -> str:
    probe_s, save_s = median(found["probes"]), median(found["saves"])
    spread_s = (PROBES * probe_s + SAVES * save_s) / LONG_RUN
    return (
        f"- {name} on {num_ranks}: a probe takes {probe_s * 1e3:.0f} ms, a save {save_s * 1e3:.1f} ms; "
        f"{PROBES} and {SAVES} of them in {LONG_RUN} steps are {spread_s * 1e6:.0f} us a step"
    )


def interval(values: list[float]) -> str:
    low, high = median_interval(values)
    return f"{low - 1:+.1%} to {high - 1:+.1%}"


def lines(runs: Path) -> Iterator[str]:
    yield from ("# Cost of the recorder, of record and of the trainer", "", describe_machine())
    batches = ", ".join(f"{samples} of {name}" for name, samples in BATCHES.items())
    yield f"- groups of five blocks of {STEPS - SKIPPED} steps, one thread a rank, models of configs/*.yaml; samples: {batches}"
    yield "- a block's step is its lower quartile; intervals: 95 % of the median over groups; own work: timed inside of such"
    yield "  steps, the median and the range of its blocks, and that as a share of the bare step"
    yield ""
    yield f"| model | ranks | groups | of | bare step | {' | '.join(ARMS.values())} | recorder's own work | record's own work |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    known = {(name, n): found for name in BATCHES for n in (1, 2) if (found := stored(runs, name, n))}
    for (name, num_ranks), found in known.items():
        yield from rows(name, num_ranks, found)
    yield from ("", "Between steps, and in none of them:", "")
    yield from (between(name, num_ranks, found) for (name, num_ranks), found in known.items())


def stored(runs: Path, name: str, num_ranks: int) -> Found:
    path = runs / f"{name}-{num_ranks}.json"
    found: Found = json.loads(path.read_text()) if path.exists() else {}
    return found


def measure_pieces(runs: Path, pieces: int, ranks: list[int], minutes: float) -> None:
    """Add pieces to what is stored until there are enough or the time is used up, to the rows with the fewest first."""
    end_s, longest_s = time.monotonic() + 60 * minutes, 0.0
    size = len(ORDERS[0])
    while True:
        known = {(name, n): stored(runs, name, n) for name in BATCHES for n in ranks}
        done = {key: len(found.get("wall", ())) // (size * GROUPS[key[0]]) for key, found in known.items()}
        name, num_ranks = min(done, key=lambda key: done[key])
        found, start_s = known[name, num_ranks], time.monotonic()
        if done[name, num_ranks] >= pieces or start_s + longest_s > end_s:
            return
        more = measure(name, num_ranks)
        write_text(runs / f"{name}-{num_ranks}.json", json.dumps({key: found.get(key, []) + more[key] for key in more}))
        longest_s = max(longest_s, time.monotonic() - start_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write training-cost.md there (only printed)")
    parser.add_argument("--pieces", type=int, default=1, metavar="N", help="processes for each model and number of ranks (1)")
    parser.add_argument("--ranks", type=int, nargs="+", choices=(1, 2), default=[1, 2], help="numbers of ranks (1 2)")
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="begin nothing that would not be done by then (60)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/training-cost"), metavar="DIR", help="where it goes on (runs/training-cost)"
    )
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    measure_pieces(args.runs, args.pieces, args.ranks, args.minutes)
    text = "\n".join(lines(args.runs)) + "\n"
    if args.out is not None:
        write_text(args.out / "training-cost.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
