"""The arguments that measuring verbs share: how many ranks, which folder, which sizes."""

import argparse
import os
from pathlib import Path

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.launched import detect_rank
from commprof.commbench.records.ownership import check_free
from commprof.commbench.records.rundir import read_info
from commprof.commbench.records.types import RunKind
from commprof.commbench.units import format_bytes, parse_bytes, sweep_sizes

MAX_TIMEOUT_S = 1e6
_MAX_ITERATIONS = 50_000  # two numbers of some 10 bytes each; a line may have 4 MiB
_MAX_WARMUPS = 10**6
_MAX_LOCAL_RANKS = 1024


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every measuring verb takes: the number of ranks to start, and where its run folder goes."""
    parser.add_argument("--nproc", type=int, metavar="N", help="start N ranks on this machine")
    group = parser.add_argument_group("where the run goes")
    group.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (runs)")
    group.add_argument("--folder", type=Path, metavar="DIR", help="the run folder itself; it must not exist yet")


def check_launch_arguments(args: argparse.Namespace) -> None:
    """Raise BadInput for a rank count below one, ranks that start ranks, or a run folder that is taken."""
    if args.nproc is not None and args.nproc < 1:
        raise BadInput(f"--nproc {args.nproc} starts nothing; give the number of ranks, 1 or more")
    if args.nproc is not None and args.nproc > _MAX_LOCAL_RANKS:
        raise BadInput(f"--nproc {args.nproc}: at most {_MAX_LOCAL_RANKS} ranks are started on one machine")
    if args.nproc is not None and (here := detect_rank(os.environ)).launcher != "single":
        raise BadInput(f"--nproc {args.nproc}: {here.launcher} has started {here.world_size} ranks already; drop --nproc")
    if args.folder is not None and args.folder.exists() and args.nproc is not None:
        raise BadInput(f"--folder {args.folder} already exists; a run never overwrites another, choose a new folder")
    check_interface(os.environ.get("GLOO_SOCKET_IFNAME", ""))


def check_gpus(args: argparse.Namespace, backend: str, flag: str = "--backend gloo") -> None:
    """Raise BadInput where more ranks are to be started here than NCCL has GPUs for; `flag` is what would ask for gloo."""
    if args.nproc is None or args.nproc == 1 or backend == "gloo":
        return
    from commprof.commbench.machine import hardware  # as in check_sweep

    gpus = hardware.gpus_for_nccl(os.environ)
    if 0 < gpus < args.nproc:
        cards = "1 GPU" if gpus == 1 else f"{gpus} GPUs"
        raise BadInput(
            f"--nproc {args.nproc}: NCCL takes one rank a GPU and this machine shows {cards}; use {flag}, or --nproc {gpus}"
        )


def check_resume(args: argparse.Namespace, kind: RunKind) -> None:
    """Raise BadInput where args.resume is not a run of this kind that ended early and that as many ranks can go on with."""
    run = args.resume
    if args.folder is not None:
        raise BadInput("--resume names the run folder already; drop --folder")
    info = read_info(run)
    if info.kind != kind:
        raise BadInput(f"{run} is a {info.kind} run; go on with it as it began, or name a {kind} run")
    check_free(run)
    if info.status == "completed":
        raise BadInput(f"{run} is complete; there is nothing to go on with")
    ranks = args.nproc or detect_rank(os.environ).world_size
    if ranks != info.world_size:
        raise BadInput(f"{run} was measured on {info.world_size} ranks, not {ranks}; use --nproc {info.world_size}")


def check_interface(names: str, cards: Path = Path("/sys/class/net")) -> None:
    """Raise BadInput where GLOO_SOCKET_IFNAME holds a name that this host does not know; gloo takes a comma list."""
    known = sorted(card.name for card in cards.iterdir()) if cards.exists() else []
    for name in filter(None, names.split(",")):
        if known and name not in known:
            raise BadInput(f"GLOO_SOCKET_IFNAME={name} is no interface of this host; it has {', '.join(known)}")


def add_sweep_arguments(parser: argparse.ArgumentParser, *, smallest: str, largest: str, factor: int) -> None:
    """Add a sweep over sizes by a factor, how often each is timed, and on what; nccl-tests' letters where it has them.

    `largest` is for people: the verb passes its own default for -e to `swept_sizes`.
    """
    add = parser.add_argument
    add("-b", "--minbytes", default=smallest, metavar="SIZE", help=f"smallest message, K/M/G binary ({smallest})")
    add("-e", "--maxbytes", metavar="SIZE", help=f"largest message ({largest})")
    add("--json", action="store_true", help="print one JSON document instead of text")
    add = parser.add_argument_group("how it is timed").add_argument
    add("-f", "--stepfactor", type=int, default=factor, metavar="N", help=f"multiply the size by N ({factor})")
    add("-n", "--iters", type=int, default=20, metavar="N", help="samples per size (20)")
    add("-w", "--warmup-iters", type=int, default=3, metavar="N", help="untimed before them (3)")
    add("--backend", default="auto", choices=("auto", "gloo", "nccl"), help="auto takes nccl with CUDA, else gloo (auto)")
    add("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait for a rank; to start, 30 at least (120)")


def check_sweep(args: argparse.Namespace, largest: str, *, buffers: int) -> None:
    """Raise BadInput for a sweep that cannot be measured with `buffers` times its largest message in each rank's memory."""
    sizes = swept_sizes(args, largest)
    if args.iters < 1 or args.warmup_iters < 0:
        raise BadInput(f"-n {args.iters} -w {args.warmup_iters}: need at least 1 sample and 0 untimed iterations")
    check_iterations(args.iters, args.warmup_iters)
    check_timeout(args.timeout)
    needed = buffers * sizes[-1] * (args.nproc or detect_rank(os.environ).local_world_size)
    from commprof.commbench.machine import hardware  # every --help comes past here, and reading machines takes a while to load

    free = hardware.available_memory_bytes()
    if free is not None and needed > free:
        raise BadInput(
            f"-e {args.maxbytes or largest} needs {format_bytes(needed)} of memory, {format_bytes(free)} is free; lower -e"
        )


def check_iterations(samples: int, warmups: int) -> None:
    """Raise BadInput for so many samples of a size that nobody could read the record, or warm-up without end."""
    if samples > _MAX_ITERATIONS:
        raise BadInput(f"-n {samples} makes records that nobody can read; use at most {_MAX_ITERATIONS}")
    if warmups > _MAX_WARMUPS:
        raise BadInput(f"-w {warmups} is more than the {_MAX_WARMUPS} untimed iterations that are taken")


def check_timeout(timeout_s: float) -> None:
    """Raise BadInput for a timeout that is none, or that torch cannot count."""
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise BadInput(f"--timeout {timeout_s:g} must be above 0 seconds and at most {MAX_TIMEOUT_S:g}")


def swept_sizes(args: argparse.Namespace, largest: str) -> list[int]:
    """Return the message sizes in bytes, up to `largest` where -e does not say; raise BadInput for flags that make none."""
    last = args.maxbytes or largest
    min_bytes, max_bytes = size_bounds(args.minbytes, last)
    if args.stepfactor < 2:
        raise BadInput(f"-f {args.stepfactor} never reaches {last}; use 2 or more")
    return list(sweep_sizes(min_bytes, max_bytes, factor=args.stepfactor))


def size_bounds(smallest: str, largest: str) -> tuple[int, int]:
    """Return the ends of a sweep in bytes; raise BadInput where they enclose no size."""
    min_bytes, max_bytes = parse_bytes(smallest), parse_bytes(largest)
    if not 0 < min_bytes <= max_bytes:
        raise BadInput(f"-b {smallest} -e {largest}: need 0 < smallest size <= largest size")
    return min_bytes, max_bytes
