"""`commprof fit`, `predict` and `report`: files in, answers out. No torch, no measuring."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from analysis.results import AssumptionCheck, BreakEven, CostModel, Prediction, PredictionSet
from analysis.scaling import karp_flatt, scalings_of
from commbench.errors import BadInput
from commbench.rundir import read_info, write_document
from commbench.units import format_bytes, format_rate, format_seconds
from commbench.verbs import Verb

if TYPE_CHECKING:
    from analysis.load import Run

_MAX_RANKS = 65_536


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="bench runs, or a study's folder")
    parser.add_argument(
        "--times", nargs="+", metavar="N=S", help="explain seconds for the same work on N ranks: 1=19.53 4=42.34"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def check_fit(args: argparse.Namespace) -> None:
    """Raise BadInput unless there is exactly one thing to fit."""
    if bool(args.runs) == bool(args.times):
        raise BadInput("give bench runs to fit the wire, or --times 1=19.53 4=42.34 to explain a speedup; one of the two")
    if args.times:
        parse_times(args.times)


def fit(args: argparse.Namespace) -> int:
    """Fit the wire from bench runs (and keep fit.json), or explain a speedup from its times."""
    from analysis.load import load_runs
    from analysis.situation import fit_costs

    if args.times:
        found = scalings_of(parse_times(args.times))
        _print("\n\n".join(scaling.explain() for scaling in found))
        return 0
    runs = load_runs(args.runs)
    costs = list(fit_costs(runs).values())
    if not costs:
        raise BadInput(_nothing_to_fit(runs, args.runs))
    write_document(args.runs[0] / "analysis" / "fit.json", costs)
    _print(msgspec.json.encode(costs).decode() if args.json else fit_table(costs))
    return 0


def _nothing_to_fit(runs: "Sequence[Run]", paths: Sequence[Path]) -> str:
    held = sorted({f"{m.op} of {m.dtype}" for run in runs if run.world_size > 1 for m in run.collectives})
    names = ", ".join(map(str, paths))
    if held:
        return f"{names} holds {', '.join(held)}; what is fitted is a float32 all-reduce, as DDP does it"
    return f"no bench run among {names}; make one with commprof bench --nproc 2"


def parse_times(words: Sequence[str]) -> dict[int, float]:
    """Turn `1=19.53` words into seconds by rank count; raise BadInput for anything else."""
    times = {}
    for word in words:
        ranks, _, seconds = word.partition("=")
        try:
            times[int(ranks)] = float(seconds)
        except ValueError:
            raise BadInput(f"--times {word!r} is not N=SECONDS; write for example 4=42.34") from None
    return times


def fit_table(costs: Sequence[CostModel]) -> str:
    """Lay out the fitted lines, 80 columns, 95 % intervals in brackets."""
    lines = ["all-reduce on p ranks: t = latency + S / bandwidth   (ring: latency = 2(p-1) alpha)", ""]
    lines.append(f"{'ranks':>5}  {'latency':>24}  {'bandwidth (algbw)':>26}  {'busbw':>9}  half-size")
    for cost in costs:
        latency, bandwidth = format_seconds(cost.latency_s), format_rate(cost.bandwidth_bytes_per_s)
        if not cost.single_samples:
            low, high = cost.latency_interval_s.low, cost.latency_interval_s.high
            latency += f" [{format_seconds(low)}, {format_seconds(high)}]"
            slow, fast = cost.bandwidth_interval.low / 1e9, cost.bandwidth_interval.high / 1e9
            bandwidth += f" [{slow:.3g}, {fast:.3g}]"
        lines.append(
            f"{cost.world_size:>5}  {latency:>24}  {bandwidth:>26}  {format_rate(cost.busbw_bytes_per_s):>9}  "
            f"{format_bytes(cost.half_bandwidth_bytes)}"
        )
    for cost in costs:
        no_interval = ", one a size and so no interval" if cost.single_samples else ""
        lines.append(f"{cost.world_size:>5} ranks, {cost.num_samples} samples{no_interval}: {cost.verdict}")
    return "\n".join(lines)


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a one-rank run or imported traces, and benches; or a study"
    )
    parser.add_argument("-n", "--ranks", nargs="+", type=int, default=[], metavar="N", help="world sizes (those benched)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def check_predict(args: argparse.Namespace) -> None:
    """Raise BadInput for world sizes that mean nothing and folders that are not runs."""
    for world_size in args.ranks:
        if not 2 <= world_size <= _MAX_RANKS:
            raise BadInput(f"-n {world_size}: predict 2 to {_MAX_RANKS} ranks")
    for run in args.runs:
        read_info(run)


def predict_verb(args: argparse.Namespace) -> int:
    """Predict, keep predictions.json in the first folder's analysis/, and print the table."""
    from analysis.assumptions import check_assumptions
    from analysis.load import load_runs
    from analysis.predict import predict

    runs = load_runs(args.runs)
    predicted = predict(runs, args.ranks)
    path = args.runs[0] / "analysis" / "predictions.json"
    write_document(path, predicted)
    if args.json:
        _print(msgspec.json.encode(predicted).decode())
        return 0
    sizes = sorted({p.world_size for p in predicted.predictions})
    checks = [check for world_size in sizes for check in check_assumptions(runs, world_size)]
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
    for p in predicted.predictions:
        if p.assumptions:
            lines += ["", f"{p.world_size} ranks assume:", *(f"  - {assumption}" for assumption in p.assumptions)]
    schedules = {p.world_size: p for p in predicted.predictions if p.model == "schedule"}
    lines += ["", *(break_even(law, schedules[law.world_size]) for law in predicted.break_evens)]
    lines += ["", "R = W / T_comm: one rank's time for the step's samples over all buckets one by one"]
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


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a study's folder, or the runs to report on")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (RUN/analysis/report.html)")


def check_report(args: argparse.Namespace) -> None:
    """Raise BadInput for folders that are not runs."""
    for run in args.runs:
        read_info(run)


def report(args: argparse.Namespace) -> int:
    """Write report.html and print its path."""
    from analysis.report import write_report
    from analysis.study_report import has_grid, write_study_report

    if len(args.runs) == 1 and has_grid(args.runs[0]):
        if args.out is not None:
            raise BadInput(f"--out: {args.runs[0]} holds several experiments, whose pages lie together in its analysis/")
        _, page = write_study_report(args.runs[0])
    else:
        page = write_report(args.runs, args.out)
    _print(str(page))
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


FIT = Verb(
    summary="fit latency (s) and bandwidth (B/s) of the wire, or explain a speedup from its times",
    examples=("commprof fit runs/demo", "commprof fit --times 1=19.53 4=42.34"),
    add_arguments=add_fit_arguments,
    check=check_fit,
    run=fit,
)
PREDICT = Verb(
    summary="predict the training step at N ranks from a one-rank profile and a bench",
    examples=("commprof predict runs/demo", "commprof predict runs/PROFILE runs/BENCH -n 2 4 8"),
    add_arguments=add_predict_arguments,
    check=check_predict,
    run=predict_verb,
)
REPORT = Verb(
    summary="write one self-contained HTML file about a study or some runs",
    examples=("commprof report runs/demo", "commprof report runs/PROFILE runs/BENCH --out report.html"),
    add_arguments=add_report_arguments,
    check=check_report,
    run=report,
)
