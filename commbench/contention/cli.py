"""`commprof contention`: computation and communication slowed by each other. Parsing and checking need no torch."""

import argparse
import os
import time
from contextlib import nullcontext
from statistics import median

from commprof.commbench.display.terminal import Output
from commprof.commbench.errors import BadInput
from commprof.commbench.pace import SweepPace
from commprof.commbench.progress import progress
from commprof.commbench.ranks.arguments import (
    add_launch_arguments,
    add_sweep_arguments,
    check_gpus,
    check_launch_arguments,
    check_sweep,
    swept_sizes,
)
from commprof.commbench.ranks.loading import load_torch
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.rundir import RecordWriter
from commprof.commbench.units import format_bytes, format_seconds, printable
from commprof.commbench.verb import Verb

_LARGEST = "64M"

_ROW = "{:>9}  {:>8} {:>9} {:>8} {:>9}  {:>8} {:>12} {:>8}"

_NONE_FITS = "no backward pass fits into an all-reduce of this size: left out"

_NAMES = ("size", "alone", "with comm", "slowdown", "GFLOP/s", "alone", "with compute", "slowdown")

COLUMNS = f"#{'':>10}{' backward pass ':-^37}  {' all-reduce ':-^30}\n" + _ROW.format(*_NAMES).replace(" ", "#", 1)


def add_contention_arguments(parser: argparse.ArgumentParser) -> None:
    add_launch_arguments(parser)
    add_sweep_arguments(parser, smallest="1M", largest=_LARGEST, factor=4)


def check_contention(args: argparse.Namespace) -> None:
    """Raise BadInput for flags that cannot be measured, before any process starts."""
    check_launch_arguments(args)
    check_gpus(args, args.backend)
    check_sweep(args, _LARGEST, buffers=1)
    if args.nproc == 1:
        raise BadInput("--nproc 1: one rank sends nothing that could be slowed; start two or more")


def contention(args: argparse.Namespace) -> int:
    """Measure as one rank; rank 0 writes contention.jsonl and prints. Raises BadInput on one rank."""
    load_torch()
    import msgspec

    from commprof.commbench.contention.overlap import ContentionOptions, measure_contention
    from commprof.commbench.ranks.launched import detect_rank
    from commprof.commbench.ranks.runtime import process_group, rank_device, resolve_backend
    from commprof.commbench.ranks.session import open_run

    context, backend = detect_rank(os.environ), resolve_backend(args.backend)
    if context.world_size == 1:
        raise BadInput("one rank sends nothing that could be slowed; start two or more with --nproc 2")
    device = rank_device(context, backend)
    options = ContentionOptions(sizes=swept_sizes(args, _LARGEST), rounds=args.iters, warmup_rounds=args.warmup_iters)
    say = Output(enabled=context.rank == 0 and not args.json)
    measured = []
    with (
        process_group(context, backend, args.timeout, device) as roll,
        open_run("contention", context, device, roll=roll, backend=backend, root=args.out, path=args.folder) as run,
        RecordWriter(run / "contention.jsonl") if context.rank == 0 else nullcontext() as writer,
    ):
        say(f"# commprof contention: {context.world_size} ranks, backend {backend}\n{COLUMNS}")
        pace, start_s = SweepPace([(size, "rounds") for size in options.sizes], None), time.monotonic()
        with progress("# contention", len(options.sizes), enabled=context.rank == 0, left_s=pace.left_s) as report:
            for number, (size, measurement) in enumerate(measure_contention(options, device), 1):
                if measurement is not None:
                    measured.append(measurement)
                    if writer is not None:
                        writer.append(measurement)
                pace.note(time.monotonic() - start_s)
                report.clear()
                say(f"{format_bytes(size):>9}  {_NONE_FITS}" if measurement is None else row(measurement))
                report(number, format_bytes(size))
    say(f"#\n# times are medians over rounds, slowest rank; GFLOP/s alone and with communication\n# run: {printable(str(run))}")
    if context.rank == 0 and args.json:
        Output(enabled=True)(msgspec.json.encode({"run": str(run), "measurements": measured}).decode())
    return 0


def row(measured: ContentionMeasurement) -> str:
    """Format one size."""
    flop = measured.num_flop
    alone_s, with_comm_s = median(measured.compute_alone_s), median(measured.compute_with_comm_s)
    rates = f"{flop / alone_s / 1e9:.3g}/{flop / with_comm_s / 1e9:.3g}"
    comm_s, with_compute_s = median(measured.comm_alone_s), median(measured.comm_with_compute_s)
    backward = (format_seconds(alone_s), format_seconds(with_comm_s), f"{measured.compute_slowdown:.2f}x", rates)
    reduce = (format_seconds(comm_s), format_seconds(with_compute_s), f"{measured.comm_slowdown:.2f}x")
    return _ROW.format(format_bytes(measured.message_bytes), *backward, *reduce)


VERB = Verb(
    summary="time a backward pass and an all-reduce, each alone and both at once: how much they slow each other",
    examples=(
        "commprof contention --nproc 2",
        "torchrun --nproc-per-node 8 --no-python commprof contention -b 1M -e 256M -f 4",
    ),
    add_arguments=add_contention_arguments,
    check=check_contention,
    run=contention,
)
