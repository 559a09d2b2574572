"""Does recording a training that nobody wrote for us change its step, and is its step on two ranks foretold?

    make benchmark-foreign-programs    about 30 minutes as root, or in pieces (MINUTES=3); docs/results/foreign-programs.md

Eight programs (benchmarks/programs), each as its users write such a thing. On one rank each is recorded in pairs, in turns: as
it is, by `commprof record`, and with its .patch of a few lines by the explicit recorder or a library's callback. On the testbed
(2 hosts, 1 Gbit/s) the first of these runs, a compute-only run, the wire and contention give the prediction, on disk before
the run that checks it. What is done is not done again; a program whose library is missing is named.

Libraries are looked for in the interpreter that FRAMEWORKS_PYTHON names (tests/frameworks/requirements.txt says what it needs).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from benchmarks.foreign_programs_text import ProgramResult, results_text
from benchmarks.machine import describe_machine
from benchmarks.processes import run_together
from commprof.analysis.runs.load import load_run, load_runs
from commprof.analysis.step.estimate import estimate
from commprof.analysis.step.gather import gather
from commprof.analysis.step.predict import predict_all
from commprof.commbench.errors import BadInput, CommprofError
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.records.rundir import write_document, write_text
from commprof.testbed import network as testbed

HOSTS, RATE = 2, "1gbit"
TIMEOUT_S, MOST_LINES = 300.0, 5
PAIRS = 5
REPO: Final = Path(__file__).parents[1]
PROGRAMS_FOLDER: Final = Path(__file__).parent / "programs"
SCRIPT: Final = str(Path(sys.executable).parent / "commprof")
FRAMEWORKS: Final = os.environ.get("FRAMEWORKS_PYTHON", sys.executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A script, its arguments for 30 to 40 steps, the package it needs, and what `record` cannot see of it."""

    name: str
    words: tuple[str, ...]
    package: str = "torch"
    told: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        return sys.executable if self.package == "torch" else FRAMEWORKS

    @property
    def script(self) -> Path:
        return PROGRAMS_FOLDER / f"{self.name}.py"


PROGRAMS: Final = (
    Program(name="hf_trainer", words=("--max-steps", "31"), package="transformers"),
    Program(name="accelerate_classifier", words=("--num_steps", "31"), package="accelerate"),
    Program(name="lightning_autoencoder", words=("--max-steps", "31"), package="lightning"),
    Program(name="nanogpt", words=("31",)),
    Program(name="imagenet", words=("--epochs", "2", "--images", "128")),
    Program(name="word_lstm", words=("--epochs", "1"), told=("--samples-per-rank", "12")),
    Program(name="dlrm_net", words=("--num-batches", "41")),
    Program(name="compiled_transformer", words=("31",)),
)


@cache
def is_missing(program: Program) -> bool:
    look = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))"
    done = subprocess.run(
        [program.python, "-c", look, program.package, "msgspec"], check=False, capture_output=True, timeout=TIMEOUT_S
    )
    return done.returncode != 0


def num_changed_lines(program: Program) -> int:
    """Return how many lines the explicit version adds or writes anew; raise BadInput where they are too many."""
    lines = program.script.with_suffix(".patch").read_text().splitlines()
    changed = sum(line.startswith("+") and not line.startswith("+++ ") for line in lines)
    if changed > MOST_LINES:
        raise BadInput(f"{program.name}.patch changes {changed} lines, and {MOST_LINES} are the most")
    return changed


def take_pair(program: Program, folder: Path, number: int) -> None:
    """Record the program on one rank in both ways, one after the other, and write both median steps down."""
    arms: dict[str, Callable[[], Path]] = {
        "record": partial(_record, program, folder / f"record-{number}", hosts=1),
        "explicit": partial(_explicit, program, folder / f"explicit-{number}"),
    }
    order = list(arms) if number % 2 == 0 else list(reversed(arms))
    steps_s = {arm: load_run(arms[arm]()).median_step_s() for arm in order}
    write_document(folder / f"pair-{number}.json", steps_s)


def check_prediction(program: Program, folder: Path, runs: Path) -> None:
    """Take the first pair, predict the step on the testbed from it, write that down, and what came of it there."""
    if not (folder / "pair-0.json").exists():
        take_pair(program, folder, 0)
    with testbed.testbed(HOSTS, parse_wire(RATE)):
        wire = [_measured_wire(runs, *words) for words in (("bench", "1K", "64M"), ("contention", "1M", "16M", "-n", "12"))]
        profile = folder / "record-0"
        compute = _record(program, folder / "compute", "--compute-only", hosts=HOSTS)
        gathered = gather(load_runs([profile, compute, *wire]), [HOSTS])
        (inputs,) = gathered.at
        found = predict_all(inputs, estimate(inputs), gathered.single.step_s, gathered.anchor, gathered.workload.scaling)[0]
        span = found.interval_s
        predicted = {"step_s": found.step_s, "low_s": span and span.low, "high_s": span and span.high}
        write_document(folder / "prediction.json", predicted)
        check = load_run(_record(program, folder / "check", hosts=HOSTS))
    work = check.info.workload
    assert work is not None
    result = {
        "predicted": predicted,
        "single_s": load_run(profile).median_step_s(),
        "measured_s": check.median_step_s(),
        "kind": work.kind,
        "gradient_bytes": work.gradient_bytes,
        "unseen": [list(load_run(path).info.unseen) for path in (profile, folder / "check")],
    }
    write_document(folder / "checked.json", result)


def _record(program: Program, path: Path, *asked: str, hosts: int) -> Path:
    """Record the program as it is, on one rank or on the testbed's hosts."""
    command = [program.python, str(program.script), *program.words]
    started = command if hosts == 1 else [SCRIPT, "testbed", "exec", "--hosts", str(hosts), "--", *command]
    shutil.rmtree(path, ignore_errors=True)
    _run_in(
        path.with_name(f"{path.name}-work"), [SCRIPT, "record", *program.told, *asked, "--folder", str(path), "--", *started]
    )
    return path


def _explicit(program: Program, path: Path) -> Path:
    """Apply the program's patch to a copy, run that on one rank, and return the run."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    shutil.copy(program.script, path)
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(path.parent)}  # else git looks for the file where our own lie
    patch = ["git", "apply", str(program.script.with_suffix(".patch"))]
    subprocess.run(patch, cwd=path, env=outside, check=True, timeout=TIMEOUT_S)
    _run_in(path, [program.python, program.script.name, *program.words])
    (run,) = (path / "runs").iterdir()
    return run


def _run_in(folder: Path, command: list[str]) -> None:
    """Run a command in a folder of its own, where it may leave checkpoints; they go."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"}
    variables["TORCHINDUCTOR_CACHE_DIR"] = str(folder.parents[1] / "inductor")
    run_together([["env", "-C", str(folder), *command]], TIMEOUT_S, variables)
    if not (folder / "runs").exists():
        shutil.rmtree(folder)


def _measured_wire(runs: Path, verb: str, begin: str, end: str, *more: str) -> Path:
    """Return the run of `verb` on the testbed that is there already, or a new one."""
    path = runs / verb
    if not path.exists() or load_run(path).info.status != "completed":
        shutil.rmtree(path, ignore_errors=True)
        words = [SCRIPT, verb, "-b", begin, "-e", end, *more, "--folder", str(path)]
        run_together([[SCRIPT, "testbed", "exec", "--hosts", str(HOSTS), "--", *words]], TIMEOUT_S, {"OMP_NUM_THREADS": "1"})
    return path


def pieces(runs: Path, only: str) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield what is left to do: the file that tells it is done, and how it is done."""
    for number in range(PAIRS):
        for program in PROGRAMS:
            folder = runs / program.name
            done = folder / ("checked.json" if number == 0 else f"pair-{number}.json")
            if only not in program.name or is_missing(program) or done.exists():
                continue
            first, later = partial(check_prediction, program, folder, runs), partial(take_pair, program, folder, number)
            yield done, first if number == 0 else later


def run_pieces(runs: Path, minutes: float, only: str) -> None:
    """Do what is left until the time is used up; begin nothing that would end later if it took as long as what came before."""
    end_s, last_s = time.monotonic() + 60 * minutes, 0.0
    for done, work in list(pieces(runs, only)):
        start_s = time.monotonic()
        if start_s + last_s > end_s:
            return
        try:
            work()
            sys.stderr.write(f"{done.parent.name}: {done.read_text()}\n")
        except CommprofError as error:
            sys.stderr.write(f"{done.parent.name}: {done.stem} failed and is left for the next time: {error}\n")
        last_s = time.monotonic() - start_s


def result_of(program: Program, runs: Path) -> ProgramResult:
    folder = runs / program.name
    pairs = [_read(folder / f"pair-{number}.json") for number in range(PAIRS)]
    return ProgramResult(
        name=program.name,
        skipped=f"{program.package} is missing in {Path(program.python).name}" if is_missing(program) else "",
        num_changed_lines=num_changed_lines(program),
        pairs=[pair for pair in pairs if pair is not None],
        checked=_read(folder / "checked.json"),
    )


def _read(path: Path) -> Any:  # noqa: ANN401  JSON of our own
    return json.loads(path.read_text()) if path.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="where the result goes")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/foreign-programs"), metavar="DIR", help="where runs go (runs/foreign-programs)"
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="begin nothing that would not be done by then (60)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="programs whose name holds it, such as nanogpt")
    args = parser.parse_args()
    runs = args.runs.absolute()
    run_pieces(runs, args.minutes, args.only)
    text = results_text([result_of(program, runs) for program in PROGRAMS], describe_machine())
    write_text(args.out / "foreign-programs.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
