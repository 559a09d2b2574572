"""How near do costs come that are carried from one and two hosts to more?

    make benchmark-fabrics      about 20 minutes as root; a part of it with PARTS="alike-2 spine-2"; docs/results/fabrics.md

Benches of all_reduce, all_gather and reduce_scatter inside one host and over two, once with one and once with two ranks a host.
From them the costs over 3 and more hosts, written to disk; then the benches that check them: lines alike, one line of half the
rate, a switch that carries two lines, ranks dealt out to the hosts in turn. What differs from the benches is told as a user
would tell it. Rates are such that the line is what limits, with 8 ranks on 2 cores too. Hosts of a cluster have cores of their
own; here they share two with whatever else runs, and a rank that waits for one made a ring of 2 hosts of 2 up to a fifth slower
than its line. With a real-time priority it is within 1 % of it, so the ranks have that; it takes root, as the testbed does.

It goes on where it was left: a bench that is complete is not made again, nor is a prediction that is on disk. With MINUTES it
begins nothing new after as many. A step predicted with them is in benchmarks/fabric_step.py, which the target runs after it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np

from benchmarks.machine import describe_machine
from commprof.analysis.runs.load import load_run
from commprof.analysis.wire.benched import fit_op_costs
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.fabric import Fabric
from commprof.analysis.wire.fit import fit_wire
from commprof.cli import main as commprof
from commprof.commbench.records.rundir import read_document, write_document, write_text
from commprof.commbench.units import format_bytes

SCRIPT = str(Path(sys.executable).parent / "commprof")
OPS: Final = ("all_reduce", "all_gather", "reduce_scatter")
SWEEP: Final = ("-b", "1M", "-e", "8M", "-f", "2", "-w", "1", "--place", "in", "-c", "0", "--seconds", "15")
SIZES: Final = (2**20, 2 * 2**20, 4 * 2**20, 8 * 2**20)
TIMEOUT_S: Final = 280.0
RATE: Final = 200  # Mbit/s
AHEAD_OF_OTHERS: Final = ("chrt", "-r", "5")


HOW: Final = (
    f"- make benchmark-fabrics, lines of {RATE} Mbit/s, ranks with a real-time priority; predictions were on disk before the "
    "runs that check them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One fabric: the ranks on a host, the hosts to check at, each line and the switch in Mbit/s, and the ranks' order."""

    ranks_per_host: int
    hosts: tuple[int, ...]
    lines: tuple[int, ...] = (RATE,)
    spine: int | None = None
    dealt: bool = False

    @property
    def fabric(self) -> Fabric:
        return Fabric(lines=self.lines, spine=self.spine, order="dealt" if self.dealt else None)

    @property
    def folder(self) -> str:
        """Where the benches lie that all parts of as many ranks a host share."""
        return f"benched-{self.ranks_per_host}"


_SLOW = (RATE, RATE, RATE // 2, RATE)
PARTS: Final = {
    "alike-2": Part(ranks_per_host=2, hosts=(3, 4)),
    "slow-2": Part(ranks_per_host=2, hosts=(4,), lines=_SLOW),
    "spine-2": Part(ranks_per_host=2, hosts=(4,), spine=2 * RATE),
    "alike-1": Part(ranks_per_host=1, hosts=(3, 4, 8)),
    "slow-1": Part(ranks_per_host=1, hosts=(3, 4), lines=_SLOW),
    "spine-1": Part(ranks_per_host=1, hosts=(3, 4), spine=2 * RATE),
    "dealt-2": Part(ranks_per_host=2, hosts=(4,), dealt=True),
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One collective at one size and number of hosts: seconds predicted before, and measured after (0 until then)."""

    part: str
    op: str
    num_hosts: int
    message_bytes: int
    predicted_s: float
    measured_s: float = 0.0

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1


def rank(folder: Path, *, dealt: bool) -> None:
    """Be one rank: time all operations one after the other, with torch loaded once."""
    hosts, per_host = int(os.environ["NUM_HOSTS"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if dealt:
        host, local = divmod(int(os.environ["RANK"]), per_host)
        os.environ["RANK"] = str(local * hosts + host)
    port = int(os.environ["MASTER_PORT"])
    for number, op in enumerate(OPS):
        os.environ["MASTER_PORT"] = str(port + number)
        code = commprof(["bench", op, *SWEEP, "--folder", str(folder / op)])
        if code:
            sys.exit(code)


@contextmanager
def testbed(part: Part, num_hosts: int) -> Iterator[None]:
    """Have the part's hosts and lines while the block runs."""
    up = ["--hosts", str(num_hosts), "--ranks-per-host", str(part.ranks_per_host)]
    up += ["--rate", ",".join(f"{line}mbit" for line in part.lines)]
    up += [] if part.spine is None else ["--spine", f"{part.spine}mbit"]
    subprocess.run([SCRIPT, "testbed", "up", *up], check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    try:
        yield
    finally:
        subprocess.run([SCRIPT, "testbed", "down"], check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)


def bench(num_hosts: int, folder: Path, *, dealt: bool = False) -> None:
    """Bench all operations on the first hosts of the testbed that is up; what an interrupted one left goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    words = [*AHEAD_OF_OTHERS, sys.executable, "-m", "benchmarks.fabrics", "--rank", str(folder)]
    words += ["--dealt"] if dealt else []
    environ = {**os.environ, "NUM_HOSTS": str(num_hosts), "MASTER_PORT": "29500"}
    command = [SCRIPT, "testbed", "exec", "--hosts", str(num_hosts), "--", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, env=environ)


def is_complete(run: Path) -> bool:
    return (run / "run.json").exists() and load_run(run).info.status == "completed"


def is_benched(folder: Path) -> bool:
    return all(is_complete(folder / op) for op in OPS)


def predict(name: str, part: Part, root: Path) -> list[Row]:
    """Carry the benches of one and two hosts to the others."""
    runs = [load_run(root / part.folder / f"hosts{k}" / op) for k in benched_hosts(part) for op in OPS]
    carried = {
        hosts: fit_wire(runs, [hosts * part.ranks_per_host], nodes=hosts, fabric=part.fabric).carried for hosts in part.hosts
    }
    return [
        Row(part=name, op=cost.op, num_hosts=hosts, message_bytes=size, predicted_s=cost_s(cost, size))
        for hosts, costs in carried.items()
        for cost in costs
        for size in SIZES
    ]


def check(row: Row, root: Path) -> Row:
    run = load_run(root / row.part / f"hosts{row.num_hosts}" / row.op)
    (cost,) = fit_op_costs([run], row.op).values()
    benched = zip(cost.message_bytes, cost.median_s, strict=True)  # no curve: one may set a size aside
    size, measured_s = min(benched, key=lambda own: abs(own[0] - row.message_bytes))
    return msgspec.structs.replace(row, measured_s=measured_s * row.message_bytes / size)  # bytes that ranks share out evenly


def bench_ahead(part: Part, root: Path) -> None:
    """Bench one and two hosts where that was not done."""
    missing = [hosts for hosts in benched_hosts(part) if not is_benched(root / part.folder / f"hosts{hosts}")]
    if missing:
        with testbed(Part(ranks_per_host=part.ranks_per_host, hosts=()), 2):
            for hosts in missing:
                bench(hosts, root / part.folder / f"hosts{hosts}")


def measure(name: str, root: Path, is_late: Callable[[], bool]) -> None:
    """Bench one and two hosts, predict, write, and only then bench what checks; what is there stays."""
    part = PARTS[name]
    bench_ahead(part, root)
    kept = root / name / "predicted.json"
    if not kept.exists():
        write_document(kept, predict(name, part, root))
    for hosts in part.hosts:
        if not is_late() and not is_benched(root / name / f"hosts{hosts}"):
            with testbed(part, max(hosts, len(part.lines))):
                bench(hosts, root / name / f"hosts{hosts}", dealt=part.dealt)


def benched_hosts(part: Part) -> tuple[int, ...]:
    return (2,) if part.ranks_per_host == 1 else (1, 2)


def checked(root: Path) -> list[Row]:
    """Return every prediction on disk that has been measured since."""
    rows = []
    for name in PARTS:
        kept = root / name / "predicted.json"
        for row in read_document(kept, list[Row]) if kept.exists() else ():
            if is_complete(root / row.part / f"hosts{row.num_hosts}" / row.op):
                rows += [check(row, root)]
    return rows


def tables(rows: Sequence[Row]) -> Iterator[str]:
    yield "| fabric | op | predictions | error, median | error, p90 | range |"
    yield "|---|---|---|---|---|---|"
    for name in (*PARTS, "all"):
        for op in OPS if name != "all" else (*OPS, "all"):
            chosen = [row for row in rows if name in (row.part, "all") and op in (row.op, "all")]
            if chosen:
                yield f"| {name} | {op} | {_summary(chosen)} |"
    yield ""
    yield "| fabric | hosts | op | size | predicted | measured | error |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.part} | {row.num_hosts} | {row.op} | {format_bytes(row.message_bytes)} | {row.predicted_s * 1e3:.1f} ms | "
            f"{row.measured_s * 1e3:.1f} ms | {row.error:+.1%} |"
        )


def _summary(rows: Sequence[Row]) -> str:
    sizes = [abs(row.error) for row in rows]
    signed = sorted(row.error for row in rows)
    return f"{len(rows)} | {median(sizes):.1%} | {np.percentile(sizes, 90):.1%} | {signed[0]:+.1%} to {signed[-1]:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--root", type=Path, default=Path("runs/fabrics"), metavar="DIR", help="where benches are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="begin nothing new after as many (60)")
    parser.add_argument("--rank", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--dealt", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank is not None:
        rank(args.rank, dealt=args.dealt)
        return
    until_s = time.monotonic() + 60 * args.minutes
    for name in args.parts or PARTS:
        if time.monotonic() < until_s:
            measure(name, args.root, lambda: time.monotonic() >= until_s)
    rows = checked(args.root)
    head = ["# Costs over more nodes than were benched", "", describe_machine(), HOW]
    text = "\n".join([*head, "", *tables(rows)]) + "\n"
    write_text(args.out / "fabrics.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
