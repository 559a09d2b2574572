"""What do the recorder, `record` and the trainer cost a training step? One model, in turns: A R W T A, A T W R A, ...

A is the bare loop that people write: model, loss, backward, optimizer, batches ready in memory. R is the same loop in a
StepRecorder. W is the bare loop watched as `commprof record` watches it, telemetry too. T is `commprof train`'s own loop with
its recorder, data loader and progress line. All of them train one model in one process per rank, so that nothing but the loop
differs; a step is what passes between two optimizer steps, on the clock and of the process' processor time, which other
processes disturb less. Each block begins with steps that DDP needs to lay its buckets out; they are left out. Each R, W and T
is compared with the two A around them; the control compares those two with each other: what it shows is noise. Blocks are
short and many, and batches small: a recorder costs a step the same whatever the batch, so that a share of these steps is more
than one of the steps people take.

The own work of the recorder and of the watch is also timed where next to nothing else happens: a model with as many parameters
and buckets, each of a few elements. It does not depend on the batch, so it can be set against the step that the machine takes.

    make benchmark-training-cost    under 6 minutes on 2 quiet cores; results in docs/results/training-cost.md
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.commbench.foreign.arming import Armed
from commprof.commbench.foreign.asked import Asked
from commprof.commbench.ranks.launched import RankContext, detect_rank
from commprof.commbench.recorder.bucket_tap import tap_of
from commprof.commbench.recorder.steps import StepRecorder
from commprof.commbench.records.rundir import write_text
from commprof.commbench.spread import median_interval
from commprof.commbench.timing import MonotonicClock
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.loop import train
from commprof.train.text.batches import batches_of
from commprof.train.text.dataset import prepare_data
from commprof.train.trainee import Trainee, build_trainee

REPO = Path(__file__).parents[1]
BATCHES = {"small": 4, "large": 1}
ORDERS = ("ARWTA", "ATWRA")
ARMS = {"R": "recorder", "W": "record", "T": "trainer", "control": "control (noise)"}
GROUPS = {"small": 18, "large": 6}
SKIPPED = 3  # of each block: first steps of a new reducer, and the block's own start
EMPTY_STEPS = 200
KINDS = {"wall": "time", "cpu": "processor time"}
EMPTY_ARMS = "ARW"
TIMEOUT_S = 1800.0

Loop = Callable[[int], None]


def rank_main(name: str, groups: int, steps: int, folder: Path) -> None:
    """Do every block as one rank; rank 0 prints {"wall": [[step seconds]], "cpu": [...], "empty": [...]} as JSON."""
    torch.set_num_threads(1)
    context = detect_rank(os.environ)
    if context.world_size > 1:
        dist.init_process_group("gloo")
    words = [f"training.batch_size={BATCHES[name]}"]
    config = shortened(load_train_config(REPO / "configs" / f"{name}.yaml", words), SKIPPED + steps)
    trainee = build_trainee(config, torch.device("cpu"))
    loops = loops_of(config, trainee, context, folder)
    stamps: list[tuple[float, float]] = []
    trainee.optimizer.register_step_post_hook(lambda *_: stamps.append((time.perf_counter(), time.process_time())))
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for number, arm in enumerate("".join(ORDERS[group % 2] for group in range(groups))):
        stamps.clear()
        loops[arm](SKIPPED + steps)
        for kind, times in zip(KINDS, zip(*stamps[SKIPPED - 1 :], strict=True), strict=True):
            found[kind].append([b - a for a, b in pairwise(times)])
        if context.rank == 0:
            sys.stderr.write(f"{name}: block {number + 1}/{len(ORDERS[0]) * groups}\n")
    found["empty"] = empty_steps(trainee.model, context, folder)
    if context.world_size > 1:
        dist.destroy_process_group()
    if context.rank == 0:
        sys.stdout.write(json.dumps(found))


def shortened(config: TrainConfig, steps: int) -> TrainConfig:
    training = replace(config.training, max_steps=steps, evaluate=False)
    return replace(config, training=training, profiling=replace(config.profiling, warmup_steps=0, trace_steps=0))


def loops_of(config: TrainConfig, trainee: Trainee, context: RankContext, folder: Path) -> dict[str, Loop]:
    training, evaluation = prepare_data(config.data, config.model)
    batches = [(tokens.long(), labels) for tokens, labels in islice(batches_of(training, config, context, trainee.device), 8)]
    optimizer = trainee.optimizer

    def bare(steps: int) -> None:
        for tokens, labels in islice(cycle(batches), steps):
            loss = functional.cross_entropy(trainee.model(tokens), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    def recorded(steps: int) -> None:
        with recorder_of(trainee.model, context, fresh(folder, context)) as recorder:
            for tokens, labels in recorder.steps(islice(cycle(batches), steps)):
                loss = functional.cross_entropy(trainee.model(tokens), labels)
                recorder.begin("backward")
                loss.backward()  # type: ignore[no-untyped-call]
                recorder.begin("optimizer")
                optimizer.step()
                optimizer.zero_grad()
                recorder.note_loss(loss)

    def trainer(steps: int) -> None:
        train(config, trainee, training, evaluation, context, fresh(folder, context))

    def watched(steps: int) -> None:
        armed = Armed(asked_of(fresh(folder, context)))
        armed.arm()
        bare(steps)
        disarm(armed, trainee.model)

    return {"A": bare, "R": recorded, "W": watched, "T": trainer}


def asked_of(folder: Path) -> Asked:
    return Asked(folder=str(folder), notes=str(folder))


def disarm(armed: Armed, model: nn.Module) -> None:
    """Take the watch off, and on all ranks together what it leaves: DDP's hook, which does what DDP does."""
    armed.disarm()
    tap = tap_of(model) if isinstance(model, DistributedDataParallel) else None
    if tap is not None:
        tap.detach()


def recorder_of(model: nn.Module, context: RankContext, folder: Path) -> StepRecorder:
    clock = MonotonicClock()
    return StepRecorder(model, folder=folder, rank=context.rank, clock=clock, samples_per_rank=1, warmup_steps=0)


def fresh(folder: Path, context: RankContext) -> Path:
    """Return an empty folder of this rank's own."""
    own = folder / f"rank{context.rank}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    return own


class Skeleton(nn.Module):
    """As many parameters as another model, of four elements each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ParameterList([torch.ones(4) for _ in model.parameters()])

    def forward(self) -> torch.Tensor:
        total: torch.Tensor = torch.stack([part.sum() for part in self.parts]).sum()
        return total


def empty_steps(model: nn.Module, context: RankContext, folder: Path) -> list[list[float]]:
    """Return the seconds of steps of next to nothing, in blocks in turns: bare, with a recorder, under the watch."""
    skeleton: nn.Module = Skeleton(model)
    if context.world_size > 1:
        skeleton = DistributedDataParallel(skeleton)
    optimizer = torch.optim.SGD(skeleton.parameters(), lr=0.0)
    blocks = []
    for number in range(5 * len(EMPTY_ARMS)):
        arm, own = EMPTY_ARMS[number % len(EMPTY_ARMS)], fresh(folder, context)
        armed = Armed(asked_of(own))
        if arm == "W":
            armed.arm()
        seconds = []
        with recorder_of(skeleton, context, own) if arm == "R" else nullcontext() as recorder:
            for _ in range(EMPTY_STEPS):
                start_s = time.perf_counter()
                with nullcontext() if recorder is None else recorder.step():
                    loss = skeleton()
                    with nullcontext() if recorder is None else recorder.phase("backward"):
                        loss.backward()
                    optimizer.step()
                seconds.append(time.perf_counter() - start_s)
        if arm == "W":
            disarm(armed, skeleton)
        blocks.append(seconds[SKIPPED:])
    return blocks


def measure(name: str, num_ranks: int, groups: int, steps: int) -> dict[str, list[list[float]]]:
    with tempfile.TemporaryDirectory() as folder:
        own = ["-m", "benchmarks.training_cost", "--config", name, "--folder", folder]
        own += ["--groups", str(groups), "--steps", str(steps)]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
        command = [sys.executable, *(torchrun if num_ranks > 1 else []), *own]
        found: dict[str, list[list[float]]] = json.loads(run_together([command], TIMEOUT_S, {"OMP_NUM_THREADS": "1"}))
        return found


def ratios(blocks: list[list[float]]) -> dict[str, list[float]]:
    """Return each arm over the mean of its group's two A, and, as the control, one of these A over the other."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    size = len(ORDERS[0])
    for group in range(len(blocks) // size):
        own = [median(block) for block in blocks[size * group : size * group + size]]
        for arm, step_s in zip(ORDERS[group % 2][1:-1], own[1:-1], strict=True):
            found[arm].append(2 * step_s / (own[0] + own[-1]))
        found["control"].append(own[-1] / own[0])
    return found


def rows(name: str, num_ranks: int, found: dict[str, list[list[float]]]) -> Iterator[str]:
    size = len(ORDERS[0])
    for kind, told in KINDS.items():
        blocks = found[kind]
        step_s = median(median(blocks[index]) for index in range(0, len(blocks), size))
        shares = [f"{median(values) - 1:+.2%} ({interval(values)})" for values in ratios(blocks).values()]
        own = own_work(found["empty"], step_s) if kind == "wall" else ("", "")
        cells = [name, str(num_ranks), str(len(blocks) // size), told, f"{step_s * 1e3:.0f} ms", *shares, *own]
        yield "| " + " | ".join(cells) + " |"


def own_work(empty: list[list[float]], step_s: float) -> Iterator[str]:
    """Yield what each way of recording adds to an empty step, the median over its blocks, and its share of a step."""
    bare, *ways = ([median(block) for block in empty[part :: len(EMPTY_ARMS)]] for part in range(len(EMPTY_ARMS)))
    for way in ways:
        added_s = sorted(own - before for own, before in zip(way, bare, strict=True))
        spread = f"{1e6 * added_s[0]:.0f} to {1e6 * added_s[-1]:.0f}"
        yield f"{1e6 * median(added_s):.0f} us ({spread}), {median(added_s) / step_s:.2%}"


def interval(values: list[float]) -> str:
    low, high = median_interval(values)
    return f"{low - 1:+.1%} to {high - 1:+.1%}"


def lines(runs: Path, steps: int) -> Iterator[str]:
    yield from ("# Cost of the recorder, of record and of the trainer", "", describe_machine())
    batches = ", ".join(f"{samples} of {name}" for name, samples in BATCHES.items())
    yield f"- groups of five blocks of {steps} steps, one thread a rank, models of configs/*.yaml, samples a step: {batches}"
    yield "- intervals: 95 % of the median over groups; own work: what recording adds to a step of as many, but tiny,"
    yield "  parameters, the median of its blocks and their range, and that as a share of the bare step"
    yield ""
    yield f"| model | ranks | groups | of | bare step | {' | '.join(ARMS.values())} | recorder's own work | record's own work |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for name in BATCHES:
        for num_ranks in (1, 2):
            found = stored(runs, name, num_ranks)
            if found["wall"]:
                yield from rows(name, num_ranks, found)
    yield ""
    yield "The own work is measured well on one rank only: on two, an empty step is spent waking the other's threads."


def stored(runs: Path, name: str, num_ranks: int) -> dict[str, list[list[float]]]:
    path = runs / f"{name}-{num_ranks}.json"
    found: dict[str, list[list[float]]] = (
        json.loads(path.read_text()) if path.exists() else {"wall": [], "cpu": [], "empty": []}
    )
    return found


def measure_pieces(runs: Path, pieces: int, steps: int, minutes: float) -> None:
    """Add pieces to what is stored until there are enough or the time is used up, to the rows with the fewest first."""
    end_s, longest_s = time.monotonic() + 60 * minutes, 0.0
    size = len(ORDERS[0])
    while True:
        known = {(name, n): stored(runs, name, n) for name in BATCHES for n in (1, 2)}
        done = {key: len(found["wall"]) // (size * GROUPS[key[0]]) for key, found in known.items()}
        name, num_ranks = min(done, key=lambda key: done[key])
        found, start_s = known[name, num_ranks], time.monotonic()
        if done[name, num_ranks] >= pieces or start_s + longest_s > end_s:
            return
        more = measure(name, num_ranks, GROUPS[name], steps)
        write_text(runs / f"{name}-{num_ranks}.json", json.dumps({key: found[key] + more[key] for key in found}))
        longest_s = max(longest_s, time.monotonic() - start_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write training-cost.md there (only printed)")
    parser.add_argument("--pieces", type=int, default=1, metavar="N", help="processes for each model and number of ranks (1)")
    parser.add_argument("--groups", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=8, metavar="N", help="steps measured in a block (8)")
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="begin nothing that would not be done by then (60)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/training-cost"), metavar="DIR", help="where it goes on (runs/training-cost)"
    )
    parser.add_argument("--config", choices=tuple(BATCHES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.config is not None:
        rank_main(args.config, args.groups, args.steps, args.folder)
        return
    args.runs.mkdir(parents=True, exist_ok=True)
    measure_pieces(args.runs, args.pieces, args.steps, args.minutes)
    text = "\n".join(lines(args.runs, args.steps)) + "\n"
    if args.out is not None:
        write_text(args.out / "training-cost.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
