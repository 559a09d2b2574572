"""A study's stages as SLURM jobs: one job a stage, each after the one before, a model's checks after its predictions.

    bench, contention -> MODEL: profile -> compute -> predict (a job of its own) -> checks

Jobs that ran side by side would disturb each other's wire. What fails does not hold up the rest: a job waits for the end of
the one before, but for its model's profile and predictions to be well. jobs.json keeps which job is which stage, so the same
command, given again, waits for those still in the queue and submits what is missing.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commprof.commbench.errors import BadInput, RunFailed
from commprof.commbench.progress import activity
from commprof.commbench.ranks.stopping import answering_later, raise_when_stopped
from commprof.commbench.records.rundir import RUN_FILE, read_document, read_info, write_document
from commprof.commbench.units import printable
from commprof.launch import console_script
from commprof.study.backend import rank_environment
from commprof.study.config import StudyConfig
from commprof.study.files import is_measured, set_aside
from commprof.study.plan import Plan, Stage
from commprof.study.recorded import exchanged_as_ever, missing_ranks

_JOBS_FILE = "jobs.json"
_POLL_S = 5.0
_COMMAND_TIMEOUT_S = 60.0
_VERB_SCRIPT = {"bench": "bench.sbatch", "contention": "bench.sbatch", "train": "train.sbatch", "record": "record.sbatch"}


@dataclass(slots=True)
class _Queue:
    """The jobs of one study: submitted now or by an earlier command."""

    folder: Path
    study: StudyConfig
    study_argv: tuple[str, ...]
    jobs: dict[str, str] = field(default_factory=dict)
    queued: frozenset[str] = frozenset()
    last: str | None = None

    def submit(self, name: str, words: Sequence[str], environ: Mapping[str, str], after_ok: Sequence[str] = ()) -> None:
        """Submit one job behind the last one, unless it is in the queue already."""
        if self.jobs.get(name) not in self.queued:
            log = self.folder / "logs" / f"{name}.log"
            log.parent.mkdir(exist_ok=True)
            conditions = [f"afterany:{self.last}"] if self.last else []
            conditions += [f"afterok:{self.jobs[job]}" for job in after_ok if self.jobs.get(job) in self.queued]
            waits = [f"--dependency={','.join(conditions)}", "--kill-on-invalid-dep=yes"] if conditions else []
            own = ["--parsable", f"--job-name=commprof-{name}", f"--output={log.absolute()}", "--open-mode=append", *waits]
            with answering_later():  # a job that is in the queue and not in the file would be submitted twice
                job = _run(["sbatch", *own, *self.study.slurm.options, *words], environ).partition(";")[0].strip()
                if not job.isdigit():
                    raise RunFailed(f"sbatch answered {printable(job)[:80]!r} where a job's number was expected")
                self.jobs[name], self.queued = job, self.queued | {job}
                write_document(self.folder / _JOBS_FILE, self.jobs)
        self.last = self.jobs[name]

    def submit_stage(self, stage: Stage, after_ok: Sequence[str] = ()) -> None:
        run = self.folder / stage.name
        if is_measured(run):
            return
        if self.jobs.get(stage.name) not in self.queued:
            set_aside(self.folder, run)
        per_node = min(stage.world_size, self.study.slurm.ranks_per_node)
        nodes = f"--nodes={-(-stage.world_size // per_node)}"
        verb, *argv = stage.argv
        environ = {"COMMPROF_RUN": str(run.absolute()), "COMMPROF_VERB": verb, "NPROC_PER_NODE": str(per_node)}
        environ |= rank_environment(self.study)
        self.submit(stage.name, [nodes, self._script(_VERB_SCRIPT[verb]), *argv], environ, after_ok)

    def submit_predictions(self, model: str) -> None:
        self.submit(f"{model}-predict", ["--nodes=1", self._script("study.sbatch"), *self.study_argv], {})

    def left(self) -> list[str]:
        """Return the study's jobs that were in the queue when it was last asked, or were submitted since."""
        return sorted(self.queued & set(self.jobs.values()), key=int)

    def _script(self, name: str) -> str:
        script = Path(self.study.slurm.scripts) / name
        if not script.is_file():
            raise BadInput(f"{script} is missing; let slurm.scripts name the folder that holds commprof's sbatch files")
        return str(script)


def run_jobs(folder: Path, study: StudyConfig, plan: Plan, study_argv: Sequence[str]) -> dict[str, str]:
    """Submit what is missing, wait until no job is left, and return which stages failed and why.

    `study_argv` are the words after `commprof study` that name this study and its folder. On SIGINT or SIGTERM the jobs stay
    in the queue, and the line that ends them is printed. Raises RunFailed where SLURM does not answer.
    """
    raise_when_stopped()
    queue = _Queue(folder=folder, study=study, study_argv=(*study_argv, "--only", "predict"), queued=_queued())
    if (folder / _JOBS_FILE).exists():
        queue.jobs = read_document(folder / _JOBS_FILE, dict[str, str])
    try:
        _submit_missing(queue, plan)
        _wait(queue)
    except BaseException:
        if left := queue.left():
            sys.stderr.write(f"the jobs stay in the queue; scancel {' '.join(left)} ends them\n")
        raise
    failures: dict[str, str] = {}
    for stage in plan.stages:
        if is_measured(run := folder / stage.name) and (reason := missing_ranks(run, stage.world_size)):
            set_aside(folder, run, reason)
            failures[stage.name] = reason
    _tell_what_sent(folder, plan)
    failures |= {s.name: _why(queue, s) for s in plan.stages if s.name not in failures and not is_measured(folder / s.name)}
    for model in plan.models:
        own = folder / "analysis" / model.name if study.is_grid else folder / "analysis"
        written = own / ("predictions.json" if model.sharding is None else "strategies.json")
        if model.profile.name not in failures and not written.exists():
            failures[f"prediction of {model.name}"] = f"its words are in {folder / 'logs' / f'{model.name}-predict.log'}"
    return failures


def _submit_missing(queue: _Queue, plan: Plan) -> None:
    for stage in plan.wires:
        queue.submit_stage(stage)
    for model in plan.models:
        profile = model.profile.name
        queue.submit_stage(model.profile)
        for cell in model.cells:
            for stage in cell.compute:
                queue.submit_stage(stage, [profile])
            if not all(is_measured(queue.folder / stage.name) for stage in cell.checks):
                queue.submit_predictions(model.name)
            for stage in cell.checks:
                queue.submit_stage(stage, [profile, f"{model.name}-predict"])


def _tell_what_sent(folder: Path, plan: Plan) -> None:
    """Say which of the runs that were to send nothing did all the same."""
    for stage in plan.stages:
        run = folder / stage.name
        if stage.kind == "compute" and is_measured(run) and (sent := exchanged_as_ever(run)):
            sys.stderr.write(f"{stage.name}: {sent}\n")


def _wait(queue: _Queue) -> None:
    """Wait, for as long as it takes, until none of the study's jobs is in the queue."""
    names = {job: name for name, job in queue.jobs.items()}
    with activity("waiting for SLURM") as show:
        while left := queue.left():
            running = [names[job] for job in left if _state(job) == "RUNNING"]
            show(f"{len(left)} jobs left; running: {', '.join(running) or 'none'}")
            time.sleep(_POLL_S)
            queue.queued = _queued()


def _why(queue: _Queue, stage: Stage) -> str:
    """Say why a stage has no completed run, and put what is left of it out of the analysis' way."""
    run, job = queue.folder / stage.name, queue.jobs.get(stage.name, "?")
    log = queue.folder / "logs" / f"{stage.name}.log"
    own = read_info(run).failure if (run / RUN_FILE).exists() else None
    reason = own or f"job {job} ended {_state(job) or 'and is forgotten by SLURM'}; its words are in {log}"
    set_aside(queue.folder, run, reason)
    return reason


def _queued() -> frozenset[str]:
    return frozenset(_run(["squeue", "--me", "--noheader", "--format=%i"], {}).split())


def _state(job: str) -> str | None:
    """Return a job's state as SLURM names it; None where SLURM has forgotten the job."""
    command = ["scontrol", "show", "job", job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    found = re.search(r"JobState=(\w+)", done.stdout)
    return found[1] if found else None


def _run(command: Sequence[str], environ: Mapping[str, str]) -> str:
    own = {"COMMPROF": str(console_script())} | dict(environ)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=True,
            env={**os.environ, **own},
            process_group=0,  # a terminal's Ctrl-C is not for sbatch, which may have submitted and not yet said what
        )
    except FileNotFoundError:
        raise BadInput(f"there is no {command[0]} here; launcher: slurm is for a machine that submits SLURM jobs") from None
    except subprocess.CalledProcessError as error:
        words = printable(" ".join(error.stderr.split())[:300])
        raise RunFailed(f"{command[0]} failed: {words}") from None
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{command[0]} did not answer within {_COMMAND_TIMEOUT_S:g} s") from None
    return done.stdout
