"""`commprof links`: every link by itself. Parsing and checking need no torch."""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from commprof.commbench.display.terminal import Output
from commprof.commbench.errors import BadInput
from commprof.commbench.links import table as links_table
from commprof.commbench.pace import RoundPace
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
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.rundir import RecordWriter, read_info
from commprof.commbench.units import printable
from commprof.commbench.verb import Verb

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

    from commprof.commbench.links.copies import LinkOptions

T = TypeVar("T")

_LARGEST = "16M"
_LARGEST_ON_GPUS = "512M"  # far beyond what a GPU's caches hold
_BUFFERS = 4  # what is sent, what comes, what should have come, and the staging copy


def add_links_arguments(parser: argparse.ArgumentParser) -> None:
    add_launch_arguments(parser)
    add_sweep_arguments(parser, smallest="16", largest=f"{_LARGEST}; {_LARGEST_ON_GPUS} with a GPU", factor=32)


def check_links(args: argparse.Namespace) -> None:
    """Raise BadInput for flags that cannot be measured, before any process starts."""
    check_launch_arguments(args)
    check_gpus(args, args.backend)
    check_sweep(args, _LARGEST, buffers=_BUFFERS)


def links(args: argparse.Namespace) -> int:
    """Measure as one rank; rank 0 writes the records and prints. Raises BadInput where there is no link at all."""
    load_torch()
    import msgspec
    import torch

    from commprof.commbench.links.copies import LinkOptions, waiting_group
    from commprof.commbench.ranks.launched import detect_rank
    from commprof.commbench.ranks.runtime import group_timeout_s, process_group, rank_device, resolve_backend
    from commprof.commbench.ranks.session import open_run

    context, backend = detect_rank(os.environ), resolve_backend(args.backend)
    if context.world_size == 1 and not torch.cuda.is_available():
        raise BadInput("one rank and no GPU: there is no link to measure; start two ranks or more with --nproc 2")
    device = rank_device(context, backend)
    sizes = swept_sizes(args, _LARGEST_ON_GPUS if torch.cuda.is_available() else _LARGEST)
    options = LinkOptions(sizes=sizes, iterations=args.iters, warmup_iterations=args.warmup_iters)
    say = Output(enabled=context.rank == 0 and not args.json)
    with (
        process_group(context, backend, args.timeout, device) as roll,
        open_run("links", context, device, roll=roll, backend=backend, root=args.out, path=args.folder) as run,
    ):
        info, waiting = read_info(run), waiting_group(group_timeout_s(args.timeout))
        hosts = list(info.ranks_of_hosts.values())
        say(links_table.header(info))
        inside = _recorded(run / "links.jsonl", context.rank, _measure_inside(hosts, options, device, waiting, say))
        pairs = _recorded(run / "pairs.jsonl", context.rank, _measure_between(hosts, options, device, waiting))
    if messages := [m for m in inside if m.kind == "send_recv"]:
        say(links_table.matrices(messages))
    if pairs:
        say(links_table.between_hosts(pairs, info))
    say("#\n" + printable(f"# run: {run}"))
    if context.rank == 0 and args.json:
        document = {"run": str(run), "measurements": inside, "pairs": pairs}
        Output(enabled=True)(msgspec.json.encode(document).decode())
    return 0


def _recorded(file: Path, rank: int, measured: Iterable[T]) -> list[T]:
    """Return all that is measured; rank 0 writes each as it comes. Without any there is no file."""
    kept: list[T] = []
    with ExitStack() as stack:
        for record in measured:
            if rank == 0 and not kept:
                writer = stack.enter_context(RecordWriter(file))
            kept.append(record)
            if rank == 0:
                writer.append(record)
    return kept


def _measure_inside(
    hosts: Sequence[Sequence[int]],
    options: "LinkOptions",
    device: "torch.device",
    waiting: "dist.ProcessGroup",
    say: Callable[[str], None],
) -> Iterator[LinkMeasurement]:
    """Yield copies, where there is a GPU, then messages inside hosts; say each copy's row when its last size is done."""
    import torch
    import torch.distributed as dist

    from commprof.commbench.links.copies import measure_copies, measure_pairs
    from commprof.commbench.timing import device_clock

    if torch.cuda.is_available():
        say(links_table.COPY_COLUMNS)
        sizes: list[LinkMeasurement] = []
        for measurement in measure_copies(options, waiting):
            yield measurement
            sizes.append(measurement)
            if len(sizes) == len(options.sizes):
                say(links_table.copy_row(sizes))
                sizes.clear()
    else:
        say("# no GPU on this host, so there are no copies to measure")
    total = sum(len(ranks) * (len(ranks) - 1) for ranks in hosts) * len(options.sizes)
    pace, start_s = RoundPace(total, len(options.sizes)), time.monotonic()
    with progress("links", total, enabled=dist.get_rank() == 0, left_s=pace.left_s) as report:
        for number, measurement in enumerate(measure_pairs(hosts, options, device, device_clock(device), waiting), 1):
            yield measurement
            pace.note(number, time.monotonic() - start_s)
            report(number, f"{measurement.source} to {measurement.target}")


def _measure_between(
    hosts: Sequence[Sequence[int]], options: "LinkOptions", device: "torch.device", waiting: "dist.ProcessGroup"
) -> Iterator[PairMeasurement]:
    """Yield what ranks on two hosts sent to each other, in rounds of pairs at one time; nothing on one host."""
    import torch.distributed as dist

    from commprof.commbench.links.pairs import measure_hosts, num_steps
    from commprof.commbench.links.schedule import matchings
    from commprof.commbench.timing import device_clock

    planned = matchings(hosts)
    pace, start_s = RoundPace(num_steps(planned, options), len(options.sizes)), time.monotonic()
    with progress("links", num_steps(planned, options), enabled=dist.get_rank() == 0, left_s=pace.left_s) as report:
        for number, measured in enumerate(measure_hosts(planned, options, device, device_clock(device), waiting), 1):
            yield from measured
            pace.note(number, time.monotonic() - start_s)
            report(number, f"{len(measured)} pairs of hosts")


VERB = Verb(
    summary="measure single links: copies to, from and between GPUs, messages inside hosts, and between pairs of hosts",
    examples=(
        "commprof links --nproc 2",
        "torchrun --nproc-per-node 8 --no-python commprof links -b 8 -e 128M -f 2",
        "srun --ntasks-per-node 8 commprof links  # then commprof check latest",
    ),
    add_arguments=add_links_arguments,
    check=check_links,
    run=links,
)
