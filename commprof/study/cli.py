"""`commprof study`: bench, contention, profile, compute-only, predict, run for real, report; from one YAML file.

    bench-nN-WIRE, contention-nN-WIRE            the wire
    MODEL-profile-n1, MODEL-compute-nN-WIRE      the computation: one rank, and N side by side with nothing sent
    analysis/boundaries.json                     where a model begins to pay: written before any of its checks
    analysis/MODEL-WIRE/predictions.json         written before any of the runs that check it
    MODEL-train-nN-WIRE[-rK]                     the synchronised runs
    analysis/study.csv, analysis/report.html

A stage whose run is completed is not run again: started anew, an interrupted study goes on with what is missing. A stage that
ends otherwise is moved to incomplete/, the study goes on with the others, says at the end which failed and why, and tries
them again next time.
"""

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed
from commprof.commbench.machine import hardware
from commprof.commbench.progress import activity
from commprof.commbench.records.ownership import Ownership, own_mark
from commprof.commbench.records.rundir import RUN_FILE, create_owned_run, finish_run, now_utc, read_info, reopen_run
from commprof.commbench.records.types import SCHEMA_VERSION, RunInfo
from commprof.commbench.units import printable
from commprof.commbench.verb import Verb
from commprof.launch import console_script, launch, local_command
from commprof.study.backend import gpus_in_words, with_backend
from commprof.study.files import is_measured, set_aside
from commprof.study.identity import check_identity, write_identity
from commprof.study.plan import Plan, Stage, StudyConfig, load_study, make_plan, wire_of
from commprof.testbed import network as testbed
from commprof.testbed.wire import parse_wire

_WIDTH = 80
_TIMEOUT_S = 120.0  # for ranks to come up and to end, the verbs' own default


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY.yaml", help="for example configs/study-demo.yaml")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="for example 'world_sizes=[1,2]'")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the study's folder goes (runs)")
    add("--dry-run", action="store_true", help="print the stages and about how long each will take; run nothing")
    add("--only", choices=("predict", "report"), help="run nothing: predict, or report, from what has been measured")


def check_study(args: argparse.Namespace) -> None:
    """Raise BadInput for anything wrong with the study, its training configurations, their data or its launcher."""
    study = _settled(load_study(args.study, args.overrides))
    if study.launcher == "testbed" and not args.dry_run:
        testbed.check_usable()


def study_verb(args: argparse.Namespace) -> int:
    """Run or continue the study, then print the verdict and the report's path; raise RunFailed where a stage failed."""
    asked = load_study(args.study, args.overrides)
    study = _settled(asked)
    if study.backend != asked.backend:
        why = f"{gpus_in_words(hardware.gpus_for_nccl(os.environ))} for {max(study.world_sizes)} ranks"
        sys.stderr.write(f"{why}: every rank of this study computes on the processor, over gloo\n")
    folder, plan = args.out / study.name, make_plan(study)
    if args.dry_run:
        from commprof.study.estimate import plan_table

        sys.stdout.write(plan_table(study, plan, folder) + "\n")
        return 0
    if args.only is not None:
        _derive(folder, study, plan, args.only)
        return 0
    owned = _open_study(folder, study, args.study)
    try:
        return _run_study(folder, study, plan, args)
    finally:
        owned.release()


def _run_study(folder: Path, study: StudyConfig, plan: Plan, args: argparse.Namespace) -> int:
    try:
        failures = _run_all(folder, study, plan, args)
        words = _conclude(folder)
    except (KeyboardInterrupt, Interrupted) as error:
        finish_run(folder, "interrupted", str(error) or "stopped by SIGINT")
        sys.stderr.write(f"interrupted; the same command goes on where it stopped (in {printable(str(folder))})\n")
        raise
    except CommprofError as error:
        finish_run(folder, "failed", str(error))
        raise
    sys.stdout.write(words + "\n")
    if failures:
        summary = f"{len(failures)} of {len(plan.stages)} stages failed; the same command tries them again"
        finish_run(folder, "failed", summary)
        sys.stderr.writelines(f"failed: {name}: {printable(reason)}\n" for name, reason in failures.items())
        raise RunFailed(summary)
    finish_run(folder, "completed")
    return 0


def _settled(study: StudyConfig) -> StudyConfig:
    """Settle the backend by the GPUs that are here, where that matters."""
    return study if study.backend == "gloo" else with_backend(study, hardware.gpus_for_nccl(os.environ))


def _run_all(folder: Path, study: StudyConfig, plan: Plan, args: argparse.Namespace) -> dict[str, str]:
    """Do what is missing; return which stages failed and why."""
    if study.launcher == "slurm":
        from commprof.study.slurm import run_jobs

        argv = (str(args.study.absolute()), *args.overrides, "--out", str(args.out.absolute()))
        return run_jobs(folder, study, plan, argv)
    with _hosts(study):
        return run_stages(folder, study, plan)


def run_stages(folder: Path, study: StudyConfig, plan: Plan) -> dict[str, str]:
    """Run the stages one after the other; a cell's predictions are on disk before the first run that checks them starts."""
    from commprof.analysis.study.predictions import write_boundaries, write_predictions
    from commprof.study.estimate import TimeLeft

    failures: dict[str, str] = {}
    numbers = {stage.name: number for number, stage in enumerate(plan.stages, 1)}
    left = TimeLeft(study)

    def run(stages: Iterable[Stage]) -> None:
        for stage in stages:
            count = f"[{numbers[stage.name]}/{len(numbers)}]"
            if is_measured(folder / stage.name):
                sys.stderr.write(f"{count} {stage.name}: already measured\n")
                continue
            ahead = [own for own in plan.stages[numbers[stage.name] - 1 :] if not is_measured(folder / own.name)]
            begin_s = time.monotonic()
            failure = _run_stage(folder, study, stage, count, left.words(ahead))
            if failure:
                failures[stage.name] = failure
            else:
                left.note(stage, time.monotonic() - begin_s)

    run(plan.wires)
    for model in plan.models:
        run([model.profile])
        if model.profile.name in failures:
            failures |= {stage.name: f"it needs {model.profile.name}" for stage in model.stages[1:]}
            continue
        for cell in model.cells:
            run(cell.compute)
            if study.is_grid:
                write_boundaries(folder, model.name)
            failures |= write_predictions(folder, model.name, cell.wire, grid=study.is_grid)
            run(cell.checks)
    return failures


@contextmanager
def _hosts(study: StudyConfig) -> Iterator[None]:
    """Have the testbed for as long as the study runs, where it needs one."""
    if study.launcher != "testbed":
        yield
        return
    (wire, *_) = study.wires
    with testbed.testbed(max(study.world_sizes), parse_wire(wire)):
        yield


def _run_stage(folder: Path, study: StudyConfig, stage: Stage, count: str, left: str) -> str | None:
    """Run a stage; return why it failed, None when all is well. `left` is the time that it and those after it take."""
    run = folder / stage.name
    set_aside(folder, run)
    log_path = folder / "logs" / f"{stage.name}.log"
    log_path.parent.mkdir(exist_ok=True)
    plural = "rank" if stage.world_size == 1 else "ranks"
    sys.stderr.write(f"{count} {stage.name}: {stage.argv[0]} on {stage.world_size} {plural}, {left} left\n")
    try:
        command = _command(study, stage, run)
        with log_path.open("a") as log, activity(stage.name) as show:
            threads = {"OMP_NUM_THREADS": str(study.threads_per_rank)}
            launch(command, run, environ=threads, log=log, on_line=lambda line: show(line.strip()))
    except Interrupted:
        raise
    except CommprofError as error:
        sys.stderr.write(f"{count} {stage.name} failed: {printable(f'{error} (its words are in {log_path})')}\n")
        set_aside(folder, run, str(error))
        return str(error)
    return None


def _command(study: StudyConfig, stage: Stage, run: Path) -> list[str]:
    argv = [*stage.argv, "--folder", str(run.absolute())]
    if study.launcher != "testbed" or stage.world_size == 1:
        return local_command(argv, stage.world_size, _TIMEOUT_S)
    testbed.set_wire(wire_of(stage))
    script = str(console_script())
    return [script, "testbed", "exec", "--hosts", str(stage.world_size), "--", script, *argv]


def _derive(folder: Path, study: StudyConfig, plan: Plan, what: str) -> None:
    """Write the predictions, or the table and the report, of what has been measured so far."""
    from commprof.analysis.study.predictions import write_predictions

    if not (folder / RUN_FILE).exists():
        raise BadInput(f"{folder} holds no study yet; run it first")
    if what == "predict":
        for name, wire in ((model.name, cell.wire) for model in plan.models for cell in model.cells):
            for what, reason in write_predictions(folder, name, wire, grid=study.is_grid).items():
                sys.stderr.write(f"{what}: {printable(reason)}\n")
    else:
        sys.stdout.write(_conclude(folder) + "\n")


def _conclude(folder: Path) -> str:
    """Write study.csv and the report; return the words that close the study."""
    from commprof.analysis.report.study.pages import write_study_report

    sentences, report = write_study_report(folder)
    return "\n".join([*(textwrap.fill(sentence, _WIDTH) for sentence in sentences), "", printable(f"report: {report}")])


def _open_study(folder: Path, study: StudyConfig, source: Path) -> Ownership:
    """Make the study's folder, or go on in it where it holds this very study; raise BadInput where it holds another.

    It is this command's then; a second one that wants the same study is refused.
    """
    if not (folder / RUN_FILE).exists():
        owned = create_owned_run(folder, _study_info(folder.name, study), own_mark())
        write_identity(folder, study, source)
        return owned
    if read_info(folder).kind != "study":
        raise BadInput(f"{folder} is a run, not a study; give the study another name, or another --out")
    check_identity(folder, study, source)
    return reopen_run(folder, own_mark())


def _study_info(run_id: str, study: StudyConfig) -> RunInfo:
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind="study",
        status="running",
        started_at=now_utc(),
        command=tuple(sys.argv),
        git_commit=hardware.git_commit(Path.cwd()),
        backend=study.backend,
        world_size=max(study.world_sizes),
        num_nodes=max(study.world_sizes) if study.launcher == "testbed" else 1,
        launcher=study.launcher,
        cores_per_node=hardware.usable_cores(),
        threads_per_rank=study.threads_per_rank,
        ranks=(),
        software=hardware.software_info(),
        environ=hardware.allowed_environment(os.environ),
        num_machines=1 if study.launcher != "slurm" else None,
    )


VERB = Verb(
    summary="bench, profile, predict, run for real and report: models, world sizes and wires from one file",
    examples=(
        "commprof study configs/study-demo.yaml",
        "commprof study configs/study-demo.yaml 'world_sizes=[1,2]' --dry-run",
        "commprof study configs/study-testbed.yaml  # 4 hosts, three wires (root)",
    ),
    add_arguments=add_study_arguments,
    check=check_study,
    run=study_verb,
)
