"""`commprof predict`: files in, answers out. No torch, no measuring."""

import argparse
import sys
from pathlib import Path

from commprof.analysis.advice.strategy_arguments import (
    add_strategy_arguments,
    answer_strategies,
    asks_strategy,
    check_strategies,
)
from commprof.analysis.advice.what_if_arguments import (
    add_change_arguments,
    answer_what_if,
    asks_what_if,
    changes_training,
    check_changes,
)
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.commbench.display.terminal import show, show_json
from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import read_info
from commprof.commbench.units import printable
from commprof.commbench.verb import RunName, Verb


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=RunName(), metavar="RUN", help="a one-rank run or imported traces, and benches; or a study"
    )
    parser.add_argument(
        "-n", "--world-sizes", nargs="+", type=int, default=[], metavar="N", help="numbers of ranks (those benched)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the predictions there (the first folder's analysis/)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_change_arguments(parser)
    add_strategy_arguments(parser)


def check_predict(args: argparse.Namespace) -> None:
    """Raise BadInput for world sizes and changes that mean nothing and folders that are not runs."""
    check_changes(args)
    check_strategies(args)
    if asks_strategy(args) and changes_training(args):
        raise BadInput(
            "--strategy compares trainings as they are, over another --bandwidth or --latency at most; leave out what else "
            "changes them, or --strategy"
        )
    check_world_sizes(args.world_sizes, "-n")
    if args.out is not None and (asks_what_if(args) or asks_strategy(args)):
        raise BadInput("--out keeps a prediction; what would be under another setting is printed only")
    for run in args.runs:
        read_info(run)


def predict_verb(args: argparse.Namespace) -> int:
    """Predict, keep the predictions in the first folder's analysis/, and print the table; keep nothing of a what-if."""
    from commprof.analysis.runs.disturbance import disturbance_text
    from commprof.analysis.runs.keeping import kept
    from commprof.analysis.runs.load import load_runs
    from commprof.analysis.step.assumptions import checked_assumptions
    from commprof.analysis.step.kept import PREDICTIONS_FILE, keep_predictions, keep_predictions_in

    if asks_strategy(args):
        answer_strategies(load_runs(args.runs), args)
        return 0
    if asks_what_if(args):
        answer_what_if(load_runs(args.runs), args)
        return 0
    from commprof.analysis.advice.predict import predict_runs
    from commprof.analysis.advice.predict_text import prediction_sheet

    runs = load_runs(args.runs)
    predicted = predict_runs(runs, args.world_sizes)
    if args.out is not None:
        keep_predictions_in(args.out, predicted)
    elif (path := kept(lambda: keep_predictions(args.runs[0] / "analysis", predicted))) and path.name != PREDICTIONS_FILE:
        sys.stderr.write(f"kept beside earlier predictions: {printable(str(path))}\n")
    others = disturbance_text(runs)
    if args.json:
        show_json(predicted, others)
        return 0
    show(prediction_sheet(predicted, [] if others is not None else checked_assumptions(predicted, runs), runs, others))
    return 0


VERB = Verb(
    summary="predict the training step at N ranks from a one-rank profile and a bench",
    examples=(
        "commprof predict runs/demo",
        "commprof predict @train-n1 @bench-n2",
        "commprof predict runs/PROFILE runs/BENCH -n 2 4 8",
        "commprof predict runs/demo --batch 2",
        "commprof predict runs/PROFILE runs/BENCH --strategy ddp,fsdp,zero2",
    ),
    add_arguments=add_predict_arguments,
    check=check_predict,
    run=predict_verb,
)
