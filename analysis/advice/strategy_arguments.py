"""The flags of `commprof predict` that ask which strategy to shard a training by."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commprof.analysis.strategies.results import ASKED_FOR, COPIES
from commprof.commbench.display.terminal import show, show_json
from commprof.commbench.errors import BadInput
from commprof.commbench.units import parse_bytes

if TYPE_CHECKING:
    from commprof.analysis.runs.load import Run


def add_strategy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; all but --strategy mean nothing without it."""
    names = ",".join(ASKED_FOR)
    add = parser.add_argument_group("strategies", "compare ways to share a training out; nothing is kept").add_argument
    add("--strategy", metavar="LIST", help=f"step and memory of each of these, and the fastest that fits: {names}")
    add("--replicas", type=int, metavar="R", help="copies of the shards that hsdp keeps (2)")
    add("--memory", metavar="SIZE", help="what a rank may take, K/M/G binary: 24G")
    add("--units", metavar="PATTERN", help="units of a profile that is not sharded: 'blocks.*' (its repeated blocks)")
    add("--no-prefetch", action="store_true", default=None, help="no unit is gathered before the one before it is done")


def asks_strategy(args: argparse.Namespace) -> bool:
    return args.strategy is not None


def check_strategies(args: argparse.Namespace) -> None:
    """Raise BadInput for strategies that there are none of, and for flags that mean nothing."""
    if not asks_strategy(args):
        for flag in ("replicas", "memory", "units", "no_prefetch"):
            if getattr(args, flag) is not None:
                raise BadInput(f"--{flag.replace('_', '-')} goes with --strategy; add for example --strategy ddp,fsdp")
        return
    unknown = [name for name in args.strategy.split(",") if name not in ASKED_FOR]
    if unknown:
        raise BadInput(f"--strategy {unknown[0]!r} is not predicted here; use some of {','.join(ASKED_FOR)}")
    if args.replicas is not None and args.replicas < 2:
        raise BadInput(f"--replicas {args.replicas}: hsdp keeps 2 copies or more; one is fsdp")
    if args.replicas is not None and "hsdp" not in args.strategy.split(","):
        raise BadInput(f"--replicas {args.replicas} is hsdp's, which --strategy does not name; add hsdp or leave it out")
    if args.memory is not None and parse_bytes(args.memory) < 1:
        raise BadInput(f"--memory {args.memory}: a rank takes 1 byte or more; write for example 24G")


def answer_strategies(runs: "Sequence[Run]", args: argparse.Namespace) -> None:
    """Print every strategy asked for as the user wants it: a table, or one JSON document."""
    from commprof.analysis.runs.disturbance import disturbance_text
    from commprof.analysis.strategies.choose import Asked, choose
    from commprof.analysis.strategies.text import choice_sheet

    wanted = dict.fromkeys(args.strategy.split(","))
    asked = Asked(
        strategies=tuple(name for name in ASKED_FOR if name in wanted),
        replicas=args.replicas or COPIES,
        prefetch=not args.no_prefetch,
        memory_bytes=None if args.memory is None else parse_bytes(args.memory),
        units=args.units,
        **{name: value for name in ("bandwidth", "latency") if (value := getattr(args, name)) is not None},
    )
    choices = choose(runs, args.world_sizes, asked)
    others = disturbance_text(runs)
    if args.json:
        show_json(choices, others)
    else:
        show(choice_sheet(choices, disturbed=others is not None, warning=others))
