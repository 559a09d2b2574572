"""`commprof trace`: where every microsecond of the step went, on every rank. Traces in, tables out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from commbench.errors import BadInput
from commbench.rundir import write_text
from commbench.units import format_bytes, printable
from commbench.verbs import Verb


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a training run, a folder of traces, or .json and .json.gz files"
    )
    parser.add_argument(
        "--reduce", action="store_true", help="only reduce each trace, into --out; reduced ones are read like traces"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where reduced traces go")
    parser.add_argument("--csv", type=Path, metavar="DIR", help="also write budget.csv, collectives.csv and buckets.csv there")
    parser.add_argument("--json", action="store_true", help="print one JSON document; times in seconds")


def check_trace(args: argparse.Namespace) -> None:
    """Raise BadInput where there is no trace to read or no folder to write to."""
    from analysis.trace_files import find_traces, reduced_paths

    files = find_traces(args.paths)
    if args.reduce != (args.out is not None):
        raise BadInput("--reduce and --out belong together: commprof trace --reduce traces --out reduced")
    if args.reduce:
        if args.json or args.csv is not None:
            raise BadInput("--reduce only reduces; leave out --json and --csv, and run commprof trace on what it wrote")
        reduced_paths(files, args.out)
    if args.csv is not None and args.csv.exists() and not args.csv.is_dir():
        raise BadInput(f"--csv {args.csv} is a file; name a folder")


def trace(args: argparse.Namespace) -> int:
    """Analyse all traces together and print what they say, or only reduce each."""
    from analysis.trace_files import find_traces

    files = find_traces(args.paths)
    size = format_bytes(sum(path.stat().st_size for path in files))
    sys.stderr.write(f"reading {len(files)} trace{'s' * (len(files) > 1)}, {size}\n")
    sys.stdout.write((_reduce(files, args.out) if args.reduce else _analyse(files, args)) + "\n")
    return 0


def _reduce(files: Sequence[Path], folder: Path) -> str:
    from analysis.trace_files import reduce_all, reduced_paths

    written = sum(reduce_all(reduced_paths(files, folder)))
    return printable(f"{len(files)} reduced trace{'s' * (len(files) > 1)}, {format_bytes(written)}: {folder}")


def _analyse(files: Sequence[Path], args: argparse.Namespace) -> str:
    from analysis.trace_analysis import analyse_traces
    from analysis.trace_files import read_all
    from analysis.trace_text import analysis_document, analysis_text, buckets_csv, budget_csv, collectives_csv

    analysis = analyse_traces(read_all(files))
    if args.csv is not None:
        try:
            write_text(args.csv / "budget.csv", budget_csv(analysis))
            write_text(args.csv / "collectives.csv", collectives_csv(analysis))
            write_text(args.csv / "buckets.csv", buckets_csv(analysis))
        except OSError as error:
            raise BadInput(f"--csv {args.csv} cannot be written: {error.strerror}") from error
    return msgspec.json.encode(analysis_document(analysis)).decode() if args.json else analysis_text(analysis)


TRACE = Verb(
    summary="where each step's wall time went on every rank (%, s), collectives (bytes, GB/s of 1e9 bytes), stragglers",
    examples=(
        "commprof trace runs/TRAIN",
        "commprof trace traces/*.json.gz --json",
        "commprof trace runs/TRAIN --csv tables",
        "commprof trace --reduce traces/*.json.gz --out reduced",
    ),
    add_arguments=add_trace_arguments,
    check=check_trace,
    run=trace,
)
