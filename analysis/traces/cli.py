"""`commprof trace`: where every microsecond of the step went, on every rank. Traces in, tables out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from commprof.commbench.display.terminal import show
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import write_text
from commprof.commbench.units import format_bytes, printable
from commprof.commbench.verb import RunName, Verb

if TYPE_CHECKING:
    from commprof.analysis.traces.all_ranks.job import TraceAnalysis


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=RunName(),
        metavar="PATH",
        help="a training run, a folder of traces, or .json and .json.gz files",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        type=RunName(),
        metavar="PATH",
        help="compare with these traces, taken before a change; PATH is after it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document; times in seconds")
    add = parser.add_argument_group("files to write").add_argument
    add("--csv", type=Path, metavar="DIR", help="also write budget.csv, collectives.csv and buckets.csv there")
    add(
        "--perfetto",
        type=Path,
        metavar="FILE",
        help="also write one trace of all ranks on one clock for ui.perfetto.dev (.json.gz or .json)",
    )
    add = parser.add_argument_group("traces too large to keep").add_argument
    add("--reduce", action="store_true", help="only reduce each trace, into --out; reduced ones are read like traces")
    add("--out", type=Path, metavar="DIR", help="where reduced traces go")


def check_trace(args: argparse.Namespace) -> None:
    """Raise BadInput where there is no trace to read or no folder to write to."""
    from commprof.analysis.traces.one_rank.files import find_traces, reduced_paths
    from commprof.analysis.traces.shown.timeline_file import check_timeline_path

    find_traces(args.against or ())
    files = find_traces(args.paths)
    if args.reduce != (args.out is not None):
        raise BadInput("--reduce and --out belong together: commprof trace --reduce traces --out reduced")
    written = args.csv is not None or args.perfetto is not None
    if args.reduce and (args.json or written or args.against):
        raise BadInput("--reduce only reduces; leave out all but --out, and run commprof trace on what it wrote")
    if args.against and written:
        raise BadInput("--csv and --perfetto write what one set of traces holds; drop them, or --against")
    if args.reduce:
        reduced_paths(files, args.out)
    if args.perfetto is not None:
        check_timeline_path(args.perfetto, args.paths)
    if args.csv is not None and args.csv.exists() and not args.csv.is_dir():
        raise BadInput(f"--csv {args.csv} is a file; name a folder")


def trace(args: argparse.Namespace) -> int:
    """Print what the traces say together, or how they differ from those before a change; or only reduce each."""
    work = _reduce if args.reduce else _compare if args.against else _analyse
    work(args)
    return 0


def _reduce(args: argparse.Namespace) -> None:
    from commprof.analysis.traces.one_rank.files import reduce_all, reduced_paths

    files = _found(args.paths)
    written = sum(reduce_all(reduced_paths(files, args.out)))
    sys.stdout.write(
        printable(f"{len(files)} reduced trace{'s' * (len(files) > 1)}, {format_bytes(written)}: {args.out}") + "\n"
    )


def _analyse(args: argparse.Namespace) -> None:
    from commprof.analysis.traces.shown.text import analysis_document, analysis_sheet, buckets_csv, budget_csv, collectives_csv
    from commprof.analysis.traces.shown.timeline import timeline
    from commprof.analysis.traces.shown.timeline_file import write_timeline

    analysis = _analysed(args.paths)
    if args.csv is not None:
        try:
            write_text(args.csv / "budget.csv", budget_csv(analysis))
            write_text(args.csv / "collectives.csv", collectives_csv(analysis))
            write_text(args.csv / "buckets.csv", buckets_csv(analysis))
        except OSError as error:
            raise BadInput(f"--csv {args.csv} cannot be written: {error.strerror}") from error
    if args.perfetto is not None:
        num_events = write_timeline(args.perfetto, timeline(analysis))
        sys.stderr.write(f"{printable(str(args.perfetto))}: {num_events:,} events; open it in ui.perfetto.dev\n")
    if args.json:
        _print_json(analysis_document(analysis))
    else:
        show(analysis_sheet(analysis))


def _compare(args: argparse.Namespace) -> None:
    from commprof.analysis.traces.all_ranks.comparison import compare_traces
    from commprof.analysis.traces.shown.comparison_text import comparison_document, comparison_sheet

    before, after = args.against, args.paths
    comparison = compare_traces(_analysed(before), _analysed(after))
    if args.json:
        _print_json(comparison_document(comparison, before, after))
    else:
        show(comparison_sheet(comparison, before, after))


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def _analysed(paths: Sequence[Path]) -> "TraceAnalysis":
    from commprof.analysis.traces.all_ranks.job import analyse_traces
    from commprof.analysis.traces.all_ranks.untraced import untraced_step_s
    from commprof.analysis.traces.one_rank.files import read_all

    files = _found(paths)
    return analyse_traces(read_all(files), untraced_s=untraced_step_s(files))


def _found(paths: Sequence[Path]) -> list[Path]:
    """Return the files to read, and say how many there are."""
    from commprof.analysis.traces.one_rank.files import find_traces

    files = find_traces(paths)
    size = format_bytes(sum(path.stat().st_size for path in files))
    sys.stderr.write(f"reading {len(files)} trace{'s' * (len(files) > 1)}, {size}\n")
    return files


VERB = Verb(
    summary="where each step's wall time went on every rank (%, s), collectives (bytes, GB/s of 1e9 bytes), stragglers",
    examples=(
        "commprof trace runs/TRAIN --csv tables --perfetto ranks.json.gz",
        "commprof trace traces/*.json.gz --json",
        "commprof trace runs/AFTER --against runs/BEFORE",
        "commprof trace --reduce traces/*.json.gz --out reduced",
    ),
    add_arguments=add_trace_arguments,
    check=check_trace,
    run=trace,
)
