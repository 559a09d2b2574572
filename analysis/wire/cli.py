"""`commprof fit`: what the wire costs, from benches; or what four times of a training say. No torch, no measuring."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from commprof.analysis.readers.presets import preset, preset_names
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.analysis.scaling.speedup import scalings_of
from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import write_document
from commprof.commbench.verb import RunName, Verb


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=RunName(), metavar="RUN", help="bench runs, or a study's folder")
    parser.add_argument(
        "-n", "--world-sizes", nargs="+", type=int, default=[], metavar="N", help="carry the curves over to N ranks as well"
    )
    parser.add_argument("--nodes", type=int, metavar="K", help="those N ranks are on K nodes (as many a node as benched)")
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="PRESET", help=f"show published curves beside: {', '.join(preset_names())}"
    )
    parser.add_argument(
        "--times", nargs="+", metavar="N=S", help="explain seconds for the same work on N ranks: 1=19.53 4=42.34"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the fit there (the first run's analysis/fit.json)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


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
    if args.times:
        parse_times(args.times)


def fit(args: argparse.Namespace) -> int:
    """Fit the wire from bench runs (and keep fit.json), or explain a speedup from its times."""
    from commprof.analysis.runs.keeping import kept
    from commprof.analysis.runs.load import load_runs
    from commprof.analysis.wire.fit import fit_wire, published
    from commprof.analysis.wire.text import explained_sheet, fit_sheet

    if args.times:
        found = scalings_of(parse_times(args.times))
        if args.json:
            _print_json([scaling.told for scaling in found])
        else:
            show(explained_sheet(found))
        return 0
    fitted = fit_wire(load_runs(args.runs), args.world_sizes, nodes=args.nodes)
    document = [*fitted.costs, *fitted.carried]
    if args.out is not None:
        write_document(args.out, document)
    else:
        kept(lambda: write_document(args.runs[0] / "analysis" / "fit.json", document))
    if args.json:
        _print_json(document)
    else:
        show(fit_sheet(fitted.costs, fitted.carried, fitted.unusable, {name: published(name) for name in args.beside}))
    return 0


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
