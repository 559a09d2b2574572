"""`commprof extrapolate`: a table of throughputs in, other numbers of ranks out. No run, no profile, no torch."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.verb import Verb

if TYPE_CHECKING:
    from commprof.analysis.scaling.series import Series


def add_extrapolate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "table",
        type=Path,
        metavar="TABLE",
        help="CSV or Markdown: n_gpus, and throughput (1/s over all ranks), tokens/s/GPU, mfu, step_s or step_ms",
    )
    add("-n", "--world-sizes", required=True, nargs="+", type=int, metavar="N", help="numbers of ranks to extrapolate to")
    add("--anchors", nargs="+", type=int, default=[], metavar="N", help="rows to start from (all that are not asked for)")
    add("--scaling", choices=("weak", "strong"), default="weak", help="weak: batch per rank fixed; strong: in all (weak)")
    add("--json", action="store_true", help="print one JSON document: a list, one entry a series")
    add = parser.add_argument_group("what the table does not tell").add_argument
    add("--interconnect", choices=("nvlink", "pcie"), help="the link inside the node, where the table does not tell")
    add("--gpus-per-node", type=int, metavar="N", help="ranks on a node, where the table does not tell")
    add(
        "--by",
        choices=("machine", "series"),
        help="machine: series of one machine (a column) tell each other what the hop between nodes costs, as they do where "
        "the table names it; series: each tells for itself",
    )


def check_extrapolate(args: argparse.Namespace) -> None:
    """Raise BadInput for numbers of ranks that are none."""
    if 1 in args.world_sizes:
        raise BadInput("--world-sizes 1: one rank does not follow from more; ask for 2 or more")
    for flag, numbers in (("--world-sizes", args.world_sizes), ("--anchors", args.anchors)):
        for number in numbers:
            if not 1 <= number <= MAX_RANKS:
                raise BadInput(f"{flag} {number}: a job has 1 to {MAX_RANKS} ranks")
    if args.gpus_per_node is not None and not 1 <= args.gpus_per_node <= MAX_RANKS:
        raise BadInput(f"--gpus-per-node {args.gpus_per_node}: give 1 to {MAX_RANKS}")


def extrapolate_verb(args: argparse.Namespace) -> int:
    """Print what every series of the table does at the wanted numbers of ranks; raise UnusableData where none tells."""
    from commprof.analysis.scaling.extrapolate import extrapolate_all
    from commprof.analysis.scaling.table import read_series
    from commprof.analysis.scaling.text import extrapolation_sheet

    told = extrapolate_all(
        [_completed(series, args) for series in read_series(args.table)],
        sorted(set(args.world_sizes)),
        scaling=args.scaling,
        anchors=sorted(set(args.anchors)),
        name=str(args.table),
        by_machine=None if args.by is None else args.by == "machine",
    )
    if args.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        show(extrapolation_sheet(told))
    return 0


def _completed(series: "Series", args: argparse.Namespace) -> "Series":
    return replace(
        series,
        interconnect=args.interconnect or series.interconnect,
        ranks_per_node=args.gpus_per_node or series.ranks_per_node,
    )


VERB = Verb(
    summary="throughput (1/s) or step time (s) at other numbers of ranks, from a table of a few; 90 % intervals",
    examples=(
        "commprof extrapolate table.csv -n 8 --interconnect nvlink",
        "commprof extrapolate nodes.csv -n 64 --by machine --json",
    ),
    add_arguments=add_extrapolate_arguments,
    check=check_extrapolate,
    run=extrapolate_verb,
)
