"""`commprof predict`: files in, answers out. No torch, no measuring."""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from commprof.analysis.advice.parts_text import parts_table
from commprof.analysis.advice.what_if_arguments import add_change_arguments, asks_what_if, check_changes, what_if_text
from commprof.analysis.runs.world_sizes import check_world_sizes
from commprof.analysis.scaling.speedup import karp_flatt
from commprof.analysis.step.results import AssumptionCheck, BreakEven, Prediction, PredictionSet
from commprof.commbench.records.rundir import read_info, write_document
from commprof.commbench.units import format_seconds
from commprof.commbench.verb import Verb

_WIDTH = 80


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a one-rank run or imported traces, and benches; or a study"
    )
    parser.add_argument(
        "-n", "--world-sizes", nargs="+", type=int, default=[], metavar="N", help="numbers of ranks (those benched)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_change_arguments(parser)


def check_predict(args: argparse.Namespace) -> None:
    """Raise BadInput for world sizes and changes that mean nothing and folders that are not runs."""
    check_changes(args)
    check_world_sizes(args.world_sizes, "-n")
    for run in args.runs:
        read_info(run)


def predict_verb(args: argparse.Namespace) -> int:
    """Predict, keep predictions.json in the first folder's analysis/, and print the table; keep nothing of a what-if."""
    from commprof.analysis.runs.load import load_runs
    from commprof.analysis.step.assumptions import checked_assumptions

    if asks_what_if(args):
        _print(what_if_text(load_runs(args.runs), args))
        return 0
    from commprof.analysis.advice.predict import predict_runs

    runs = load_runs(args.runs)
    predicted = predict_runs(runs, args.world_sizes)
    path = args.runs[0] / "analysis" / "predictions.json"
    write_document(path, predicted)
    if args.json:
        _print(msgspec.json.encode(predicted).decode())
        return 0
    checks = checked_assumptions(predicted, runs)
    _print("\n\n".join([prediction_table(predicted), *([assumption_table(checks)] if checks else [])]))
    return 0


def prediction_table(predicted: PredictionSet) -> str:
    """Lay out every model's prediction, 80 columns."""
    fixed = "batch per rank fixed" if predicted.scaling == "weak" else "batch in all fixed"
    lines = [
        f"one rank: {format_seconds(predicted.single_step_s)} per step; speedup S in samples/s; {fixed}",
        "",
    ]
    columns = f"{'ranks':>5}  {'model':8}  {'step':>8}  {'90 % interval':>20}  {'speedup':>7}"
    lines.append(f"{columns}  {'effic.':>6}  {'exposed':>8}")
    for p in predicted.predictions:
        span = "-" if p.interval_s is None else f"{format_seconds(p.interval_s.low)} - {format_seconds(p.interval_s.high)}"
        lines.append(
            f"{p.world_size:>5}  {p.model:8}  {format_seconds(p.step_s):>8}  {span:>20}  {p.speedup:>6.2f}x  "
            f"{p.efficiency:>6.1%}  {format_seconds(p.exposed_s):>8}"
        )
    lines += ["", *parts_table(predicted.overheads)] if predicted.overheads else []
    for p in predicted.predictions:
        if p.assumptions:
            notes = (textwrap.fill(note, _WIDTH, initial_indent="  - ", subsequent_indent="    ") for note in p.assumptions)
            lines += ["", f"{p.world_size} ranks assume:", *notes]
    schedules = {p.world_size: p for p in predicted.predictions if p.model == "schedule"}
    lines += ["", *(break_even(law, schedules[law.world_size]) for law in predicted.break_evens)]
    lines += ["", "R = W / T_comm: one rank's time for the step's samples over that of all buckets"]
    lines += ["T_N of each model:"]
    lines += sorted({f"  {p.model:8}  {p.formula}" for p in predicted.predictions})
    return "\n".join(lines)


def assumption_table(checks: Sequence[AssumptionCheck]) -> str:
    """Lay out where a run parted from its prediction, 80 columns."""
    lines = []
    for n in sorted({check.world_size for check in checks}):
        own = [check for check in checks if check.world_size == n]
        lines += ["", f"{n} ranks, a run against its prediction: {own[0].error_s * 1e3:+.1f} ms a step, in"]
        for check in own:
            if check.expected_s is None or check.measured_s is None:
                lines.append(f"  {check.name:14} {'as' if check.holds else 'NOT as'} predicted")
                continue
            parts = f"{format_seconds(check.measured_s):>9}, {format_seconds(check.expected_s):>9} predicted"
            lines.append(f"  {check.name:14} {parts}  {check.explains_s * 1e3:>+9.1f} ms")
        lines += [f"  failed: {check.assumption}" for check in own if not check.holds]
    return "\n".join(lines[1:])


def break_even(law: BreakEven, prediction: Prediction) -> str:
    """Say whether N ranks pay, what R is and had to be, and the serial fraction Amdahl's law would need."""
    n = law.world_size
    return (
        f"{n} ranks {'pay' if prediction.step_s < law.work_s else 'do not pay'}: a step takes "
        f"{format_seconds(prediction.step_s)}, one rank {format_seconds(law.work_s)} for as many samples;\n"
        f"  R = {law.ratio:.3g}, needed with nothing hidden: {law.ratio_needed:.3g}\n"
        f"  Karp-Flatt e = (1/S - 1/N)/(1 - 1/N) = {karp_flatt(prediction.speedup, n):.3f}"
    )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


VERB = Verb(
    summary="predict the training step at N ranks from a one-rank profile and a bench",
    examples=(
        "commprof predict runs/demo",
        "commprof predict runs/PROFILE runs/BENCH -n 2 4 8",
        "commprof predict runs/demo --batch 2",
    ),
    add_arguments=add_predict_arguments,
    check=check_predict,
    run=predict_verb,
)
