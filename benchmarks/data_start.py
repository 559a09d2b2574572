"""How long does a training wait for AG News' 120,000 articles: the first time, and once they are cached?

    make benchmark-data                under two minutes; results in docs/results/data-start.md

The first --count articles of a CSV file, repeated as often as needed, become train.csv; the file itself becomes test.csv. Each
start is a fresh Python that reads, encodes and caches them (first), or finds them cached (next): interleaved, with a cache of
their own. Wall and CPU seconds and peak memory are the whole process's, as the kernel counted them; `prepare_data` alone
is timed inside. Repeated articles have fewer different words than as many real ones.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.commbench.errors import RunFailed
from commprof.commbench.records.rundir import write_text
from commprof.commbench.units import format_bytes

MAX_FIRST_S, MAX_NEXT_S, MAX_BYTES = 12.0, 1.0, 10**9
CHILD = """
import sys, time
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import prepare_data
train_csv, eval_csv, cache, count = sys.argv[1:]
begin_s = time.perf_counter()
training, _ = prepare_data(DataConfig(source="csv", train_csv=train_csv, eval_csv=eval_csv, cache_dir=cache), ModelConfig())
print(time.perf_counter() - begin_s)
assert len(training.labels) == int(count) and "torch" not in sys.modules
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: the whole process's wall and CPU time and peak memory, and what `prepare_data` took of it."""

    wall_s: float
    cpu_s: float
    prepare_s: float
    peak_bytes: int


def write_articles(source: Path, target: Path, count: int) -> None:
    """Repeat a file's lines until there are `count` of them."""
    lines = source.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(islice(cycle(lines), count)))


def start(train_csv: Path, eval_csv: Path, cache: Path, count: int) -> Start:
    """Prepare the data in a fresh process; raise RunFailed where that fails."""
    words = [sys.executable, "-c", CHILD, str(train_csv), str(eval_csv), str(cache), str(count)]
    begin_s = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - begin_s
    if process.returncode != 0:
        raise RunFailed(f"preparing {train_csv} failed with code {process.returncode}; its own words are above")
    peak_bytes = usage.ru_maxrss * 1024  # Linux counts it in KiB
    return Start(wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, prepare_s=float(printed), peak_bytes=peak_bytes)


def report(found: dict[str, list[Start]]) -> Iterator[str]:
    """Yield Markdown: one row a kind of start, and whether the aims are met in every one of them."""
    yield "| start | repeats | wall, median (range) | `prepare_data` | CPU | peak memory |"
    yield "|---|---|---|---|---|---|"
    for name, starts in found.items():
        columns = [[getattr(s, field) for s in starts] for field in ("wall_s", "prepare_s", "cpu_s")]
        seconds = " | ".join(f"{median(values):.2f} s ({min(values):.2f} to {max(values):.2f})" for values in columns)
        yield f"| {name} | {len(starts)} | {seconds} | {format_bytes(max(s.peak_bytes for s in starts))} |"
    first, later = found["first"], found["next"]
    yield ""
    yield f"- first start at most {MAX_FIRST_S:g} s: {_met(all(s.wall_s <= MAX_FIRST_S for s in first))}"
    yield f"- next start under {MAX_NEXT_S:g} s: {_met(all(s.wall_s < MAX_NEXT_S for s in later))}"
    yield f"- at most 1 GB of memory: {_met(all(s.peak_bytes <= MAX_BYTES for s in (*first, *later)))}"


def _met(every: bool) -> str:
    return "yes, in every repeat" if every else "NO, not in every repeat"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("articles", type=Path, metavar="CSV", help="a file in AG News' format, one article a line")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the result there (printed only)")
    parser.add_argument("--count", type=int, default=120_000, metavar="N", help="articles to train on (120000)")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="interleaved repeats (7)")
    args = parser.parse_args()
    found: dict[str, list[Start]] = {"first": [], "next": []}
    others = (
        f"- load average at the start: {os.getloadavg()[0]:.1f}, so CPU seconds tell more than wall seconds where it is high"
    )
    with tempfile.TemporaryDirectory() as folder:
        train_csv = Path(folder) / "train.csv"
        write_articles(args.articles, train_csv, args.count)
        for repeat in range(args.repeats):
            for name, starts in found.items():  # the second of a repeat finds what the first has left
                starts.append(start(train_csv, args.articles, Path(folder) / f"cache{repeat}", args.count))
                sys.stderr.write(f"{repeat + 1}/{args.repeats} {name}: {starts[-1].wall_s:.2f} s\n")
        size = train_csv.stat().st_size
    what = f"- {args.count:,} articles, {format_bytes(size)} ({args.articles.name} repeated), vocabulary 12,000, 128 tokens"
    lines = ["# Reading AG News' articles", "", describe_machine(), what, others, "", *report(found)]
    if args.out is not None:
        write_text(args.out / "data-start.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
