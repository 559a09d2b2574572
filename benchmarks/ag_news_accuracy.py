"""Does the model still learn when gradients travel in two bytes, or are gathered over micro-batches?

`small` on real AG News: the first 6,600 articles of a file train, its last 1,000 evaluate, one epoch on two ranks of one
thread. Three ways, with several seeds each, in turns: float32 as it is; the bf16 communication hook; accumulation over four
micro-batches, with the batch that one optimizer step sees left as it is. A fourth way is that of people who accumulate to make
the batch larger, 4 x 32: fewer updates in an epoch.

    make benchmark-ag-news             about 15 minutes on 2 cores; results in docs/results/ag-news-accuracy.md
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.commbench.records.rundir import read_records, write_text
from commprof.commbench.records.training import EvaluationMeasurement

REPO = Path(__file__).parents[1]
WAYS = {
    "float32": (),
    "bf16 hook": ("distributed.communication_hook=bf16",),
    "accumulation 4": ("training.accumulation=4",),
    "accumulation 4, batch x4": ("training.accumulation=4", "training.batch_size=128"),
}
LOWEST, MOST_APART = 0.82, 0.02
TIMEOUT_S = 600


def accuracy(options: tuple[str, ...], seed: int, articles: Path, folder: Path) -> EvaluationMeasurement:
    """Train once and return the last evaluation."""
    where = [f"data.train_csv={articles}", f"data.eval_csv={articles}", f"data.cache_dir={folder / 'cache'}"]
    cut = ["data.source=csv", "data.train_first=6600", "data.eval_last=1000", f"training.seed={seed}"]
    run = folder / f"run-{len(list(folder.iterdir()))}"
    command = [Path(sys.executable).parent / "commprof", "train", REPO / "configs" / "small.yaml", "--nproc", "2"]
    command += ["--folder", run, "profiling.trace_steps=0", "distributed.threads_per_rank=1", *cut, *where, *options]
    subprocess.run(list(map(str, command)), check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
    *_, last = read_records(run / "evaluations.jsonl", EvaluationMeasurement)
    return last


def lines(found: dict[str, list[EvaluationMeasurement]]) -> Iterator[str]:
    yield from ("# Accuracy on AG News", "", describe_machine())
    some = next(iter(found.values()))
    yield f"- 6,600 real articles to train on, {some[0].num_samples} held out, one epoch on 2 gloo ranks, {len(some)} seeds"
    yield from ("", "| way | accuracy, median (range) | training time, median |", "|---|---|---|")
    medians = {}
    for way, results in found.items():
        reached = sorted(result.accuracy for result in results)
        medians[way] = median(reached)
        took_s = median(result.elapsed_s for result in results)
        yield f"| {way} | {medians[way]:.3f} ({reached[0]:.3f} to {reached[-1]:.3f}) | {took_s:.0f} s |"
    asked = [medians[way] for way in list(WAYS)[:3]]
    met = "met" if min(asked) >= LOWEST and max(asked) - min(asked) <= MOST_APART else "not met"
    yield from ("", f"The first three are at least {LOWEST} and within {MOST_APART * 100:.0f} points of each other: {met}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("articles", type=Path, metavar="CSV", help="AG News' test.csv")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write ag-news-accuracy.md there (only printed)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each way (3)")
    args = parser.parse_args()
    found: dict[str, list[EvaluationMeasurement]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            for way, options in WAYS.items():
                found[way].append(accuracy(options, seed, args.articles.absolute(), Path(folder)))
                sys.stderr.write(f"{way}, seed {seed}: {found[way][-1].accuracy:.3f}\n")
    text = "\n".join(lines(found)) + "\n"
    if args.out is not None:
        write_text(args.out / "ag-news-accuracy.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
