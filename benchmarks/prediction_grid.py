"""How far off is the predicted step, over models, hosts, wires and the ways in which gradients are sent?

    make benchmark-prediction-grid      about 75 minutes as root; results in docs/results/prediction-grid.md

Three studies on the testbed: prediction-grid.yaml (24 cells), prediction-modes.yaml (10 cells: bucket caps, accumulation,
delayed communication, a bfloat16 hook) and prediction-heldout.yaml (18 cells of other shapes, batches and rates). Each cell's
prediction is on disk before the run that checks it starts; a study that is there already is read, not run again. Exposed
communication is T_N - T_compute(N), counted where it is over a tenth of the step.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles

from benchmarks.machine import describe_machine
from benchmarks.testbed_study import checked_rows, grid
from commprof.analysis.step.results import Model
from commprof.analysis.study.table import MODELS, StudyRow
from commprof.commbench.records.rundir import write_text

HERE = Path(__file__).parent
SCRIPT = str(Path(sys.executable).parent / "commprof")
STUDIES = ("grid", "modes", "heldout")


def run_study(name: str, out: Path) -> list[StudyRow]:
    """Run or continue one of the studies and return its checked runs."""
    command = [SCRIPT, "study", str(HERE / f"prediction-{name}.yaml"), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return checked_rows(out / name)


def summary(rows: Sequence[StudyRow]) -> Iterator[str]:
    """Yield how often the interval held, and each model's errors of the step and of what communication adds."""
    inside = [row for row in rows if (p := row.predictions["schedule"].interval_s) and p.low <= row.step_s <= p.high]
    yield f"Measured medians inside the 90 % interval: {len(inside)} of {len(rows)} ({len(inside) / len(rows):.0%})."
    yield ""
    yield "| prediction by | step: median | 90th percentile | worst | exposed communication: median | cells |"
    yield "|---|---|---|---|---|---|"
    for model in MODELS:
        steps = _errors(rows, model)
        exposed = [error for row in rows if _is_exposed(row) and (error := row.overhead_error(model)) is not None]
        middle, ninth = _quantile(steps, 5), _quantile(steps, 9)
        shown = f"{_quantile(exposed, 5):.1%} | {len(exposed)}" if len(exposed) > 1 else f"- | {len(exposed)}"
        yield f"| {model} | {middle:.1%} | {ninth:.1%} | {max(steps, key=abs):+.1%} | {shown} |"
    yield ""
    skills = (f"{model} {_skill(rows, model):.0%}" for model in MODELS if model != "schedule")
    yield f"Skill of the schedule, 1 - its median error over the model's: {', '.join(skills)}."


def _is_exposed(row: StudyRow) -> bool:
    return row.overhead_s is not None and row.overhead_s > 0.1 * row.step_s


def _skill(rows: Sequence[StudyRow], model: Model) -> float:
    return 1 - _quantile(_errors(rows, "schedule"), 5) / _quantile(_errors(rows, model), 5)


def _errors(rows: Sequence[StudyRow], model: Model) -> list[float]:
    return [error for row in rows if (error := row.error(model)) is not None]


def _quantile(errors: Sequence[float], tenth: int) -> float:
    return quantiles(map(abs, errors), n=10, method="inclusive")[tenth - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where the studies go (runs)")
    args = parser.parse_args()
    found = {name: run_study(name, args.runs) for name in STUDIES}
    lines = ["# Predicted steps on the testbed", "", describe_machine()]
    lines += ["- each prediction was on disk before the run that checked it; all hosts share the machine's cores"]
    for name, rows in found.items():
        lines += ["", f"## prediction-{name}.yaml, {len(rows)} cells", "", *grid(rows), "", *summary(rows)]
    every = [row for rows in found.values() for row in rows]
    lines += ["", f"## All, {len(every)} cells", "", *summary(every)]
    text = "\n".join(lines) + "\n"
    write_text(args.out / "prediction-grid.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
