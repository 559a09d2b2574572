"""`commprof fit`: what the wire costs, from benches; or what four times of a training say. No torch, no measuring."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from commprof.analysis.readers.presets import preset, preset_names
from commprof.analysis.scaling.speedup import scalings_of
from commprof.analysis.wire.results import CostModel
from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.rundir import write_document
from commprof.commbench.verb import Verb

if TYPE_CHECKING:
    from commprof.analysis.runs.load import Run

_MAX_RANKS = 65_536


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="bench runs, or a study's folder")
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
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def check_fit(args: argparse.Namespace) -> None:
    """Raise BadInput unless there is exactly one thing to fit, and for ranks, nodes and presets that do not exist."""
    if bool(args.runs) == bool(args.times):
        raise BadInput("give bench runs to fit the wire, or --times 1=19.53 4=42.34 to explain a speedup; one of the two")
    for world_size in args.world_sizes:
        if not 2 <= world_size <= _MAX_RANKS:
            raise BadInput(f"--world-sizes {world_size}: a wire has 2 to {_MAX_RANKS} ranks")
    if args.nodes is not None and not (args.nodes >= 1 and args.world_sizes):
        raise BadInput(f"--nodes {args.nodes}: say with --world-sizes how many ranks are on those nodes, one or more")
    for name in args.beside:
        preset(name)
    if args.times:
        parse_times(args.times)


def fit(args: argparse.Namespace) -> int:
    """Fit the wire from bench runs (and keep fit.json), or explain a speedup from its times."""
    from commprof.analysis.runs.load import load_runs
    from commprof.analysis.wire.benched import wire_costs
    from commprof.analysis.wire.text import explained_sheet, fit_sheet

    if args.times:
        found = scalings_of(parse_times(args.times))
        if args.json:
            _print_json([scaling.told for scaling in found])
        else:
            show(explained_sheet(found))
        return 0
    runs = load_runs(args.runs)
    costs, unusable = wire_costs(runs)
    if not costs:
        raise UnusableData(unusable[0].reason) if unusable else BadInput(_nothing_to_fit(runs, args.runs))
    carried = _carried(runs, costs, args.world_sizes, args.nodes)
    write_document(args.runs[0] / "analysis" / "fit.json", [*costs, *carried])
    if args.json:
        _print_json([*costs, *carried])
    else:
        show(fit_sheet(costs, carried, unusable, {name: published(name) for name in args.beside}))
    return 0


def published(name: str) -> CostModel:
    """Fit a preset; raises BadInput for an unknown name."""
    from commprof.analysis.readers.as_run import measurements, understand
    from commprof.analysis.wire.cost import fit_cost

    return fit_cost(list(measurements(understand(preset(name), name, op=None, ranks=None))))


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


def _carried(
    runs: "Sequence[Run]", costs: Sequence[CostModel], world_sizes: Sequence[int], nodes: int | None
) -> list[CostModel]:
    """Carry every collective over to the world sizes at which it was not measured."""
    from commprof.analysis.wire.other_world_sizes import carry_cost

    devices = {rank.device_name for run in runs for rank in run.info.ranks}
    device_name = devices.pop() if len(devices) == 1 else ""
    carried = []
    for op, dtype in dict.fromkeys((cost.op, cost.dtype) for cost in costs):
        known = [cost for cost in costs if (cost.op, cost.dtype) == (op, dtype)]
        missing = [n for n in dict.fromkeys(world_sizes) if n not in {cost.world_size for cost in known}]
        carried += [carry_cost(known, n, num_nodes=nodes, device_name=device_name) for n in missing]
    return carried


def _nothing_to_fit(runs: "Sequence[Run]", paths: Sequence[Path]) -> str:
    held = sorted({f"{m.mode} {m.op} of {m.dtype}" for run in runs if run.world_size > 1 for m in run.collectives})
    names = ", ".join(map(str, paths))
    if held:
        return f"{names} holds {', '.join(held)}; what is fitted are isolated calls of a collective that moves bytes"
    return f"no bench run among {names}; make one with commprof bench --nproc 2"


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
