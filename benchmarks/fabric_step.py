"""How near does a step come that is predicted for several ranks on each of four hosts, from benches of one and two?

    make benchmark-fabrics      part of it, 2 minutes more as root; docs/results/fabrics-step.md

A training on four hosts of two ranks, predicted from one rank's profile, the computation of 8 ranks that send nothing, and the
benches of one and two hosts that benchmarks/fabrics.py makes. The prediction is on disk before the run that checks it begins.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.fabrics import SCRIPT, TIMEOUT_S, Part, bench_ahead, benched_hosts, is_complete, testbed
from benchmarks.machine import describe_machine
from commprof.analysis.advice.predict import predict_runs
from commprof.analysis.runs.load import load_run, load_runs
from commprof.commbench.records.rundir import read_document, write_document, write_text

PART: Final = Part(ranks_per_host=2, hosts=(4,))
CONFIG: Final = Path(__file__).parents[1] / "configs" / "small.yaml"
TRAINING: Final = (
    *("experiment_name=small", "training.batch_size=8", "training.max_steps=40", "training.evaluate=false"),
    *("profiling.trace_steps=0", "profiling.warmup_steps=4", "distributed.threads_per_rank=1"),
)


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A training's median step, s, as predicted; without an interval where it was too disturbed."""

    world_size: int
    predicted_s: float
    low_s: float | None
    high_s: float | None


def train(run: Path, num_hosts: int, *words: str) -> None:
    """Train on all ranks of the first hosts, on this machine alone where that is none; nothing where that was done."""
    if is_complete(run):
        return
    shutil.rmtree(run, ignore_errors=True)
    hosts = [SCRIPT, "testbed", "exec", "--hosts", str(num_hosts), "--"] if num_hosts else []
    command = [*hosts, SCRIPT, "train", str(CONFIG), *TRAINING, *words, "--folder", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)


def measure(root: Path, folder: Path) -> None:
    """Bench, profile and compute, predict, write, and only then train on all ranks; what is there stays."""
    (hosts,) = PART.hosts
    bench_ahead(PART, root)
    train(folder / "profile", 0)
    with testbed(PART, hosts):
        train(folder / "compute", hosts, "distributed.synchronisation=compute_only")
        if not (folder / "predicted.json").exists():
            write_document(folder / "predicted.json", predict(root, folder, hosts * PART.ranks_per_host))
        train(folder / "train", hosts)


def predict(root: Path, folder: Path, world_size: int) -> StepRow:
    benches = [root / PART.folder / f"hosts{hosts}" / "all_reduce" for hosts in benched_hosts(PART)]
    runs = load_runs([folder / "profile", folder / "compute", *benches])
    schedule = next(one for one in predict_runs(runs, [world_size]).predictions if one.model == "schedule")
    span = schedule.interval_s
    return StepRow(
        world_size=world_size,
        predicted_s=schedule.step_s,
        low_s=None if span is None else span.low,
        high_s=None if span is None else span.high,
    )


def table(folder: Path) -> Iterator[str]:
    row = read_document(folder / "predicted.json", StepRow)
    compute_s, step_s = (load_run(folder / name).median_step_s() for name in ("compute", "train"))
    span = "none" if row.low_s is None or row.high_s is None else f"{row.low_s * 1e3:.0f} to {row.high_s * 1e3:.0f} ms"
    yield "| ranks | computation | predicted | 90 % interval | measured | error |"
    yield "|---|---|---|---|---|---|"
    yield (
        f"| {row.world_size} | {compute_s * 1e3:.0f} ms | {row.predicted_s * 1e3:.0f} ms | {span} | {step_s * 1e3:.0f} ms | "
        f"{row.predicted_s / step_s - 1:+.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/fabrics"), metavar="DIR", help="where benches are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    args = parser.parse_args()
    folder = args.root / "step"
    measure(args.root, folder)
    head = ["# A step on four hosts of two ranks", "", describe_machine(), "- make benchmark-fabrics, lines of 200 Mbit/s"]
    text = "\n".join([*head, "", *table(folder)]) + "\n"
    write_text(args.out / "fabrics-step.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
