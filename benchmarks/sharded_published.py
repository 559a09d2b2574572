"""How do sharded steps grow with the ranks in published tables, and in the schedule on a preset wire?

    make benchmark-sharded-published PUBLISHED=...      seconds; results in docs/results/sharded-published.md

MosaicML's table of MPT models under FSDP (FULL_SHARD, bf16) on nodes of eight A100-40GB with 1600 Gbit/s each: the models that
it has at several numbers of GPUs with one micro-batch of one size. No profile of them was published, so a step is made up:
blocks of equal size and time and a root that holds the embedding, backward twice forward, three times with activation
checkpointing. How long a rank computes is what makes the schedule's step the published one on the fewest GPUs; the others are
predicted. The wire is the preset of two nodes of eight H100 with 3200 Gbit/s each at half its rate, carried over to more
nodes; a gather and a reduce-scatter take half of an all-reduce each, as in a ring.
"""

import argparse
import csv
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from scipy.optimize import brentq

from benchmarks.machine import describe_machine
from commprof.analysis.readers.as_run import understand, write_run
from commprof.analysis.readers.presets import preset
from commprof.analysis.runs.load import load_runs
from commprof.analysis.strategies.schedule import Operation, play
from commprof.analysis.wire.benched import fit_costs
from commprof.analysis.wire.cost import cost_s
from commprof.analysis.wire.other_world_sizes import carry_cost
from commprof.analysis.wire.results import CostModel
from commprof.commbench.records.rundir import write_text
from commprof.commbench.units import format_seconds

SOURCE = "mosaicml/llm-foundry"
GPU = "a100_40gb"
WIRES = ("h100x8-nvlink", "h100x16-efa")
SLOWER = 3200 / 1600  # the preset's rate between nodes over the table's
BYTES = 2  # of a parameter or gradient on the wire: bf16
# Blocks and width of each model, as its configuration in the same repository has them; vocabulary 50,368.
SHAPES: Final = {
    "MPT-125m": (12, 768), "MPT-350m": (24, 1024), "MPT-760m": (24, 1536), "MPT-1b": (24, 2048), "MPT-3b": (32, 2560),
    "MPT-7b": (32, 4096), "MPT-13b": (40, 5120),
}  # fmt: skip
VOCABULARY = 50_368
_SHORTER = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One model at one micro-batch: its parameters, whether activations are recomputed, and steps by number of GPUs."""

    model: str
    parameters: float
    recomputes: bool
    micro_batch: str
    steps_s: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    series: Series
    fewest: int
    gpus: int
    predicted_s: float
    exposed_s: float

    @property
    def measured_s(self) -> float:
        return self.series.steps_s[self.gpus]

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1

    @property
    def flat_error(self) -> float:
        """What is off where the step is taken to stay as it is on the fewest GPUs."""
        return self.series.steps_s[self.fewest] / self.measured_s - 1

    @property
    def growth(self) -> float:
        """How much longer the published step is than on the fewest GPUs."""
        return self.measured_s / self.series.steps_s[self.fewest] - 1

    @property
    def predicted_growth(self) -> float:
        return self.predicted_s / self.series.steps_s[self.fewest] - 1


def num_fsdp_rows(table: Path) -> int:
    """Return how many rows of the table are of FSDP or HSDP, whatever else they have."""
    with table.open(newline="") as file:
        return sum("FSDP" in row["parallelism"] or "HSDP" in row["parallelism"] for row in csv.DictReader(file))


def read_series(table: Path) -> list[Series]:
    """Return the series that have several numbers of GPUs, smallest model first."""
    found: dict[tuple[str, str, str], Series] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            batch = re.match(r"mb (\d+) x ga 1\b", row["micro_batch_or_global"])
            if not row["source"].startswith(SOURCE) or row["gpu"] != GPU or row["seq_len"] != "2048" or batch is None:
                continue
            key = (row["model"], row["parallelism"], batch[1])
            series = Series(
                model=row["model"],
                parameters=1e6 * float(row["params_millions"]),
                recomputes="ckpt True" in row["parallelism"],
                micro_batch=batch[1],
                steps_s={},
            )
            found.setdefault(key, series).steps_s[int(row["n_gpus"])] = float(row["value"])
    several = [series for series in found.values() if len(series.steps_s) > 1 and series.model in SHAPES]
    return sorted(several, key=lambda series: series.parameters)


def wires(folder: Path) -> list[CostModel]:
    """Return the presets' costs, by number of ranks."""
    for name in WIRES:
        write_run(folder / name, understand(preset(name), name, op=None, ranks=None), name)
    return list(fit_costs(load_runs([folder / name for name in WIRES])).values())


def step_s(series: Series, costs: Sequence[CostModel], gpus: int, compute_s: float) -> float:
    """Return the schedule's step of ranks that compute so long."""
    blocks, width = SHAPES[series.model]
    root = VOCABULARY * width
    sizes = [root, *[(series.parameters - root) / blocks] * blocks]
    cost = carry_cost(costs, gpus, num_nodes=gpus // 8)
    wire_s = [SLOWER * cost_s(cost, int(BYTES * size)) / 2 for size in sizes]
    passes = 3 if series.recomputes else 2
    forward_s = compute_s / (1 + passes) / blocks
    operations, seconds = [], []

    def put(operation: Operation, duration_s: float) -> None:
        operations.append(operation)
        seconds.append(duration_s)

    for unit in range(blocks + 1):
        put(Operation(what="gather", unit=unit), wire_s[unit])
        put(Operation(what="compute"), forward_s if unit else 0.0)
    for unit in reversed(range(blocks + 1)):
        if unit:
            put(Operation(what="gather", unit=unit, direction="backward"), wire_s[unit])
            put(Operation(what="compute"), passes * forward_s)
        put(Operation(what="hold", unit=unit, direction="backward"), 0.0)
        put(Operation(what="reduce", unit=unit, direction="backward"), wire_s[unit])
    put(Operation(what="finish"), 0.0)
    return float(play(operations, np.array([seconds]), blocking=False).end_s[0])


def rows_of(series: Series, costs: Sequence[CostModel]) -> Iterator[Row]:
    """Take how long a rank computes from the fewest GPUs and predict the others."""
    fewest = min(series.steps_s)
    known_s = series.steps_s[fewest]
    compute_s = brentq(lambda own: step_s(series, costs, fewest, own) - known_s, 0.0, known_s)
    for gpus in sorted(series.steps_s)[1:]:
        predicted_s = step_s(series, costs, gpus, compute_s)
        yield Row(series=series, fewest=fewest, gpus=gpus, predicted_s=predicted_s, exposed_s=predicted_s - compute_s)


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| model | micro-batch | from | GPUs | predicted | exposed | published | error | left as it is |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        times = " | ".join(map(format_seconds, (row.predicted_s, row.exposed_s, row.measured_s)))
        own = row.series
        errors = f"{row.error:+.1%} | {row.flat_error:+.1%}"
        yield f"| {own.model} | {own.micro_batch} | {row.fewest} | {row.gpus} | {times} | {errors} |"


def summary(rows: Sequence[Row], num_published: int) -> Iterator[str]:
    own, flat = ([abs(each) for each in errors] for errors in ([row.error for row in rows], [row.flat_error for row in rows]))
    worst = max(rows, key=lambda row: abs(row.error))
    yield f"- {len(rows)} steps predicted: median error {median(own):.1%}, worst {worst.error:+.1%} ({worst.series.model})"
    yield f"- a step that is left as it is on the fewest GPUs: median error {median(flat):.1%}, worst {max(flat):.1%}"
    series = list({id(row.series): row.series for row in rows}.values())
    grown, told = median(row.growth for row in rows), median(row.predicted_growth for row in rows)
    yield f"- over its fewest GPUs a published step grows by {grown:.1%} in the median, one of the schedule's by {told:.1%}"
    grows = sum(later > sooner for each in series for sooner, later in pairwise(_in_order(each)))
    steps = sum(len(each.steps_s) - 1 for each in series)
    used = len(rows) + len(series)
    yield f"- {used} of the table's {num_published} rows under FSDP are here: others have one number of GPUs at their batch,"
    yield "  other parallelism beside FSDP, or state no model, GPU or wire that a schedule could be made of"
    faster = [f"{row.series.model} on {row.gpus}" for row in rows if row.growth < -_SHORTER]
    named = ", ".join(faster) or "none"
    yield f"- published as over {_SHORTER:.0%} shorter than on the fewest GPUs, as no wire makes it: {named}"
    yield f"- the published step is longer on more GPUs in {grows} of {steps} doublings; only the wire's part is here"


def _in_order(series: Series) -> list[float]:
    return [series.steps_s[gpus] for gpus in sorted(series.steps_s)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE", help="published steps (CSV)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = wires(Path(folder))
        rows = [row for series in read_series(args.table) for row in rows_of(series, costs)]
    title = "# Published FSDP steps on more GPUs, and the schedule on a preset wire"
    text = "\n".join([title, "", describe_machine(), *summary(rows, num_fsdp_rows(args.table)), "", *table(rows)]) + "\n"
    write_text(args.out / "sharded-published.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
