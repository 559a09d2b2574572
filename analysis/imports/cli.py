"""`commprof import`: logs of other benchmarks become runs, one a table, and traces of a DDP run's ranks one training run.

Traces are told by their content. What cannot be used is refused with the reason.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from commprof.analysis.readers.presets import preset, preset_names
from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.records.operations import OPERATIONS
from commprof.commbench.records.quantities import MAX_RANKS
from commprof.commbench.units import format_bytes, format_rate, format_seconds, printable
from commprof.commbench.verb import Verb

if TYPE_CHECKING:
    from commprof.analysis.imports.traced_training import TracedJob
    from commprof.analysis.readers.foreign import ForeignSweep

_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of one table: a run and what was understood, or the reason why not. `table` counts from 1 in its file."""

    file: str
    ok: bool
    table: int | None = None
    reason: str | None = None
    run: str | None = None
    dialect: str | None = None
    op: str | None = None
    op_source: str | None = None
    world_size: int | None = None
    world_size_source: str | None = None
    num_nodes: int | None = None
    num_nodes_source: str | None = None
    num_sizes: int | None = None
    num_times: int | None = None
    smallest_bytes: int | None = None
    largest_bytes: int | None = None
    peak_busbw_bytes_per_s: float | None = None
    peak_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTraces:
    """The training run that became of traces. Medians over all steps: as they were, and less exposed communication."""

    files: tuple[str, ...]
    run: str
    world_size: int
    num_steps: int
    wall_s: float
    step_s: float
    bucket_bytes: tuple[int, ...]
    notes: tuple[str, ...]
    ok: bool = True
    dialect: str = "torch.profiler"


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="logs (nccl-tests, OSU, IMB, CSV ...); DDP ranks' traces"
    )
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a published curve instead of a log: {', '.join(preset_names())}",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (runs)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the run folder itself, where there is one run")
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list, one entry a table")
    add = parser.add_argument_group("where a log does not tell").add_argument
    add("--world-size", type=int, metavar="N", help="number of ranks")
    add("--nodes", type=int, metavar="K", help="number of nodes")
    known = tuple(op for op in OPERATIONS if op != "barrier")
    add("--op", choices=known, metavar="OP", help="the collective")


def check_import(args: argparse.Namespace) -> None:
    """Raise BadInput for a world size without a wire and for a folder that is taken or meant for several logs."""
    if args.world_size is not None and not 2 <= args.world_size <= MAX_RANKS:
        raise BadInput(f"--world-size {args.world_size}: a wire has 2 to {MAX_RANKS} ranks")
    if args.nodes is not None and not 1 <= args.nodes <= MAX_RANKS:
        raise BadInput(f"--nodes {args.nodes}: ranks are on 1 to {MAX_RANKS} nodes")
    if not args.files and not args.preset:
        raise BadInput(f"name log files, or --preset with one of {', '.join(preset_names())}")
    for name in args.preset:
        preset(name)
    if args.folder is not None and (count := _num_runs(args)) > 1:
        raise BadInput(f"--folder names one run, and there are {count} logs; use --out")
    if args.folder is not None and args.folder.exists():
        raise BadInput(f"--folder {args.folder} already exists; a run never overwrites another, choose a new folder")


def _num_runs(args: argparse.Namespace) -> int:
    """Return how many runs the files stand for at least: traces are one together."""
    from commprof.analysis.traces.one_rank.files import is_trace

    traces = [path for path in args.files if is_trace(path)]
    return len(args.files) - len(traces) + bool(traces) + len(args.preset)


def import_verb(args: argparse.Namespace) -> int:
    """Import what can be imported; return 1 when something was refused."""
    results = []
    for result in _import_all(args):
        results.append(result)
        if not args.json:
            sys.stdout.write((import_text(result) if isinstance(result, Imported) else traces_text(result)) + "\n")
    if args.json:
        sys.stdout.write(msgspec.json.encode(results).decode() + "\n")
    return 0 if all(result.ok for result in results) else 1


def import_text(result: Imported) -> str:
    """Say in at most 80 columns, but for names, what was understood of a table or why it was refused."""
    where = result.file if result.table is None else f"{result.file}, table {result.table}"
    if not result.ok:
        lines = [f"{where}: REFUSED", f"  {result.reason}"]
    else:
        assert result.peak_busbw_bytes_per_s and result.smallest_bytes and result.largest_bytes and result.peak_bytes
        best = f"{format_rate(result.peak_busbw_bytes_per_s)} at {format_bytes(result.peak_bytes)}"
        nodes = (
            f"; {result.num_nodes} node{'s' * (result.num_nodes > 1)}: {result.num_nodes_source}" if result.num_nodes else ""
        )
        lines = [
            f"{where}: {result.dialect}, {result.op} on {result.world_size} ranks -> {result.run}",
            f"  op: {result.op_source}; ranks: {result.world_size_source}{nodes}",
            f"  {result.num_sizes} sizes, {format_bytes(result.smallest_bytes)} to {format_bytes(result.largest_bytes)}, "
            f"{result.num_times} times; best busbw {best}",
        ]
        lines += [f"  note: {note}" for note in result.notes]
    return _wrapped(lines)


def traces_text(result: ImportedTraces) -> str:
    """Say in at most 80 columns, but for names, what was understood of a job's traces."""
    more = f" and {len(result.files) - 1} more" if len(result.files) > 1 else ""
    exposed_s = result.wall_s - result.step_s
    lines = [
        f"{result.files[0]}{more}: traces of {result.world_size} ranks -> {result.run}",
        f"  {result.num_steps} steps of {format_seconds(result.wall_s)}, of which {format_seconds(max(0.0, exposed_s))} are "
        f"exposed communication; computation {format_seconds(result.step_s)}",
        f"  {len(result.bucket_bytes)} buckets, {format_bytes(sum(result.bucket_bytes))} sent a step",
        *(f"  note: {note}" for note in result.notes),
    ]
    return _wrapped(lines)


def _wrapped(lines: Sequence[str]) -> str:
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(
            printable(line),
            _WIDTH,
            subsequent_indent="    ",
            initial_indent=line[: len(line) - len(line.lstrip())],
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return "\n".join(wrapped)


def _import_all(args: argparse.Namespace) -> Iterator[Imported | ImportedTraces]:
    from commprof.analysis.traces.one_rank.files import is_trace

    traces = [path for path in args.files if is_trace(path)]
    if traces:
        yield _import_traces(traces, args)
    for path in args.files:
        if path not in traces:
            yield from _import_file(path, args)
    for name in args.preset:
        yield _import_sweep(preset(name), Path(f"preset {name}"), None, args)


def _import_traces(paths: Sequence[Path], args: argparse.Namespace) -> Imported | ImportedTraces:
    from commprof.analysis.imports.traced_training import read_traced_job, write_traced_job
    from commprof.commbench.records.rundir import new_run_path

    try:
        job = read_traced_job(paths, args.world_size)
        folder = args.folder or new_run_path(args.out, "train", job.world_size)
        write_traced_job(folder, job)
    except CommprofError as error:
        name = f"{paths[0]} and {len(paths) - 1} more" if len(paths) > 1 else str(paths[0])
        return Imported(file=printable(name), ok=False, dialect="torch.profiler", reason=printable(str(error)))
    return _imported_traces(job, folder)


def _imported_traces(job: "TracedJob", folder: Path) -> ImportedTraces:
    from commprof.analysis.imports.traced_training import notes_of

    return ImportedTraces(
        files=tuple(printable(path) for path in job.files),
        run=str(folder),
        world_size=job.world_size,
        num_steps=len(job.all_steps),
        wall_s=median(step.wall_s for step in job.all_steps),
        step_s=median(step.step_s for step in job.all_steps),
        bucket_bytes=job.sent_bytes,
        notes=tuple(printable(note) for note in notes_of(job)),
    )


def _import_file(path: Path, args: argparse.Namespace) -> Iterator[Imported]:
    from commprof.analysis.readers.as_run import read_text
    from commprof.analysis.readers.dialect import read_log

    try:
        sweeps = read_log(read_text(path))
        if args.folder is not None and len(sweeps) > 1:
            raise BadInput(f"it holds {len(sweeps)} tables, --folder names one run; use --out")
    except CommprofError as error:
        yield Imported(file=printable(str(path)), ok=False, reason=printable(str(error)))
        return
    for number, sweep in enumerate(sweeps, 1):
        yield _import_sweep(sweep, path, number if len(sweeps) > 1 else None, args)


def _import_sweep(sweep: "ForeignSweep", path: Path, table: int | None, args: argparse.Namespace) -> Imported:
    from commprof.analysis.readers.as_run import measurements, understand, write_run
    from commprof.commbench.records.rundir import new_run_path

    try:
        understood = understand(sweep, path.name, op=args.op, ranks=args.world_size, nodes=args.nodes)
        folder = args.folder or new_run_path(args.out, "bench", understood.ranks.value)
        write_run(folder, understood, path.name)
    except CommprofError as error:
        return Imported(file=printable(str(path)), table=table, ok=False, dialect=sweep.dialect, reason=printable(str(error)))
    records = list(measurements(understood))
    peak = max(records, key=lambda record: record.busbw_bytes_per_s)
    sizes = {record.message_bytes for record in records}
    return Imported(
        file=printable(str(path)),
        table=table,
        ok=True,
        run=str(folder),
        dialect=sweep.dialect,
        op=understood.op,
        op_source=understood.op_source,
        world_size=understood.ranks.value,
        world_size_source=understood.ranks.source,
        num_nodes=understood.nodes.value,
        num_nodes_source=understood.nodes.source,
        num_sizes=len(sizes),
        num_times=len(records),
        smallest_bytes=min(sizes),
        largest_bytes=max(sizes),
        peak_busbw_bytes_per_s=peak.busbw_bytes_per_s,
        peak_bytes=peak.message_bytes,
        notes=understood.notes,
    )


VERB = Verb(
    summary="turn logs of other benchmarks, and traces of a DDP run, into runs that fit, predict, check and report read",
    examples=(
        "commprof import all_reduce.log",
        "commprof import logs/*.txt --out runs --json",
        "commprof import rank0.json.gz rank1.json.gz",
        "commprof import --preset h100x8-nvlink --folder runs/h100",
    ),
    add_arguments=add_import_arguments,
    check=check_import,
    run=import_verb,
)
