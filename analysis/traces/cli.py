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
    from commprof.analysis.traces.one_rank.kernel_names.libraries import KernelTable
    from commprof.analysis.traces.sets.belonging import RunTraces


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=RunName(),
        metavar="PATH",
        help="training runs, folders of traces, or .json and .json.gz files; each run is answered for itself",
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
    add = parser.add_argument_group("kernels that communicate").add_argument
    add(
        "--kernel",
        action="append",
        default=[],
        metavar="PATTERN=OPERATION",
        help="kernels whose name this regular expression fits communicate (bench -o's operations, unknown), or compute (none)",
    )
    add(
        "--kernels",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="such rules as a CSV file: pattern,operation,library,source",
    )
    add = parser.add_argument_group("traces too large to keep").add_argument
    add("--reduce", action="store_true", help="only reduce each trace, into --out; reduced ones are read like traces")
    add("--out", type=Path, metavar="DIR", help="where reduced traces go")


def check_trace(args: argparse.Namespace) -> None:
    """Raise BadInput where there is no trace to read or no folder to write to."""
    from commprof.analysis.traces.one_rank.files import find_traces, reduced_paths
    from commprof.analysis.traces.one_rank.kernel_names.libraries import kernel_table
    from commprof.analysis.traces.shown.timeline_file import check_timeline_path

    kernel_table(args.kernel, args.kernels)
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
    written = sum(reduce_all(reduced_paths(files, args.out), _table(args)))
    sys.stdout.write(
        printable(f"{len(files)} reduced trace{'s' * (len(files) > 1)}, {format_bytes(written)}: {args.out}") + "\n"
    )


def _analyse(args: argparse.Namespace) -> None:
    from commprof.analysis.traces.sets.belonging import read_one_run, read_runs
    from commprof.analysis.traces.shown.runs import runs_document, runs_sheet

    _found(args.paths)
    if args.csv is not None or args.perfetto is not None:
        runs = [read_one_run(args.paths, _table(args), what="--csv and --perfetto write one; name its traces")]
    else:
        runs = read_runs(args.paths, _table(args))
    analysed = [(own, _analysis(own)) for own in runs]
    if args.csv is not None:
        _write_tables(args.csv, analysed[0][1])
    if args.perfetto is not None:
        _write_timeline(args.perfetto, analysed[0][1])
    if args.json:
        _print_json(runs_document(analysed))
    else:
        show(runs_sheet(analysed))


def _write_tables(folder: Path, analysis: "TraceAnalysis") -> None:
    from commprof.analysis.traces.shown.text import buckets_csv, budget_csv, collectives_csv

    try:
        write_text(folder / "budget.csv", budget_csv(analysis))
        write_text(folder / "collectives.csv", collectives_csv(analysis))
        write_text(folder / "buckets.csv", buckets_csv(analysis))
    except OSError as error:
        raise BadInput(f"--csv {folder} cannot be written: {error.strerror}") from error


def _write_timeline(path: Path, analysis: "TraceAnalysis") -> None:
    from commprof.analysis.traces.shown.timeline import timeline
    from commprof.analysis.traces.shown.timeline_file import write_timeline

    num_events = write_timeline(path, timeline(analysis))
    sys.stderr.write(f"{printable(str(path))}: {num_events:,} events; open it in ui.perfetto.dev\n")


def _compare(args: argparse.Namespace) -> None:
    from commprof.analysis.traces.sets.belonging import read_one_run
    from commprof.analysis.traces.sets.comparison import compare_traces
    from commprof.analysis.traces.sets.untraced import disturbance_of
    from commprof.analysis.traces.shown.comparison_text import comparison_document, comparison_sheet

    before, after = args.against, args.paths
    sets = []
    for paths in (before, after):
        _found(paths)
        sets.append(read_one_run(paths, _table(args), what="one is compared with one; name its traces"))
    disturbed = disturbance_of(file for own in sets for file in own.files)
    comparison = compare_traces(*map(_analysis, sets), disturbed=disturbed)
    if args.json:
        _print_json(comparison_document(comparison, before, after))
    else:
        show(comparison_sheet(comparison, before, after))


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def _analysis(own: "RunTraces") -> "TraceAnalysis":
    from commprof.analysis.traces.all_ranks.job import analyse_traces
    from commprof.analysis.traces.sets.untraced import untraced_step_s

    return analyse_traces(own.traces, untraced_s=untraced_step_s(own.files), known=own.findings)


def _table(args: argparse.Namespace) -> "KernelTable":
    from commprof.analysis.traces.one_rank.kernel_names.libraries import kernel_table

    return kernel_table(args.kernel, args.kernels)


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
