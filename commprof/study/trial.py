"""How long does a script take to start, and a step of it? A few steps of one rank are recorded, into a folder that goes."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from commprof.commbench.errors import RunFailed
from commprof.commbench.records.rundir import read_info, read_records
from commprof.commbench.records.training import StepMeasurement
from commprof.launch import console_script
from commprof.study.backend import rank_environment
from commprof.study.command import words_at
from commprof.study.config import ScriptConfig, StudyConfig
from commprof.study.recorded import run_recorded

_STEPS = 8  # the first shows what is trained, and the next are slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One rank's step and what comes before its first, in seconds; what DDP sends per step."""

    step_s: float
    start_s: float
    gradient_bytes: int


def try_script(study: StudyConfig, script: ScriptConfig, logs: Path | None) -> Tried:
    """Take a few steps of a script on one rank; raise RunFailed, naming the reason, where that cannot be done.

    Its words stay in `logs`, where that is given.
    """
    with tempfile.TemporaryDirectory(prefix="commprof-trial-") as folder:
        run = Path(folder) / "run"
        words = ("record", "--folder", str(run), "--max-steps", str(_STEPS), "--", *words_at(script.command, 1))
        begin_s = time.monotonic()
        try:
            with _log(script, logs or Path(folder)).open("a") as log:
                run_recorded(
                    [str(console_script()), *words], run, 1, environ=rank_environment(study), log=log, show=lambda _: None
                )
        except RunFailed as error:
            kept = "" if logs is None else f" (its words are in {_log(script, logs)})"
            raise RunFailed(f"a step of {script.name} could not be tried: {error}{kept}") from None
        taken_s = time.monotonic() - begin_s
        steps = [step.step_s for step in read_records(run / "steps.rank00000.jsonl", StepMeasurement)]
        workload = read_info(run).workload
        assert workload is not None
        return Tried(step_s=median(steps[-3:]), start_s=max(0.0, taken_s - sum(steps)), gradient_bytes=workload.gradient_bytes)


def _log(script: ScriptConfig, folder: Path) -> Path:
    return folder / f"{script.name}-trial.log"
