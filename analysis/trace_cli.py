"""`commprof trace`: where every microsecond of the step went, on every rank. Traces in, tables out."""

import argparse
import sys
from pathlib import Path

import msgspec

from commbench.errors import BadInput
from commbench.rundir import write_text
from commbench.units import format_bytes
from commbench.verbs import Verb


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a training run, a folder of traces, or .json and .json.gz files"
    )
    parser.add_argument("--csv", type=Path, metavar="DIR", help="also write budget.csv and collectives.csv there")
    parser.add_argument(
        "--perfetto",
        type=Path,
        metavar="FILE",
        help="also write one trace of all ranks on one clock for ui.perfetto.dev (.json.gz or .json)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document; times in seconds")


def check_trace(args: argparse.Namespace) -> None:
    """Raise BadInput where there is no trace to read or no folder to write to."""
    from analysis.timeline_file import check_timeline_path
    from analysis.trace_files import find_traces

    find_traces(args.paths)
    if args.perfetto is not None:
        check_timeline_path(args.perfetto, args.paths)
    if args.csv is not None and args.csv.exists() and not args.csv.is_dir():
        raise BadInput(f"--csv {args.csv} is a file; name a folder")


def trace(args: argparse.Namespace) -> int:
    """Analyse all traces together and print what they say."""
    from analysis.timeline import timeline
    from analysis.timeline_file import write_timeline
    from analysis.trace_analysis import analyse_traces
    from analysis.trace_files import find_traces, read_all
    from analysis.trace_text import analysis_document, analysis_text, budget_csv, collectives_csv

    files = find_traces(args.paths)
    size = format_bytes(sum(path.stat().st_size for path in files))
    sys.stderr.write(f"reading {len(files)} trace{'s' * (len(files) > 1)}, {size}\n")
    analysis = analyse_traces(read_all(files))
    if args.csv is not None:
        try:
            write_text(args.csv / "budget.csv", budget_csv(analysis))
            write_text(args.csv / "collectives.csv", collectives_csv(analysis))
        except OSError as error:
            raise BadInput(f"--csv {args.csv} cannot be written: {error.strerror}") from error
    if args.perfetto is not None:
        num_events = write_timeline(args.perfetto, timeline(analysis))
        sys.stderr.write(f"{args.perfetto}: {num_events:,} events; open it in ui.perfetto.dev\n")
    text = msgspec.json.encode(analysis_document(analysis)).decode() if args.json else analysis_text(analysis)
    sys.stdout.write(text + "\n")
    return 0


TRACE = Verb(
    summary="where each step's wall time went on every rank (%, s), collectives (bytes, GB/s of 1e9 bytes), stragglers",
    examples=(
        "commprof trace runs/TRAIN",
        "commprof trace traces/*.json.gz --json",
        "commprof trace runs/TRAIN --csv tables --perfetto ranks.json.gz",
    ),
    add_arguments=add_trace_arguments,
    check=check_trace,
    run=trace,
)
