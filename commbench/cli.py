"""`commprof bench`: what nccl-tests measures, on any backend and without a compiler.

Parsing and checking need no torch, so a wrong flag is answered before any process starts.
"""

import argparse
import os
import sys
from contextlib import nullcontext

from commbench import hardware, table
from commbench.errors import BadInput
from commbench.records import CollectiveMeasurement
from commbench.rundir import RecordWriter, read_info
from commbench.units import format_bytes, parse_bytes, sweep_sizes
from commbench.verbs import Verb, add_launch_arguments, check_launch_arguments

_MAX_SIZES = 10_000


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("op", nargs="?", default="all_reduce", choices=("all_reduce",), help="collective (all_reduce)")
    parser.add_argument("-b", "--minbytes", default="8", metavar="SIZE", help="smallest message, K/M/G binary (8)")
    parser.add_argument("-e", "--maxbytes", default="64M", metavar="SIZE", help="largest message (64M)")
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("-f", "--stepfactor", type=int, default=2, metavar="N", help="multiply the size by N (2)")
    steps.add_argument("-i", "--stepbytes", metavar="SIZE", help="add SIZE instead")
    parser.add_argument("-n", "--iters", type=int, default=20, metavar="N", help="timed iterations per size (20)")
    parser.add_argument("-w", "--warmup-iters", type=int, default=5, metavar="N", help="untimed before them (5)")
    parser.add_argument("-c", "--check", type=int, default=1, choices=(0, 1), help="verify each size's result (1)")
    parser.add_argument("--backend", default="auto", choices=("auto", "gloo", "nccl"), help="auto: nccl with CUDA")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait for a rank (120)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    add_launch_arguments(parser)


def check_bench(args: argparse.Namespace) -> None:
    """Raise BadInput for flags that cannot be measured, before any process starts."""
    check_launch_arguments(args)
    largest = bench_sizes(args)[-1]
    if args.iters < 1 or args.warmup_iters < 0:
        raise BadInput(f"-n {args.iters} -w {args.warmup_iters}: need at least 1 timed and 0 untimed iterations")
    if not args.timeout > 0:
        raise BadInput(f"--timeout {args.timeout:g} must be above 0 seconds")
    ranks_here = args.nproc or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = 4 * largest * ranks_here  # per rank: input, result, expected sum and the mask of wrong elements
    available = hardware.available_memory_bytes()
    if args.backend == "gloo" and available is not None and needed > available:
        raise BadInput(
            f"-e {args.maxbytes} on {ranks_here} ranks of this host needs {format_bytes(needed)} of memory "
            f"and {format_bytes(available)} is free; lower -e"
        )


def bench_sizes(args: argparse.Namespace) -> list[int]:
    """Return the sweep's message sizes in bytes; raise BadInput for flags that make none or too many."""
    smallest, largest = parse_bytes(args.minbytes), parse_bytes(args.maxbytes)
    if not 0 < smallest <= largest:
        raise BadInput(f"-b {args.minbytes} -e {args.maxbytes}: need 0 < smallest size <= largest size")
    if args.stepbytes is not None:
        step_bytes = parse_bytes(args.stepbytes)
        if step_bytes == 0 or (largest - smallest) // step_bytes >= _MAX_SIZES:
            raise BadInput(f"-i {args.stepbytes} makes over {_MAX_SIZES} sizes; use a larger step, or -f 2")
        return list(sweep_sizes(smallest, largest, step_bytes=step_bytes))
    if args.stepfactor < 2:
        raise BadInput(f"-f {args.stepfactor} never reaches {args.maxbytes}; use 2 or more")
    return list(sweep_sizes(smallest, largest, factor=args.stepfactor))


def bench(args: argparse.Namespace) -> int:
    """Measure as one rank; rank 0 writes collectives.jsonl and prints. Returns 1 when a result was wrong."""
    import msgspec

    from commbench.runtime import detect_rank, process_group, rank_device, resolve_backend
    from commbench.session import open_run
    from commbench.sweep import SweepOptions, measure_all_reduce
    from commbench.timing import device_clock

    context = detect_rank(os.environ)
    backend = resolve_backend(args.backend)
    device = rank_device(context, backend)
    options = SweepOptions(
        sizes=bench_sizes(args), iterations=args.iters, warmup_iterations=args.warmup_iters, check=bool(args.check)
    )
    measurements: list[CollectiveMeasurement] = []
    say = _print if context.rank == 0 and not args.json else _silent
    with (
        process_group(context, backend, args.timeout),
        open_run("bench", context, device, backend=backend, root=args.out, path=args.folder) as run,
    ):
        say(table.header(read_info(run), _ceiling(backend, context.num_nodes, context.local_rank)))
        with RecordWriter(run / "collectives.jsonl") if context.rank == 0 else nullcontext() as writer:
            for pair in measure_all_reduce(options, device, device_clock(device.type)):
                measurements += pair
                if writer is not None:
                    for measurement in pair:
                        writer.append(measurement)
                say(table.row(*pair))
    say(table.footer(measurements))
    say(f"# run: {run}")
    if context.rank == 0 and args.json:
        _print(msgspec.json.encode({"run": str(run), "measurements": measurements}).decode())
    return 1 if any(measurement.num_wrong for measurement in measurements) else 0


def _ceiling(backend: str, num_nodes: int, local_rank: int) -> hardware.Ceiling:
    if backend == "nccl":
        return hardware.gpu_ceiling(local_rank)
    return hardware.gloo_ceiling(num_nodes, os.environ.get("GLOO_SOCKET_IFNAME"))


def _print(text: str) -> None:
    """Print now, so that a pipe shows each size as soon as it is measured."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _silent(text: str) -> None:
    """The other ranks have nothing to say."""


BENCH = Verb(
    summary="time a collective over message sizes: nccl-tests' flags, columns and units, any backend",
    examples=(
        "commprof bench all_reduce --nproc 2 -b 8 -e 64M -f 2",
        "torchrun --nproc-per-node 8 --no-python commprof bench -b 1M -e 1G -n 50",
    ),
    add_arguments=add_bench_arguments,
    check=check_bench,
    run=bench,
)
