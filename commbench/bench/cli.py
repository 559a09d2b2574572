"""`commprof bench`: what nccl-tests measures, on any backend and without a compiler.

Parsing and checking need no torch, so a wrong flag is answered before any process starts.
"""

import argparse
import os
from dataclasses import replace

from commprof.commbench.bench.habits import add_habits, check_habits
from commprof.commbench.bench.plan import FAST, PLAN_FILE, RIGOROUS, STANDARD, BenchPlan, Cell, Effort, Mode, parse_buckets
from commprof.commbench.errors import BadInput
from commprof.commbench.machine import hardware
from commprof.commbench.ranks.arguments import (
    MAX_TIMEOUT_S,
    add_launch_arguments,
    check_gpus,
    check_iterations,
    check_launch_arguments,
    check_resume,
    check_timeout,
    size_bounds,
    swept_sizes,
)
from commprof.commbench.ranks.launched import detect_rank
from commprof.commbench.ranks.loading import load_torch
from commprof.commbench.records.operations import (
    DATA_TYPES,
    OPERATIONS,
    REDUCTIONS,
    check_operation,
    data_type_name,
    reduction_name,
)
from commprof.commbench.records.rundir import read_document
from commprof.commbench.units import format_bytes, parse_bytes, sweep_sizes
from commprof.commbench.verb import RunName, Verb

_MAX_SIZES = 10_000
_MODES = ("isolated", "pipelined", "burst")
_KEPT_ON_RESUME = ("resume", "nproc", "backend", "timeout", "json", "stats", "out", "folder")


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(OPERATIONS)
    parser.add_argument("op", nargs="?", default="all_reduce", choices=tuple(OPERATIONS), metavar="OP", help=f"{names} (first)")
    add_launch_arguments(parser)
    parser.add_argument("-b", "--minbytes", default="8", metavar="SIZE", help="smallest message, K/M/G binary (8)")
    parser.add_argument("-e", "--maxbytes", default="64M", metavar="SIZE", help="largest message (64M)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--stats", action="store_true", help="also min, p95, p99, max and the median's 95 %% interval")
    _add_message_arguments(parser.add_argument_group("what is sent"))
    _add_timing_arguments(parser.add_argument_group("how it is timed"))
    _add_rank_arguments(parser.add_argument_group("its ranks"))
    add_habits(parser)


def _add_message_arguments(group: argparse._ArgumentGroup) -> None:
    steps = group.add_mutually_exclusive_group()
    steps.add_argument("-f", "--stepfactor", type=int, default=2, metavar="N", help="multiply the size by N (2)")
    steps.add_argument("-i", "--stepbytes", metavar="SIZE", help="add SIZE instead")
    types = ", ".join(DATA_TYPES)
    group.add_argument("-d", "--datatype", default="float32", metavar="TYPE", help=f"{types}, or nccl-tests' names (float32)")
    group.add_argument("-o", "--redop", default="sum", metavar="OP", help=f"reduction: {', '.join(REDUCTIONS)} (sum)")
    group.add_argument("-r", "--root", type=int, default=0, metavar="RANK", help="of broadcast, reduce, gather, scatter (0)")
    group.add_argument("--place", default="both", choices=("both", "in", "out"), help="in place, out of place, or both (both)")
    group.add_argument("--hot", action="store_true", help="one buffer, warm in the cache (else larger than the cache, in turn)")
    group.add_argument("-c", "--check", type=int, default=1, choices=(0, 1), help="verify each size's result (1)")
    buckets = "sizes of a burst: a run or gradients.json, a list 1M,25M,13M, gradient bytes 178M, or with a cap 178M/10M"
    group.add_argument("--buckets", type=RunName(or_else=True), metavar="FROM", help=buckets)


def _add_timing_arguments(group: argparse._ArgumentGroup) -> None:
    modes = "isolated: barrier, one call, wait; pipelined: calls back to back, one wait; burst: DDP's buckets at once"
    group.add_argument("--mode", default="isolated", metavar="MODES", help=f"comma-separated; {modes} (isolated)")
    effort = group.add_mutually_exclusive_group()
    effort.add_argument("--fast", action="store_true", help="each median to 10 %%, 10 s in all")
    effort.add_argument("--rigorous", action="store_true", help="each median to 0.5 %%, 600 s in all (else 2 %%, 50 s)")
    effort.add_argument("-n", "--iters", type=int, metavar="N", help="exactly N samples per size instead")
    group.add_argument("--seconds", type=float, metavar="S", help="time for the whole sweep, instead of the above")
    group.add_argument(
        "-w", "--warmup-iters", type=int, default=5, metavar="N", help="calls before timing, the first apart (5)"
    )
    group.add_argument("-G", "--cudagraph", action="store_true", help="replay pipelined calls from a CUDA graph (nccl)")


def _add_rank_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend", default="auto", choices=("auto", "gloo", "nccl"), help="auto takes nccl with CUDA, else gloo (auto)"
    )
    words = "seconds to wait for a rank; to start, 30 at least (120)"
    group.add_argument("-T", "--timeout", type=float, default=120.0, metavar="S", help=words)
    group.add_argument("--resume", type=RunName(ended_early=True), metavar="RUN", help="go on with a sweep that ended early")


def check_bench(args: argparse.Namespace) -> None:
    """Raise BadInput for flags that cannot be measured, before any process starts."""
    check_launch_arguments(args)
    check_gpus(args, args.backend)
    check_habits(args, lambda flag: REDUCTIONS if flag == "-o" else tuple(DATA_TYPES))
    check_timeout(args.timeout)
    plan = bench_plan(args)
    if (plan.effort.iterations is not None and plan.effort.iterations < 1) or plan.warmup_iterations < 0:
        raise BadInput(f"-n {args.iters} -w {args.warmup_iters}: need at least 1 timed and 0 untimed iterations")
    check_iterations(plan.effort.iterations or 1, plan.warmup_iterations)
    if not 0 < plan.effort.budget_s <= MAX_TIMEOUT_S:
        raise BadInput(f"--seconds {plan.effort.budget_s:g} must be above 0 and at most {MAX_TIMEOUT_S:g}")
    backend = "gloo" if args.backend == "auto" and not hardware.has_nvidia_driver() else args.backend
    _check_graph(plan, backend)
    check_operation(plan.op, plan.dtype, plan.reduction, backend)
    ranks = args.nproc or detect_rank(os.environ).world_size
    if plan.op == "send_recv" and ranks == 1:
        raise BadInput("send_recv sends to the next rank, and one rank has none; start two or more with --nproc 2")
    if not 0 <= plan.root < ranks:
        raise BadInput(f"-r {plan.root}: the ranks are 0 to {ranks - 1}")
    if backend == "gloo":
        _check_memory(args, plan)


def _check_graph(plan: BenchPlan, backend: str) -> None:
    if not plan.cuda_graph:
        return
    if backend == "gloo":
        raise BadInput("-G captures NCCL's kernels; gloo has none, drop it")
    if not any(cell.mode == "pipelined" for cell in plan.cells):
        raise BadInput("-G replays pipelined calls and there are none; add --mode pipelined, or drop -G")
    if plan.op == "barrier":
        raise BadInput("-G cannot capture a barrier, which waits on the host; drop -G")


def _check_memory(args: argparse.Namespace, plan: BenchPlan) -> None:
    largest = max((*plan.sizes, sum(plan.bucket_bytes)))
    ranks_here = args.nproc or detect_rank(os.environ).local_world_size
    buffers = 1 if all(cell.in_place for cell in plan.cells) else 2
    buffers += 2 if plan.check else 0  # the expected result and the mask of wrong elements
    needed = buffers * largest * ranks_here
    available = hardware.available_memory_bytes()
    if available is not None and needed > available:
        raise BadInput(
            f"-e {args.maxbytes} on {ranks_here} ranks of this host needs {format_bytes(needed)} of memory "
            f"and {format_bytes(available)} is free; lower -e"
        )


def bench_plan(args: argparse.Namespace) -> BenchPlan:
    """Return what the flags ask for, or with --resume what the run was asked for; raise BadInput where they make no sense."""
    if args.resume is not None:
        return _resumed_plan(args)
    modes = tuple(dict.fromkeys(args.mode.split(",")))
    unknown = [mode for mode in modes if mode not in _MODES]
    if unknown:
        raise BadInput(f"--mode {args.mode}: {unknown[0]!r} is not one of {', '.join(_MODES)}")
    if ("burst" in modes) != (args.buckets is not None):
        raise BadInput("--mode burst and --buckets go together; for example --mode isolated,burst --buckets 178M")
    if "burst" in modes and args.op != "all_reduce":
        raise BadInput(f"DDP's burst is of all-reduces, not {args.op}; drop burst from --mode")
    bucket_bytes, source = parse_buckets(str(args.buckets)) if args.buckets else ((), "")
    return BenchPlan(
        op=args.op,
        dtype=data_type_name(args.datatype),
        reduction=reduction_name(args.redop),
        root=args.root,
        sizes=tuple(bench_sizes(args)),
        cells=tuple(_cells(args, modes)),
        bucket_bytes=bucket_bytes,
        bucket_source=source,
        effort=_effort(args),
        warmup_iterations=args.warmup_iters,
        check=bool(args.check),
        hot=args.hot,
        cuda_graph=args.cudagraph,
    )


def bench_sizes(args: argparse.Namespace) -> list[int]:
    """Return the sweep's message sizes in bytes; raise BadInput for flags that make none or too many."""
    if args.stepbytes is None:
        return swept_sizes(args, args.maxbytes)
    smallest, largest = size_bounds(args.minbytes, args.maxbytes)
    step_bytes = parse_bytes(args.stepbytes)
    if step_bytes == 0 or (largest - smallest) // step_bytes >= _MAX_SIZES:
        raise BadInput(f"-i {args.stepbytes} makes over {_MAX_SIZES} sizes; use a larger step, or -f 2")
    return list(sweep_sizes(smallest, largest, step_bytes=step_bytes))


def bench(args: argparse.Namespace) -> int:
    """Measure as one rank; rank 0 writes and prints. Returns 1 when a result was wrong."""
    load_torch()
    from commprof.commbench.bench.run import BenchRequest, run_bench

    return run_bench(
        BenchRequest(
            plan=bench_plan(args),
            backend=args.backend,
            timeout_s=args.timeout,
            root=args.out,
            folder=args.resume or args.folder,
            resume=args.resume is not None,
            json=args.json,
            stats=args.stats,
        )
    )


def _resumed_plan(args: argparse.Namespace) -> BenchPlan:
    defaults = argparse.ArgumentParser()
    add_bench_arguments(defaults)
    for name, default in vars(defaults.parse_args([])).items():
        if name not in _KEPT_ON_RESUME and getattr(args, name) != default:
            raise BadInput(f"--resume takes the sweep's own flags from {args.resume}; drop {name}={getattr(args, name)}")
    run = args.resume
    check_resume(args, "bench")
    if not (run / PLAN_FILE).exists():
        raise BadInput(f"{run} ended before anything was measured and holds no {PLAN_FILE}; start anew, in a new folder")
    return read_document(run / PLAN_FILE, BenchPlan)


def _cells(args: argparse.Namespace, modes: tuple[str, ...]) -> list[Cell]:
    operation = OPERATIONS[args.op]
    if args.place == "in" and not operation.in_place:
        raise BadInput(f"{args.op} has no in-place form; use --place out")
    places = [False] * (args.place != "in") + [True] * (args.place != "out" and operation.in_place)
    timed: tuple[Mode, ...] = ("isolated", "pipelined")
    return [Cell(mode=mode, in_place=in_place) for mode in timed if mode in modes for in_place in places]


def _effort(args: argparse.Namespace) -> Effort:
    effort = FAST if args.fast else RIGOROUS if args.rigorous else STANDARD
    seconds = effort.budget_s if args.seconds is None else args.seconds
    return replace(effort, iterations=args.iters, budget_s=seconds)


VERB = Verb(
    summary="time a collective over message sizes: nccl-tests' flags, columns and units, any backend",
    examples=(
        "commprof bench all_reduce --nproc 2 -b 8 -e 64M -f 2",
        "commprof bench all_gather --nproc 2 --mode isolated,pipelined --stats",
        "torchrun --nproc-per-node 8 --no-python commprof bench -b 1M -e 1G",
    ),
    add_arguments=add_bench_arguments,
    check=check_bench,
    run=bench,
)
