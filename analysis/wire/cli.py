"""`commprof fit`: what the wire costs, from benches; or what four times of a training say. No torch, no measuring."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from commprof.analysis.readers.presets import preset, preset_names
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.analysis.scaling.speedup import scalings_of
from commprof.analysis.wire.fabric import Fabric, Order
from commprof.commbench.display.sheet import Block, joined
from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.wire import parse_lines, parse_rate
from commprof.commbench.records.rundir import write_document
from commprof.commbench.verb import RunName, Verb

if TYPE_CHECKING:
    from commprof.analysis.runs.load import Run

_BUCKET_BYTES = 25 * 2**20  # DDP's


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=RunName(), metavar="RUN", help="benches, links of ranks, or a study's folder")
    parser.add_argument(
        "-n", "--world-sizes", nargs="+", type=int, default=[], metavar="N", help="carry the curves over to N ranks as well"
    )
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="PRESET", help=f"show published curves beside: {', '.join(preset_names())}"
    )
    parser.add_argument(
        "--times", nargs="+", metavar="N=S", help="explain seconds for the same work on N ranks: 1=19.53 4=42.34"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the fit there (the first run's analysis/fit.json)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add = parser.add_argument_group("ranks over several nodes").add_argument
    add("--nodes", type=int, metavar="K", help="the N ranks are on K nodes (as many a node as benched)")
    add("--lines", metavar="RATE[,...]", help="the nodes' lines, one rate or one a node, those benched first")
    add("--spine", metavar="RATE", help="what the switch carries of all nodes at once (as much as the lines)")
    add("--order", choices=get_args(Order), help="ranks fill node after node, or are dealt out (as benched)")


def check_fit(args: argparse.Namespace) -> None:
    """Raise BadInput unless there is exactly one thing to fit, and for ranks, nodes and presets that do not exist."""
    if bool(args.runs) == bool(args.times):
        raise BadInput("give bench runs to fit the wire, or --times 1=19.53 4=42.34 to explain a speedup; one of the two")
    if args.times and args.out is not None:
        raise BadInput("--out keeps the fit of runs; what --times explains is printed only")
    check_world_sizes(args.world_sizes, "--world-sizes")
    if args.nodes is not None and not (args.nodes >= 1 and args.world_sizes):
        raise BadInput(f"--nodes {args.nodes}: say with --world-sizes how many ranks are on those nodes, one or more")
    for name in args.beside:
        preset(name)
    if not args.world_sizes and (args.lines, args.spine, args.order) != (None, None, None):
        raise BadInput("--lines, --spine and --order are of ranks to carry the curves to; name their numbers with -n")
    _fabric(args)
    if args.times:
        parse_times(args.times)


def fit(args: argparse.Namespace) -> int:
    """Fit the wire from bench runs (and keep fit.json), or explain a speedup from its times."""
    if args.times:
        return _explain(args)
    from commprof.analysis.runs.load import load_runs
    from commprof.analysis.wire.fit import ring_orders
    from commprof.analysis.wire.text import order_sheet

    runs = load_runs(args.runs)
    orders = ring_orders(runs, _BUCKET_BYTES)
    found = joined([order_sheet(name, order, _BUCKET_BYTES) for name, order in orders.items()])
    if not orders or any(run.collectives for run in runs):
        return _fit_benches(args, runs, found)
    if args.json:
        _print_json(orders)
    else:
        show(found)
    return 0


def _explain(args: argparse.Namespace) -> int:
    from commprof.analysis.wire.text import explained_sheet

    found = scalings_of(parse_times(args.times))
    if args.json:
        _print_json([scaling.told for scaling in found])
    else:
        show(explained_sheet(found))
    return 0


def _fit_benches(args: argparse.Namespace, runs: "Sequence[Run]", orders: list[Block]) -> int:
    """Fit and keep the wire, and show it before what is said of the ring's order."""
    from commprof.analysis.runs.keeping import kept
    from commprof.analysis.wire.fit import fit_wire, published
    from commprof.analysis.wire.text import fit_sheet

    fitted = fit_wire(runs, args.world_sizes, nodes=args.nodes, fabric=_fabric(args))
    document = [*fitted.costs, *fitted.carried]
    if args.out is not None:
        write_document(args.out, document)
    else:
        kept(lambda: write_document(args.runs[0] / "analysis" / "fit.json", document))
    if args.json:
        _print_json(document)
    else:
        beside = {name: published(name) for name in args.beside}
        show(joined([fit_sheet(fitted.costs, fitted.carried, fitted.unusable, beside), orders]))
    return 0


def _fabric(args: argparse.Namespace) -> Fabric | None:
    """Return what was said of the nodes' lines, None where nothing was; raise BadInput for rates that are none."""
    if args.spine is not None and args.lines is None:
        raise BadInput(f"--spine {args.spine}: say with --lines how fast the nodes' lines are, as their ratio counts")
    if (args.lines, args.order) == (None, None):
        return None
    return Fabric(
        lines=() if args.lines is None else parse_lines(args.lines),
        spine=None if args.spine is None else parse_rate(args.spine),
        order=args.order,
    )


def parse_times(words: Sequence[str]) -> dict[int, float]:
    """Turn `1=19.53` words into seconds by rank count; raise BadInput for anything else."""
    times = {}
    for word in words:
        ranks, _, seconds = word.partition("=")
        try:
            times[int(ranks)] = float(seconds)
        except ValueError:
            raise BadInput(f"--times {word!r} is not N=SECONDS; write for example 4=42.34") from None
    return times


def _print_json(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


VERB = Verb(
    summary="fit latency (s) and bandwidth (B/s) of the wire, or explain a speedup from its times",
    examples=(
        "commprof fit runs/demo",
        "commprof fit runs/BENCH2 runs/BENCH4 -n 8 --beside h100x8-nvlink",
        "commprof fit --times 1=19.53 4=42.34",
    ),
    add_arguments=add_fit_arguments,
    check=check_fit,
    run=fit,
)
