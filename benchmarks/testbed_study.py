"""How far off are predictions over a grid of models, hosts and wires, and where does a training begin to pay?

    make benchmark-testbed-study      about 25 minutes as root; results in docs/results/testbed-study.md

Runs configs/study-testbed.yaml (or takes a finished study, --study) and writes down every cell: predicted before the run,
measured in it. The same for the overhead T_N - T_compute(N) alone, beside the naive models.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.machine import describe_machine
from commprof.analysis.report.study.pages import read_grid, write_study_report
from commprof.analysis.runs.load import load_runs
from commprof.analysis.study.experiment import cells_of
from commprof.analysis.study.table import MODELS, StudyRow, study_rows
from commprof.commbench.records.rundir import write_text

REPO = Path(__file__).parents[1]
SCRIPT = str(Path(sys.executable).parent / "commprof")


def checked_rows(study: Path) -> list[StudyRow]:
    """Return the study's synchronised runs on several ranks."""
    cells = cells_of(load_runs([study]))
    rows = study_rows(read_grid(study, cells).cells)
    return [row for row in rows if row.run.world_size > 1]


def grid(rows: Sequence[StudyRow]) -> Iterator[str]:
    """Yield one row a run."""
    yield "| model | hosts | wire | T_compute | predicted | 90 % interval | measured | error | overhead error | speedup |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        schedule = row.predictions["schedule"]
        span, error, overhead = schedule.interval_s, row.error("schedule"), row.overhead_error("schedule")
        assert error is not None and row.compute_s is not None and row.speedup is not None
        cell = f"{row.workload.experiment} | {row.run.world_size} | {row.wire} | {_ms(row.compute_s)}"
        told = "too disturbed" if span is None else f"{_ms(span.low)} to {_ms(span.high)}"
        predicted = f"{_ms(schedule.step_s)} | {told}"
        shown = "-" if overhead is None else f"{overhead:+.0%}"
        yield f"| {cell} | {predicted} | {_ms(row.step_s)} | {error:+.1%} | {shown} | {row.speedup:.2f}x |"


def errors(rows: Sequence[StudyRow]) -> Iterator[str]:
    """Yield each model's median and worst error of the step and of the overhead."""
    inside = [row for row in rows if (p := row.predictions["schedule"].interval_s) and p.low <= row.step_s <= p.high]
    yield f"Measured medians inside the 90 % interval: {len(inside)} of {len(rows)}."
    yield ""
    yield "| prediction by | step: median absolute error | worst | overhead: median absolute error | worst |"
    yield "|---|---|---|---|---|"
    for model in MODELS:
        steps = [error for row in rows if (error := row.error(model)) is not None]
        overheads = [error for row in rows if (error := row.overhead_error(model)) is not None]
        yield f"| {model} | {_spread(steps)} | {_spread(overheads)} |"


def _spread(values: Sequence[float]) -> str:
    return f"{median(map(abs, values)):.1%} | {max(values, key=abs):+.1%}" if values else "- | -"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument(
        "--study", type=Path, default=Path("runs/testbed"), metavar="DIR", help="the study's folder (runs/testbed)"
    )
    args = parser.parse_args()
    if not (args.study / "analysis" / "report.html").exists():
        command = [SCRIPT, "study", str(REPO / "configs" / "study-testbed.yaml"), "--out", str(args.study.parent)]
        subprocess.run([*command, f"name={args.study.name}"], check=True, stdout=subprocess.DEVNULL)
    rows = checked_rows(args.study)
    sentences, _ = write_study_report(args.study)
    head = ["# A grid on the testbed: predicted before the runs, and measured", "", describe_machine()]
    notes = [
        "- one study (make benchmark-testbed-study); all hosts share this machine's cores",
        "",
        *(f"- {s}" for s in sentences),
    ]
    text = "\n".join([*head, *notes, "", *grid(rows), "", *errors(rows)]) + "\n"
    write_text(args.out / "testbed-study.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
