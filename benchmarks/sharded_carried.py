"""How far off is a gather's or a reduction's cost that was carried over from another number of hosts?

    python -m benchmarks.sharded_carried      reads the benches of the sharded grid; nothing is run

Every bench of the grid (benchmarks/sharded_grid.py) that has one of the same collective and wire on another number of hosts is
predicted from that one alone, size by size, as `predict --strategy` carries a cost that was not benched.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from statistics import median

from benchmarks.sharded_grid import BENCHED, RATES
from commprof.analysis.runs.load import Run, load_run
from commprof.analysis.strategies.wires import carried
from commprof.analysis.wire.benched import fit_op_costs
from commprof.analysis.wire.cost import cost_s, curve_points

SIZES = ((64 * 2**10, 2**20), (2**20, 8 * 2**20), (8 * 2**20, 2**31))


def errors(source: Run, target: Run, op: str) -> list[tuple[int, float]]:
    """Return (bytes, relative error) of each size of `target`, carried over from `source`."""
    (cost,) = fit_op_costs([source], op).values()
    (measured,) = fit_op_costs([target], op).values()
    moved = carried([cost], target.world_size, source.info)
    return [(size, cost_s(moved, size) / time_s - 1) for size, time_s in curve_points(measured)]


def lines(root: Path) -> Iterator[str]:
    """Yield a row for each pair of benches and range of sizes."""
    yield "| collective | wire | from | to | 64 KiB to 1 MiB | 1 to 8 MiB | from 8 MiB |"
    yield "|---|---|---|---|---|---|---|"
    for op in BENCHED:
        for rate in RATES:
            for n, other in permutations((2, 4), 2):
                source, target = (root / f"bench-{op}-n{each}-{rate}" for each in (n, other))
                if source.exists() and target.exists():
                    found = errors(load_run(source), load_run(target), op)
                    yield f"| {op} | {rate} | {n} | {other} | {' | '.join(_spread(found, *ends) for ends in SIZES)} |"


def _spread(found: Sequence[tuple[int, float]], low: int, high: int) -> str:
    own = [error for size, error in found if low <= size < high]
    return f"{median(own):+.0%}, worst {max(own, key=abs):+.0%}" if own else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/sharded-grid"), metavar="DIR", help="where the grid's runs are")
    sys.stdout.write("\n".join(lines(parser.parse_args().runs)) + "\n")


if __name__ == "__main__":
    main()
