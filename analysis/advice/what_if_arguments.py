"""The flags of `commprof predict` that change something: factors on what was measured, or a value in its place."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commprof.commbench.display.terminal import show, show_json
from commprof.commbench.errors import BadInput
from commprof.commbench.units import parse_bytes

if TYPE_CHECKING:
    from commprof.analysis.runs.load import Run

_FACTORS = ("batch", "bandwidth", "latency")
_OF_TRAININGS = ("batch", "accumulation", "bucket_cap", "sent_share")
_CHANGES = (*_OF_TRAININGS, "bandwidth", "latency")


def add_change_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; none of them has a default, so that asking is told from not asking."""
    add = parser.add_argument_group("what if", "print the step with these changes; nothing is kept").add_argument
    add("--batch", type=float, metavar="F", help="F times the samples of each micro-batch per rank")
    add("--accumulation", type=int, metavar="K", help="K times the micro-batches of a step, each as large as now")
    add("--bucket-cap", metavar="SIZE", help="all buckets close at SIZE, K/M/G binary: 4M")
    add("--sent-share", type=float, metavar="F", help="bytes sent per byte of gradient: 0.5 for bf16")
    add("--bandwidth", type=float, metavar="F", help="F times the wire's bandwidth")
    add("--latency", type=float, metavar="F", help="F times the wire's latency")


def asks_what_if(args: argparse.Namespace) -> bool:
    return any(getattr(args, name) is not None for name in _CHANGES)


def changes_training(args: argparse.Namespace) -> bool:
    """Whether more than the wire is changed."""
    return any(getattr(args, name) is not None for name in _OF_TRAININGS)


def check_changes(args: argparse.Namespace) -> None:
    """Raise BadInput for changes that no training or wire can have."""
    for name in _FACTORS:
        factor = getattr(args, name)
        if factor is not None and not 1e-6 <= factor <= 1e6:
            raise BadInput(f"--{name} {factor:g}: a factor on what was measured, 1e-6 to 1e6; 2 doubles it")
    if args.accumulation is not None and not 1 <= args.accumulation <= 10_000:
        raise BadInput(f"--accumulation {args.accumulation}: 1 to 10,000 times the micro-batches of a step")
    if args.sent_share is not None and not 1e-6 <= args.sent_share <= 1:
        raise BadInput(f"--sent-share {args.sent_share:g}: bytes sent per byte of gradient, 1e-6 to 1")
    if args.bucket_cap is not None and parse_bytes(args.bucket_cap) < 1:
        raise BadInput(f"--bucket-cap {args.bucket_cap}: a bucket holds 1 byte or more; write for example 4M")


def answer_what_if(runs: "Sequence[Run]", args: argparse.Namespace) -> None:
    """Print the changed steps as the user wants them: a table, or one JSON document."""
    from commprof.analysis.runs.disturbance import disturbance_text
    from commprof.analysis.step.estimate import Setting
    from commprof.analysis.step.gather import gather
    from commprof.analysis.step.what_if import what_if, what_if_sheet

    cap = parse_bytes(args.bucket_cap) if args.bucket_cap is not None else None
    given = {name: value for name in (*_FACTORS, "accumulation") if (value := getattr(args, name)) is not None}
    caps = None if cap is None else (cap, cap)
    answers = what_if(gather(runs, args.world_sizes), Setting(caps_bytes=caps, sent_share=args.sent_share, **given))
    others = disturbance_text(runs)
    if args.json:
        show_json(answers, others)
    else:
        show(what_if_sheet(answers, others))
