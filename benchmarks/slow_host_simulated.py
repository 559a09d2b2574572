"""Slow hosts from pairs that are made up: how often is the answer right, by the number of hosts and the noise?

make benchmark-slow-host-simulated     half a minute; results in docs/results/slow-host-simulated.md
"""

import argparse
import random
import sys
from itertools import product
from pathlib import Path

from benchmarks.machine import describe_machine
from commprof.analysis.health.slow_hosts import slow_hosts
from commprof.commbench.records.rundir import write_text
from tests.slow_pairs import made_pairs

HOSTS = (3, 4, 8, 16, 64)
NOISE = (0.01, 0.02, 0.03, 0.05)
SEEDS = 200
SLOWDOWNS = (0.1, 0.5)
WHAT = (
    f"{SEEDS} seeds a cell: log rate = min(sender, receiver) + normal noise, over the schedule of `links`. One host or two by "
    "turns are slow (of three hosts one), half of the times in what they send, half both ways. "
    "Shown: right, a healthy host accused."
)


def table() -> str:
    """Return how often made-up pairs are judged right, and how often a healthy host is accused in them."""
    lines = [
        "| hosts | noise of a pair | none slow | slowed by 10 % | slowed by 10 to 50 % |",
        "|---|---|---|---|---|",
    ]
    for num_hosts, noise in product(HOSTS, NOISE):
        cells = [_judged(num_hosts, noise, slowdowns) for slowdowns in (None, (0.1, 0.1), SLOWDOWNS)]
        shown = " | ".join(f"{right:.1%}, {accused:.1%}" for right, accused in cells)
        lines.append(f"| {num_hosts} | {noise:.0%} | {shown} |")
    return "\n".join(lines)


def _judged(num_hosts: int, noise: float, slowdowns: tuple[float, float] | None) -> tuple[float, float]:
    """Return the share of seeds in which exactly the slow hosts are named, and that in which another is."""
    right = accused = 0
    for seed in range(SEEDS):
        rng = random.Random(seed)
        slow = {}
        if slowdowns is not None:
            count = 1 + seed % 2 if num_hosts > 3 else 1
            slow = {host: 1 - rng.uniform(*slowdowns) for host in rng.sample(range(num_hosts), count)}
        both_ways = seed % 4 > 1
        pairs = made_pairs(num_hosts, sends=slow, receives=slow if both_ways else None, noise=noise, seed=1000 + seed)
        named = {half.host for half in slow_hosts(pairs).halves}
        true = {f"host{host}" for host in slow}
        right, accused = right + (named == true), accused + bool(named - true)
    return right / SEEDS, accused / SEEDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    args = parser.parse_args()
    head = ["# The slow host, named from made-up pairs", "", describe_machine(), "- by: `make benchmark-slow-host-simulated`"]
    text = "\n".join([*head, "", WHAT, "", table()]) + "\n"
    write_text(args.out / "slow-host-simulated.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
