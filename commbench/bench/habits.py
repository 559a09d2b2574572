"""nccl-tests' flags that mean nothing here: taken where they ask for what happens anyway, else answered by name."""

import argparse
from collections.abc import Callable
from typing import Final

from commprof.commbench.errors import BadInput

_ONE_EACH = "a process here drives one GPU by one thread; start N ranks with --nproc N"
# Flag, dest, values that ask for nothing else than what is done, and the answer to all others.
_FLAGS: Final = (
    ("-t", "nthreads", ("1",), _ONE_EACH),
    ("-g", "ngpus", ("1",), _ONE_EACH),
    ("-m", "agg_iters", ("1",), "calls are not aggregated; --mode pipelined launches them back to back"),
    (
        "-a",
        "average",
        ("0", "1", "2", "3"),
        "0 to 3; nothing is averaged, every sample keeps its slowest and fastest rank",
    ),
    ("-p", "parallel_init", ("0", "1"), "0 or 1; ranks are processes and start side by side"),
    ("-z", "blocking", ("0",), "torch.distributed decides that; --mode isolated waits for each call"),
    ("-y", "stream_null", ("0",), "torch.distributed has streams of its own"),
    ("-C", "report_cputime", ("0", "1"), "0 or 1; CPU time is recorded with every size"),
    (
        "-R",
        "local_register",
        ("0",),
        "buffers are as torch.distributed registers them, by none of its own here",
    ),
    ("-J", "output_file", (), "commprof bench --json > FILE writes one JSON document"),
)
_EVERY: Final = "all"


def add_habits(parser: argparse.ArgumentParser) -> None:
    """Add the flags without a place in the help."""
    for flag, name, _, _ in _FLAGS:
        parser.add_argument(flag, dest=name, metavar="N", help=argparse.SUPPRESS)


def check_habits(args: argparse.Namespace, known: Callable[[str], tuple[str, ...]]) -> None:
    """Raise BadInput for a flag of nccl-tests' that asks for what is not done; `known` lists the values of -o and -d."""
    for flag, name, taken, answer in _FLAGS:
        value = getattr(args, name)
        if value is not None and value not in taken:
            raise BadInput(f"{flag} {value}: {answer}")
    for flag, value in (("-o", args.redop), ("-d", args.datatype)):
        if value == _EVERY:
            each = known(flag)
            raise BadInput(f"{flag} all: a run has one; call commprof bench {flag} X for each of {', '.join(each)}")
