"""How are a study's stages run, one after the other, here or on a testbed? What fails is set aside, the others go on."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from commprof.commbench.errors import CommprofError, Interrupted, RunFailed
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.progress import activity
from commprof.commbench.records.rundir import read_info
from commprof.commbench.records.training_kind import KIND_NAMES
from commprof.commbench.units import printable
from commprof.launch import console_script, launch, local_command
from commprof.study.backend import rank_environment
from commprof.study.config import StudyConfig
from commprof.study.files import is_measured, set_aside
from commprof.study.plan import CellPlan, ModelPlan, Plan, Stage, wire_of
from commprof.study.recorded import exchanged_as_ever, failure_of, run_recorded
from commprof.testbed import network as testbed

_TIMEOUT_S = 120.0  # for ranks to come up and to end, the verbs' own default


def run_stages(folder: Path, study: StudyConfig, plan: Plan) -> dict[str, str]:
    """Run the stages one after the other; a cell's predictions are on disk before the first run that checks them starts."""
    from commprof.analysis.study.predictions import write_boundaries
    from commprof.study.estimate import TimeLeft

    failures: dict[str, str] = {}
    numbers = {stage.name: number for number, stage in enumerate(plan.stages, 1)}
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    left = TimeLeft(study, logs)

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
            if study.is_grid and model.sharding is None:
                write_boundaries(folder, model.name)
            failures |= predict_cell(folder, study, model, cell)
            run(cell.checks)
    return failures


def predict_cell(folder: Path, study: StudyConfig, model: ModelPlan, cell: CellPlan) -> dict[str, str]:
    """Write a cell's predictions unless that has been done; return what could not be predicted and why."""
    from commprof.analysis.strategies.choose import Asked
    from commprof.analysis.study.predictions import write_predictions
    from commprof.analysis.study.sharded import write_sharded_predictions

    if (own := model.sharding) is None:
        return write_predictions(folder, model.name, cell.wire, grid=study.is_grid)
    profile = folder / model.profile.name
    work = read_info(profile).workload if is_measured(profile) else None
    if work is not None and work.kind == "ddp":  # on one rank a script may wrap nothing yet; what it wraps it wraps on N too
        reason = f"its profile is {KIND_NAMES[work.kind]}'s; name the strategy that it has, or leave that out"
        return {f"prediction of {model.name} as {own.strategy}": reason}
    asked = Asked(strategies=(own.strategy,), replicas=max(2, own.replicas), prefetch=own.prefetch)
    return write_sharded_predictions(
        folder, model.name, cell.wire, grid=study.is_grid, asked=asked, world_sizes=study.parallel_sizes
    )


@contextmanager
def hosts_of(study: StudyConfig) -> Iterator[None]:
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
    plural = "rank" if stage.world_size == 1 else "ranks"
    sys.stderr.write(f"{count} {stage.name}: {stage.argv[0]} on {stage.world_size} {plural}, {left} left\n")
    try:
        command = _command(study, stage, run)
        with log_path.open("a") as log, activity(stage.name) as show:
            if stage.argv[0] == "record":
                run_recorded(command, run, stage.world_size, environ=rank_environment(study), log=log, show=show)
            else:
                _launch(command, run, study, log, show)
    except Interrupted:
        raise
    except CommprofError as error:
        sys.stderr.write(f"{count} {stage.name} failed: {printable(f'{error} (its words are in {log_path})')}\n")
        set_aside(folder, run, str(error))
        return str(error)
    if stage.kind == "compute" and (sent := exchanged_as_ever(run)):
        sys.stderr.write(f"{count} {stage.name}: {sent}\n")
    return None


def _launch(command: Sequence[str], run: Path, study: StudyConfig, log: IO[str], show: Callable[[str], None]) -> None:
    """Run one of our own verbs; raise RunFailed with what ended it, and no word of its folder, which is set aside."""
    try:
        launch(command, run, environ=rank_environment(study), log=log, on_line=lambda line: show(line.strip()))
    except RunFailed as error:
        raise RunFailed(failure_of(run) or str(error)) from None


def _command(study: StudyConfig, stage: Stage, run: Path) -> list[str]:
    verb, *words = stage.argv
    argv = [verb, "--folder", str(run.absolute()), *words]
    on_hosts = study.launcher == "testbed" and stage.world_size > 1
    if on_hosts:
        testbed.set_wire(wire_of(stage))
    hosts = [str(console_script()), "testbed", "exec", "--hosts", str(stage.world_size), "--"] if on_hosts else []
    if verb == "record":  # one recorder, outside of whatever starts the ranks
        place = argv.index("--") + 1
        return [str(console_script()), *argv[:place], *hosts, *argv[place:]]
    return [*hosts, str(console_script()), *argv] if on_hosts else local_command(argv, stage.world_size, _TIMEOUT_S)
