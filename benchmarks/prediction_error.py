"""How far is the predicted step at N=2 from the measured one? small and large, several repeats, interleaved.

Every repeat is a whole study: profile at N=1, bench and compute-only run at N=2, prediction written, then the real run. Its
error is that prediction's median step against the real run's median step. Repeats alternate between the models, so that a
machine that drifts drifts for both. Nothing is tuned on what is measured here.

    make benchmark-prediction          about 20 minutes on 2 cores; results in docs/results/prediction-error.md
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.analysis.report.numbers.verdict import Outcome, outcomes
from commprof.analysis.runs.load import load_runs
from commprof.analysis.step.results import Model, PredictionSet
from commprof.commbench.records.rundir import read_document, write_text

REPO = Path(__file__).parents[1]
STEPS = {"small": 54, "large": 30}
MODELS: tuple[Model, ...] = ("schedule", "ring", "amdahl", "linear")


def run_study(root: Path, name: str, repeat: int) -> list[Outcome]:
    """Run one study of the model `name` and return every model's prediction beside the measurement."""
    study = root / f"{name}-{repeat}.yaml"
    study.write_text(
        f"name: {name}-{repeat}\nmodels: [{{config: {REPO / 'configs' / name}.yaml}}]\nworld_sizes: [1, 2]\n"
        f"overrides: [training.max_steps={STEPS[name]}, training.evaluate=false, profiling.trace_steps=0, "
        "profiling.warmup_steps=4]\nbench: {min_bytes: 1K, max_bytes: 64M}\ncontention: {rounds: 0}\n"
    )
    command = [str(Path(sys.executable).parent / "commprof"), "study", str(study), "--out", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    folder = root / f"{name}-{repeat}"
    return outcomes(read_document(folder / "analysis" / "predictions.json", PredictionSet), load_runs([folder]))


def table(found: dict[str, list[list[Outcome]]]) -> Iterable[str]:
    """Yield one row a repeat, then each model's errors: signed per repeat, median of the absolute ones, range."""
    yield "| model | repeat | predicted | 90 % interval | measured | error | inside |"
    yield "|---|---|---|---|---|---|---|"
    for name, repeats in found.items():
        for number, outcome in enumerate((pick(repeat, "schedule") for repeat in repeats), 1):
            span = outcome.prediction.interval_s
            told = "too disturbed" if span is None else f"{span.low * 1e3:.0f} to {span.high * 1e3:.0f} ms"
            held = "yes" if inside(outcome) else "no"
            yield (
                f"| {name} | {number} | {outcome.prediction.step_s * 1e3:.0f} ms | {told} | "
                f"{outcome.measured_step_s * 1e3:.0f} ms | {outcome.relative_error:+.1%} | {held} |"
            )
    checks = [pick(repeat, "schedule") for repeats in found.values() for repeat in repeats]
    yield ""
    yield f"Measured medians inside the 90 % interval: {sum(map(inside, checks))} of {len(checks)}."
    yield ""
    yield "| model | prediction by | median absolute error | range of the signed error |"
    yield "|---|---|---|---|"
    for name, repeats in found.items():
        for model in MODELS:
            errors = [pick(repeat, model).relative_error for repeat in repeats]
            middle = median(map(abs, errors))
            yield f"| {name} | {model} | {middle:.1%} | {min(errors):+.1%} to {max(errors):+.1%} |"


def inside(outcome: Outcome) -> bool:
    span = outcome.prediction.interval_s
    return span is not None and span.low <= outcome.measured_step_s <= span.high


def pick(repeat: list[Outcome], model: Model) -> Outcome:
    return next(outcome for outcome in repeat if outcome.prediction.model == model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="studies per model (5)")
    parser.add_argument("--models", nargs="+", choices=STEPS, default=list(STEPS), help="which models (both)")
    args = parser.parse_args()
    found: dict[str, list[list[Outcome]]] = {name: [] for name in args.models}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            for name in args.models:
                found[name].append(run_study(Path(folder), name, repeat))
                error = pick(found[name][-1], "schedule").relative_error
                sys.stderr.write(f"repeat {repeat + 1}/{args.repeats} {name}: {error:+.1%}\n")
    lines = ["# Prediction error at N=2", "", describe_machine(), f"- {args.repeats} studies per model", "", *table(found)]
    write_text(args.out / "prediction-error.md", "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
