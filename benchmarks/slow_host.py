"""Does `commprof check` name the slow host from the pairs that `commprof links` measured?

    make benchmark-slow-host     about 15 minutes as root, in pieces of MINUTES; results in docs/results/slow-host.md

Each try: a testbed of eight hosts, one or two of which, drawn by its seed, have lines 10 to 50 % slower than the others, and
`links` on all of them, judged as `check` does. A try is right when exactly the slow hosts are named, both ways.
As many tries in which no host is slow tell how often a healthy one is accused. Runs lie in runs/slow-host and are kept.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.analysis.health.hosts import judged_by_place
from commprof.analysis.runs.load import load_run
from commprof.commbench.links.cli import VERB, links
from commprof.commbench.machine.hardware import WIRE_VARIABLE
from commprof.commbench.machine.wire import Wire, parse_lines, parse_wire
from commprof.commbench.ranks.stopping import end_process
from commprof.commbench.records.rundir import RUN_FILE, read_info, write_text
from commprof.commbench.units import format_line_rate
from commprof.testbed import network as testbed

SCRIPT = str(Path(sys.executable).parent / "commprof")
NUM_HOSTS = 8
RATE = "400mbit"
SWEEP = ("-b", "512K", "-e", "512K", "-n", "6", "-w", "0")
SLOWDOWNS = (0.1, 0.5)
HEALTHY = 40
SEEDS = range(2 * HEALTHY)
TRY_S = 60.0  # at most
WHAT = (
    f"Eight hosts of the testbed on lines of {RATE}; in the first {HEALTHY} tries one or two of them, drawn by the seed, "
    "have lines that are 10 to 50 % slower, each way. `commprof links "
    + " ".join(SWEEP)
    + "`, judged as `commprof check` does. Right: the slow hosts named as "
    "senders and as receivers, all of them and nobody else."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try: the shares of the line that slow hosts have, and those that were named, by host."""

    seed: int
    slow: dict[str, float]
    senders: dict[str, float]
    receivers: dict[str, float]
    routes: int
    noise: float
    seen_from: float
    unknown: str | None

    @property
    def right(self) -> bool:
        return set(self.senders) == set(self.receivers) == set(self.slow)

    @property
    def accused(self) -> set[str]:
        """The healthy hosts that were named."""
        return (set(self.senders) | set(self.receivers)) - set(self.slow)


def drawn(seed: int) -> dict[str, float]:
    """Return which hosts are slow in a try, and what share of the line each has: one or two by turns, none from HEALTHY on."""
    if seed >= HEALTHY:
        return {}
    rng = random.Random(seed)
    hosts = sorted(rng.sample(range(NUM_HOSTS), 1 + seed % 2))
    return {f"host{host}": round(1 - rng.uniform(*SLOWDOWNS), 3) for host in hosts}


def line_rates(seed: int) -> Wire:
    """Return the lines of a try, each way alike."""
    (rate,) = parse_lines(RATE)
    slow = drawn(seed)
    return parse_wire(",".join(format_line_rate(rate * slow.get(f"host{host}", 1.0)) for host in range(NUM_HOSTS)))


def measure(folder: Path, seeds: Sequence[int], meeting: Path, until_s: float) -> None:
    """Be one rank: for each try have the lines set and run `commprof links`, without starting Python anew each time."""
    first_port = int(os.environ["MASTER_PORT"])
    parser = argparse.ArgumentParser()
    VERB.add_arguments(parser)
    for number, seed in enumerate(seeds):
        wire = line_rates(seed)
        if not goes_on(meeting / str(seed), wire, until_s):
            return
        os.environ["MASTER_PORT"], os.environ[WIRE_VARIABLE] = str(first_port + number), wire.name
        links(parser.parse_args([*SWEEP, "--folder", str(folder / f"try-{seed:03d}")]))


@contextmanager
def ended_at_once() -> Iterator[None]:
    """End the process with the block, as the command does: the stores' threads would outlive the interpreter."""
    try:
        yield
    except BaseException:  # noqa: BLE001  shown, and the exit code tells
        traceback.print_exc()
        end_process(1)
    end_process(0)


def goes_on(word: Path, wire: Wire, until_s: float) -> bool:
    """Say, on every rank the same, whether there is time for another try; rank 0 sets the lines, and says so in a file."""
    if os.environ["RANK"] == "0":
        in_time = time.monotonic() < until_s
        if in_time:
            testbed.set_wire(wire)
        write_text(word, "yes" if in_time else "no")
    while not word.exists():
        time.sleep(0.02)
    return word.read_text() == "yes"


def judged(run: Path, seed: int) -> Try:
    """Judge one run as `commprof check` does."""
    loaded = load_run(run)
    (found,) = judged_by_place(loaded.pairs, loaded.info)
    return Try(
        seed=seed,
        slow=drawn(seed),
        senders={half.host: half.share for half in found.halves if half.way == "sends"},
        receivers={half.host: half.share for half in found.halves if half.way == "receives"},
        routes=len(found.pairs),
        noise=found.noise,
        seen_from=found.seen_from,
        unknown=found.unknown,
    )


def piece(folder: Path, seeds: Sequence[int], seconds: float) -> None:
    """Measure as many of these tries, in their order, as can be begun within so many seconds."""
    words = ["--seeds", *map(str, seeds), "--until", str(time.monotonic() + seconds)]
    with tempfile.TemporaryDirectory() as meeting, testbed.testbed(NUM_HOSTS, parse_wire(RATE)):
        command = [sys.executable, "-m", "benchmarks.slow_host", "--as-rank", str(folder), meeting, *words]
        run_together([[SCRIPT, "testbed", "exec", "--", *command]], seconds + TRY_S)


def results(tries: Sequence[Try]) -> str:
    """Return the tables."""
    slowed, healthy = [one for one in tries if one.slow], [one for one in tries if not one.slow]
    lines = [
        "| tries | right | a healthy host accused | pairs called slow | noise of a pair, median (range) |",
        "|---|---|---|---|---|",
    ]
    kinds = [(f"{count} of {NUM_HOSTS} hosts slow", [one for one in slowed if len(one.slow) == count]) for count in (1, 2)]
    for name, some in [*kinds, ("one or two slow", slowed), ("none slow", healthy)]:
        if some:
            noise = sorted(one.noise for one in some)
            lines.append(
                f"| {name}: {len(some)} | {sum(one.right for one in some)} | {sum(bool(one.accused) for one in some)} | "
                f"{sum(one.routes for one in some)} | {median(noise):.2%} ({noise[0]:.2%} to {noise[-1]:.2%}) |"
            )
    shares = [
        (found[host], share)
        for one in slowed
        for found in (one.senders, one.receivers)
        for host, share in one.slow.items()
        if host in found
    ]
    off = sorted(found - share for found, share in shares)
    if off:
        lines += [
            "",
            f"Named minus true share: {median(off):+.3f} in the median, {off[0]:+.3f} to {off[-1]:+.3f}.",
        ]
    lines += ["", "| seed | slow hosts, share of the line | named | right |", "|---|---|---|---|"]
    for one in tries:
        true = ", ".join(f"{host} {share:.3f}" for host, share in one.slow.items()) or "none"
        named = [f"{host} sends {share:.3f}" for host, share in one.senders.items()]
        named += [f"{host} receives {share:.3f}" for host, share in one.receivers.items()]
        lines.append(f"| {one.seed} | {true} | {', '.join(named) or one.unknown or 'none'} | {'yes' if one.right else 'no'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs/slow-host"), metavar="DIR", help="where runs are kept")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="how long to go on (60); 0 sums up")
    parser.add_argument("--as-rank", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()

    if args.as_rank:
        folder, meeting = args.as_rank
        with ended_at_once():
            measure(folder, args.seeds, meeting, args.until)
    runs = args.runs
    todo = [seed for seed in SEEDS if not done(runs / f"try-{seed:03d}")]
    if todo and args.minutes > 0:
        runs.mkdir(parents=True, exist_ok=True)
        piece(runs.resolve(), todo, 60 * args.minutes)
    tries = [judged(run, seed) for seed in SEEDS if done(run := runs / f"try-{seed:03d}")]
    head = [
        "# The slow host, named",
        "",
        describe_machine(),
        f"- {len(tries)} of {len(SEEDS)} tries (make benchmark-slow-host)",
    ]
    text = "\n".join([*head, "", WHAT, "", results(tries)]) + "\n"
    write_text(args.out / "slow-host.md", text)
    sys.stdout.write(text)


def done(run: Path) -> bool:
    """Say whether a try was measured to its end; remove what was broken off."""
    if (run / RUN_FILE).exists() and read_info(run).status == "completed":
        return True
    shutil.rmtree(run, ignore_errors=True)
    return False


if __name__ == "__main__":
    main()
