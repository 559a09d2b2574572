"""`commprof study`: bench, profile, predict, run for real, report; at several world sizes, from one YAML file.

    profile-n1                         one rank, plain
    bench-nN, compute-nN  per N        the wire; the computation of N ranks side by side, nothing sent
    analysis/predictions.json          written before any of the runs that check it
    train-nN              per N        the synchronised runs
    analysis/report.html

A stage whose run is completed is not run again: started anew, an interrupted study goes on with what is missing. A stage that
ended otherwise is moved to incomplete/ and repeated.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from commbench import hardware
from commbench.errors import BadInput, CommprofError, Interrupted
from commbench.progress import activity
from commbench.records import SCHEMA_VERSION, RunInfo
from commbench.rundir import (
    RUN_FILE,
    create_run,
    finish_run,
    now_utc,
    read_info,
    reopen_run,
    write_document,
    write_text,
)
from commbench.units import parse_bytes
from commbench.verbs import Verb
from commprof.launch import launch
from train.config import check_train_config, dump_config, load_config, load_train_config
from train.data import prepare_data
from train.schedule import count_steps

_STUDY_FILE = "study.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSweep:
    """The sweep before each prediction; sizes as nccl-tests takes them (64M is 64 * 2^20 bytes)."""

    min_bytes: str = "8"
    max_bytes: str = "64M"
    iterations: int = 20
    warmup_iterations: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """`train` is a training configuration, relative to the study's file; `overrides` are key=value for all its runs.

    `threads_per_rank` is the same at every world size: ranks are compared, not thread counts.
    """

    name: str = "study"
    train: str = "small.yaml"
    overrides: tuple[str, ...] = ()
    world_sizes: tuple[int, ...] = (1, 2)
    threads_per_rank: int = 1
    launcher: str = "local"
    bench: BenchSweep = field(default_factory=BenchSweep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of the study: its folder's name, its ranks, and the verb that makes it."""

    name: str
    world_size: int
    argv: tuple[str, ...]


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="for example configs/study-demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example 'world_sizes=[1,2]'")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the study's folder goes (runs)")


def check_study(args: argparse.Namespace) -> None:
    """Raise BadInput for anything wrong with the study, its training configuration or its data."""
    load_study(args.study, args.overrides)


def load_study(path: Path, overrides: Sequence[str]) -> StudyConfig:
    """Read and check a study; the training configuration's path comes back absolute."""
    study = load_config(StudyConfig, path, overrides)
    if not study.name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"{path}: name {study.name!r} names a folder; use letters, digits, - and _")
    if 1 not in study.world_sizes or len(set(study.world_sizes)) < 2 or min(study.world_sizes) < 1:
        raise BadInput(f"{path}: world_sizes {list(study.world_sizes)} must hold 1 and at least one larger size")
    if study.launcher != "local":
        raise BadInput(f"{path}: launcher {study.launcher!r} is not known; use local")
    if study.threads_per_rank < 1:
        raise BadInput(f"{path}: threads_per_rank={study.threads_per_rank} must be 1 or more")
    if parse_bytes(study.bench.min_bytes) > parse_bytes(study.bench.max_bytes) or study.bench.iterations < 1:
        raise BadInput(f"{path}: bench needs min_bytes <= max_bytes and 1 or more iterations")
    study = replace(study, train=str((path.parent / study.train).resolve()))
    config = load_train_config(Path(study.train), study.overrides)
    check_train_config(config)
    training, _ = prepare_data(config.data, config.model)
    count_steps(len(training.labels), config, max(study.world_sizes))
    return study


def stages(study: StudyConfig) -> tuple[list[Stage], list[Stage]]:
    """Return what is measured before the prediction, and the runs that check it."""
    sizes = sorted(set(study.world_sizes) - {1})
    before = [_train_stage(study, "profile", 1, synchronise=True)]
    for world_size in sizes:
        sweep = study.bench
        flags = ("-b", sweep.min_bytes, "-e", sweep.max_bytes, "-n", str(sweep.iterations))
        argv = ("bench", *flags, "-w", str(sweep.warmup_iterations))
        before.append(Stage(name=f"bench-n{world_size}", world_size=world_size, argv=argv))
        before.append(_train_stage(study, "compute", world_size, synchronise=False))
    return before, [_train_stage(study, "train", world_size, synchronise=True) for world_size in sizes]


def study_verb(args: argparse.Namespace) -> int:
    """Run or continue the study, then print the verdict and the report's path."""
    study = load_study(args.study, args.overrides)
    folder = args.out / study.name
    _open_study(folder, study)
    try:
        run_study(folder, study)
    except (KeyboardInterrupt, Interrupted) as error:
        finish_run(folder, "interrupted", str(error) or "stopped by SIGINT")
        sys.stderr.write(f"interrupted; the same command goes on where it stopped (in {folder})\n")
        raise
    except CommprofError as error:
        finish_run(folder, "failed", str(error))
        raise
    finish_run(folder, "completed")
    sys.stdout.write(_report(folder) + "\n")
    return 0


def run_study(folder: Path, study: StudyConfig) -> None:
    """Do what is missing, in order: the prediction is on disk before the first run that checks it starts."""
    from analysis.load import load_runs
    from analysis.predict import predict

    before, checking = stages(study)
    total = len(before) + len(checking)
    for number, stage in enumerate(before, 1):
        _run_stage(folder, stage, f"[{number}/{total}]")
    predictions = folder / "analysis" / "predictions.json"
    if not predictions.exists():
        write_document(predictions, predict(load_runs([folder])))
    for number, stage in enumerate(checking, len(before) + 1):
        _run_stage(folder, stage, f"[{number}/{total}]")


def _train_stage(study: StudyConfig, name: str, world_size: int, *, synchronise: bool) -> Stage:
    own = (f"distributed.threads_per_rank={study.threads_per_rank}", f"distributed.synchronise={synchronise}")
    argv = ("train", study.train, *study.overrides, *own)
    return Stage(name=f"{name}-n{world_size}", world_size=world_size, argv=argv)


def _open_study(folder: Path, study: StudyConfig) -> None:
    text = dump_config(study)
    if not (folder / RUN_FILE).exists():
        create_run(folder, _study_info(folder.name, max(study.world_sizes)))
        write_text(folder / _STUDY_FILE, text)
        return
    written = folder / _STUDY_FILE
    if read_info(folder).kind != "study" or not written.exists() or written.read_text() != text:
        raise BadInput(f"{folder} holds another study (see {written}); give this one its own name, or another --out")
    reopen_run(folder)


def _study_info(run_id: str, world_size: int) -> RunInfo:
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind="study",
        status="running",
        started_at=now_utc(),
        command=tuple(sys.argv),
        git_commit=hardware.git_commit(Path.cwd()),
        backend="auto",
        world_size=world_size,
        num_nodes=1,
        launcher="local",
        cores_per_node=hardware.usable_cores(),
        threads_per_rank=1,
        ranks=(),
        software=hardware.software_info(),
        environ=hardware.allowed_environment(os.environ),
    )


def _run_stage(folder: Path, stage: Stage, count: str) -> None:
    run = folder / stage.name
    if (run / RUN_FILE).exists() and read_info(run).status == "completed":
        sys.stderr.write(f"{count} {stage.name}: already measured\n")
        return
    _set_aside(folder, run)
    log_path = folder / "logs" / f"{stage.name}.log"
    log_path.parent.mkdir(exist_ok=True)
    plural = "rank" if stage.world_size == 1 else "ranks"
    sys.stderr.write(f"{count} {stage.name}: {stage.argv[0]} on {stage.world_size} {plural}\n")
    with log_path.open("a") as log, activity(stage.name) as show:
        argv = [*stage.argv, "--folder", str(run)]
        launch(argv, stage.world_size, run, log=log, on_line=lambda line: show(line.strip()))


def _set_aside(folder: Path, run: Path) -> None:
    """Keep what an earlier try measured, where no analysis will take it for a whole run."""
    if not run.exists():
        return
    aside = folder / "incomplete"
    aside.mkdir(exist_ok=True)
    number = sum(1 for _ in aside.glob(f"{run.name}-*"))
    run.rename(aside / f"{run.name}-{number + 1}")


def _report(folder: Path) -> str:
    """Write the report and return the words that close the study: its verdict, and where the report lies."""
    from analysis.load import load_runs
    from analysis.report import write_report
    from analysis.results import PredictionSet
    from analysis.verdict import outcomes, verdict
    from commbench.rundir import read_document

    runs = load_runs([folder])
    predicted = read_document(folder / "analysis" / "predictions.json", PredictionSet)
    sentences = verdict(predicted, outcomes(predicted, runs), runs)
    return "\n".join([*sentences, "", f"report: {write_report([folder], None)}"])


STUDY = Verb(
    summary="bench, profile, predict, run for real and report, at several world sizes",
    examples=("commprof study configs/study-demo.yaml", "commprof study configs/study-demo.yaml 'world_sizes=[1,2]'"),
    add_arguments=add_study_arguments,
    check=check_study,
    run=study_verb,
)
