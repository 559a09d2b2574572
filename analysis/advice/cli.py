"""`commprof advise`: what to change, what other hardware would bring, from where on N ranks pay, and what that costs."""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from commprof.analysis.advice.results import Budget
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.commbench.display.sheet import joined
from commprof.commbench.display.terminal import show, show_json
from commprof.commbench.errors import BadInput, UnusableData
from commprof.commbench.records.rundir import read_info, write_document
from commprof.commbench.units import parse_duration
from commprof.commbench.verb import RunName, Verb

_MAX_SAMPLES, _MAX_EPOCHS = 10**15, 10**6


def add_advise_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="+", type=RunName(), metavar="RUN", help="a one-rank training run and bench runs, or a study")
    add("-n", "--world-sizes", nargs="+", type=int, default=[], metavar="N", help="numbers of ranks (those benched)")
    add("--out", type=Path, metavar="FILE", help="keep the advice there, as JSON (it is printed only)")
    add("--json", action="store_true", help="print one JSON document; seconds, bytes and bytes per second")
    add = parser.add_argument_group("what it costs").add_argument
    add("--price", type=float, metavar="X", help="of one GPU-hour, in any currency; costs are in GPU-hours without it")
    add("--samples", type=int, metavar="N", help="samples per epoch (not known: costs are per million samples)")
    add("--epochs", type=int, default=1, metavar="N", help="epochs that the deadline holds for (1)")
    add("--deadline", metavar="TIME", help="for all epochs: 90min, 2h, 1.5d; which N is the cheapest in time?")


def check_advise(args: argparse.Namespace) -> None:
    """Raise BadInput for world sizes, prices and deadlines that mean nothing, and folders that are not runs."""
    check_world_sizes(args.world_sizes, "--world-sizes")
    check_money(args)
    if not 1 <= args.epochs <= _MAX_EPOCHS:
        raise BadInput(f"--epochs: give 1 to {_MAX_EPOCHS}")
    if args.samples is None and (args.deadline is not None or args.epochs > 1):
        raise BadInput(f"--{'deadline' if args.deadline else 'epochs'} needs the length of an epoch; add --samples N")
    budget_of(args)
    for run in args.runs:
        read_info(run)


def check_money(args: argparse.Namespace) -> None:
    """Raise BadInput for a price and a number of samples that mean nothing."""
    if args.price is not None and not 0 < args.price < math.inf:
        raise BadInput(f"--price {args.price:g}: a GPU-hour costs more than 0; leave it out to count GPU-hours")
    if args.samples is not None and not 1 <= args.samples <= _MAX_SAMPLES:
        raise BadInput(f"--samples: an epoch has 1 to {_MAX_SAMPLES} samples")


def advise_verb(args: argparse.Namespace) -> int:
    """Print the advice."""
    from commprof.analysis.advice.advise import advise
    from commprof.analysis.advice.text import advice_sheet
    from commprof.analysis.runs.disturbance import disturbance_text
    from commprof.analysis.runs.load import load_runs, select
    from commprof.analysis.step.gather import check_ddp
    from commprof.analysis.strategies.choose import Asked, choose, ddp_runs
    from commprof.analysis.strategies.inputs import sharded_runs
    from commprof.analysis.strategies.results import STRATEGIES
    from commprof.analysis.strategies.text import choice_sheet

    runs = load_runs(args.runs)
    choices = choose(runs, args.world_sizes, Asked(strategies=STRATEGIES)) if sharded_runs(runs) else []
    plain = ddp_runs(runs)
    if choices and not select(plain, kind="train"):
        raise UnusableData(
            "only sharded trainings among those given, and what is advised is DDP's; add a run on one rank that is not "
            "sharded, or ask commprof predict --strategy"
        )
    if not select(plain, kind="train"):
        check_ddp(runs)
    advice = replace(advise(plain, args.world_sizes, budget_of(args)), strategies=tuple(choices))
    if args.out is not None:
        write_document(args.out, advice)
    others = disturbance_text(runs)
    if args.json:
        show_json(advice, others)
    else:
        shown = [advice_sheet(advice, plain, others)]
        shown += [choice_sheet(choices, disturbed=others is not None)] if choices else []
        show(joined(shown))
    return 0


def budget_of(args: argparse.Namespace) -> Budget | None:
    """Return what the flags say about money and time, None where they say nothing; raise BadInput for an odd deadline."""
    if args.price is None and args.samples is None:
        return None
    return Budget(
        price_per_gpu_hour=args.price,
        samples_per_epoch=args.samples,
        epochs=args.epochs,
        deadline_s=None if args.deadline is None else parse_duration(args.deadline),
    )


VERB = Verb(
    summary="what to change, best first, with 90 % intervals; from which batch, model and wire on N ranks pay; costs",
    examples=(
        "commprof advise runs/demo",
        "commprof advise runs/PROFILE runs/BENCH -n 2 4 --samples 1000000 --deadline 2h",
    ),
    add_arguments=add_advise_arguments,
    check=check_advise,
    run=advise_verb,
)
