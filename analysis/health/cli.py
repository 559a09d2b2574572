"""`commprof check`: the gate. One line per verdict, failures first; exit code 3 when a run does not pass."""

import argparse
import sys

import msgspec

from commprof.analysis.health.links.stated import parse_link
from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.rundir import read_info
from commprof.commbench.units import parse_bytes
from commprof.commbench.verb import RunName, Verb

_SAYS_NO = 3


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=RunName(), metavar="RUN", help="bench runs, or a study's folder")
    parser.add_argument("--baseline", type=RunName(), metavar="RUN", help="fail what is slower than this bench beyond noise")
    parser.add_argument(
        "--tolerance", default="5%", metavar="PCT", help="slowdown against the baseline that is still fine (5%%)"
    )
    parser.add_argument(
        "--wire", metavar="LINK", help="what lies between the ranks: 100gbit, 25gbe, hdr, 8xndr, pcie4x16, nvlink4"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list of verdicts")
    add = parser.add_argument_group("thresholds").add_argument
    add("--min-busbw", type=float, metavar="GB/S", help="fail below this bus bandwidth (GB/s of 1e9 bytes)")
    add("--max-latency", type=float, metavar="US", help="fail above this median time (microseconds)")
    add("--at", metavar="SIZE", help="message size that both mean, K/M/G binary (largest for busbw, smallest for latency)")
    add("--op", choices=tuple(OPERATIONS), metavar="OP", help="collective that both mean (all_reduce)")
    add("--mode", choices=("isolated", "pipelined"), help="calls that both mean (isolated where measured)")
    add("--placement", choices=("in", "out"), help="in or out of place (in where measured)")


def check_check(args: argparse.Namespace) -> None:
    """Raise BadInput for limits that mean nothing and folders that are not runs."""
    parse_tolerance(args.tolerance)
    if args.wire is not None:
        parse_link(args.wire)
    for flag, limit in (("--min-busbw", args.min_busbw), ("--max-latency", args.max_latency)):
        if limit is not None and not 0 < limit < float("inf"):
            raise BadInput(f"{flag} {limit:g} must be above 0")
    asked = [f"--{name}" for name in ("at", "op", "mode", "placement") if getattr(args, name) is not None]
    if asked and args.min_busbw is None and args.max_latency is None:
        raise BadInput(f"{asked[0]} says where --min-busbw and --max-latency hold; give one of them")
    if args.at is not None and parse_bytes(args.at) == 0:
        raise BadInput("--at 0: give a size of at least one byte")
    for run in (*args.runs, *([args.baseline] if args.baseline else [])):
        read_info(run)


def parse_tolerance(text: str) -> float:
    """Turn `5%` or `5` into 0.05; raise BadInput for anything but 0 to 1000 percent."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = float("nan")
    if not 0 <= percent <= 1000:
        raise BadInput(f"--tolerance {text!r} is not a percentage; write for example 5%")
    return percent / 100


def check(args: argparse.Namespace) -> int:
    """Judge every run and print the verdicts; return 3 when one of them fails."""
    from commprof.analysis.health.check import Demands, check_runs  # numpy, which a wrong flag should not wait for
    from commprof.analysis.runs.load import load_runs

    demands = Demands(
        min_busbw_bytes_per_s=None if args.min_busbw is None else args.min_busbw * 1e9,
        max_latency_s=None if args.max_latency is None else args.max_latency * 1e-6,
        at_bytes=None if args.at is None else parse_bytes(args.at),
        op=args.op,
        mode=args.mode,
        in_place=None if args.placement is None else args.placement == "in",
    )
    baseline = load_runs([args.baseline]) if args.baseline else []
    link = None if args.wire is None else parse_link(args.wire)
    tolerance = parse_tolerance(args.tolerance)
    verdicts = check_runs(load_runs(args.runs), demands, baseline=baseline, tolerance=tolerance, link=link)
    if args.json:
        sys.stdout.write(msgspec.json.encode(verdicts).decode() + "\n")
    else:
        from commprof.analysis.health.text import check_sheet

        show(check_sheet(verdicts))
    return _SAYS_NO if any(verdict.ok is False for verdict in verdicts) else 0


VERB = Verb(
    summary="judge bench runs: thresholds (GB/s, us), a baseline, stability, and what is wrong with the machine",
    examples=(
        "commprof check runs/BENCH --min-busbw 200 --at 1G",
        "commprof check runs/BENCH --wire 100gbit",
        "commprof check runs/TODAY --baseline runs/LAST-WEEK --tolerance 5%",
    ),
    add_arguments=add_check_arguments,
    check=check_check,
    run=check,
)
