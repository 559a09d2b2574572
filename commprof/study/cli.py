"""`commprof study`: bench, contention, profile, compute-only, predict, run for real, report; of one YAML file, or of a script.

    bench-nN-WIRE, contention-nN-WIRE            the wire
    MODEL-profile-n1, MODEL-compute-nN-WIRE      the computation: one rank, and N side by side with nothing sent
    analysis/boundaries.json                     where a model begins to pay: written before any of its checks
    analysis/MODEL-WIRE/predictions.json         (of a sharded model strategies.json) written before its checks
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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from commprof.commbench.errors import BadInput, CommprofError, Interrupted, RunFailed
from commprof.commbench.machine import hardware
from commprof.commbench.records.ownership import Ownership, own_mark
from commprof.commbench.records.rundir import RUN_FILE, create_owned_run, finish_run, now_utc, read_info, reopen_run
from commprof.commbench.records.types import SCHEMA_VERSION, RunInfo
from commprof.commbench.units import printable
from commprof.commbench.verb import Verb
from commprof.study.backend import gpus_in_words, with_backend
from commprof.study.config import ScriptConfig, StudyConfig, load_study, script_study, shardings_of
from commprof.study.identity import check_identity, write_identity
from commprof.study.plan import Plan, make_plan
from commprof.study.sharding import SCRIPT_STRATEGIES
from commprof.study.stages import hosts_of, predict_cell, run_stages
from commprof.testbed import network as testbed

_WIDTH = 80


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("study", type=Path, nargs="?", metavar="STUDY.yaml", help="for example configs/study-demo.yaml")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="keys of the file, for example bench.seconds=10")
    add("--world-sizes", type=int, nargs="+", metavar="N", help="1 and the numbers of ranks to try (1 2, or the file's)")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="where the study's folder goes (runs)")
    add("--dry-run", action="store_true", help="print the stages and about how long each will take; no stage is run")
    add("--only", choices=("predict", "report"), help="run nothing: predict, or report, from what has been measured")
    add = parser.add_argument_group("in place of a file, a training that nobody changed").add_argument
    add("--script", metavar="COMMAND", help="'python train.py --lr 1e-3', or any command with {n} for the number of ranks")
    add("--max-steps", type=int, metavar="N", help=f"of each of its runs ({ScriptConfig().max_steps})")
    shards = "it calls fully_shard, or wraps its model in FullyShardedDataParallel"
    add("--strategy", choices=SCRIPT_STRATEGIES, help=f"how its ranks share the work (ddp); fsdp, hsdp and zero2: {shards}")
    add("--replicas", type=int, metavar="R", help=f"copies of the shards that it makes as hsdp ({ScriptConfig().replicas})")


def check_study(args: argparse.Namespace) -> None:
    """Raise BadInput for anything wrong with the study, its training configurations, their data or its launcher."""
    study = _settled(_asked(args))
    if study.launcher == "testbed" and not args.dry_run:
        testbed.check_usable()


def _asked(args: argparse.Namespace) -> StudyConfig:
    """Return the study of the file, or of the script; raise BadInput for both or neither."""
    if args.script is None:
        if args.study is None or any(own is not None for own in (args.max_steps, args.strategy, args.replicas)):
            raise BadInput("name a study's file, or give a training's command: commprof study --script 'python train.py'")
        return load_study(args.study, _overrides(args))
    words = [*([] if args.study is None else [str(args.study)]), *_overrides(args)]
    if file := next((word for word in words if "=" not in word), None):
        raise BadInput(f"{file} and --script are two studies; give one of them, or name the script in the file: scripts")
    if args.replicas is not None and args.strategy != "hsdp":
        raise BadInput(f"--replicas {args.replicas} is hsdp's; add --strategy hsdp or leave it out")
    told = {name: getattr(args, name) for name in ("max_steps", "strategy", "replicas")}
    script = replace(ScriptConfig(command=args.script), **{name: own for name, own in told.items() if own is not None})
    return script_study(script, words)


def _overrides(args: argparse.Namespace) -> list[str]:
    sizes = [] if args.world_sizes is None else [f"world_sizes={args.world_sizes}"]
    return [*args.overrides, *sizes]


def study_verb(args: argparse.Namespace) -> int:
    """Run or continue the study, then print the verdict and the report's path; raise RunFailed where a stage failed."""
    asked = _asked(args)
    study = _settled(asked)
    if study.backend != asked.backend:
        why = f"{gpus_in_words(hardware.gpus_for_nccl(os.environ))} for {max(study.world_sizes)} ranks"
        sys.stderr.write(f"{why}: every rank of this study computes on the processor, over gloo\n")
    folder, plan = args.out / study.name, make_plan(study, shardings_of(study))
    if args.dry_run:
        from commprof.study.estimate import plan_table

        sys.stdout.write(plan_table(study, plan, folder) + "\n")
        return 0
    if args.only is not None:
        _derive(folder, study, plan, args.only)
        return 0
    owned = _open_study(folder, study, args.study or Path())
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
        summary = _failed_in_words(list(failures), len(plan.stages))
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

        return run_jobs(folder, study, plan, (*_study_argv(args), "--out", str(args.out.absolute())))
    with hosts_of(study):
        return run_stages(folder, study, plan)


def _failed_in_words(failures: Sequence[str], num_stages: int) -> str:
    """Say how many stages failed and what tries them again. A prediction alone fails again on what was measured, and one that
    was made without contention is kept."""
    if all(name.startswith("prediction of ") for name in failures):
        return "all was measured, and not all predicted, for the reasons above; to measure again takes another folder: --out"
    words = f"{len(failures)} of {num_stages} stages failed; the same command tries them again"
    if any(name.startswith("contention-") for name in failures):
        words += "; predictions were made without contention and are kept, to have it in them takes another folder: --out"
    return words


def _study_argv(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the words that name this study to another `commprof study`, in a job that stands in the same folder."""
    if args.script is None:
        return (str(args.study.absolute()), *_overrides(args))
    options = {"--max-steps": args.max_steps, "--strategy": args.strategy, "--replicas": args.replicas}
    told = [word for name, own in options.items() if own is not None for word in (name, str(own))]
    words = () if args.study is None else (str(args.study),)  # with a script, the first override
    return (*words, *_overrides(args), "--script", args.script, *told)


def _derive(folder: Path, study: StudyConfig, plan: Plan, what: str) -> None:
    """Write the predictions, or the table and the report, of what has been measured so far."""
    if not (folder / RUN_FILE).exists():
        raise BadInput(f"{folder} holds no study yet; run it first")
    if what == "predict":
        for model, cell in ((own, cell) for own in plan.models for cell in own.cells):
            for what, reason in predict_cell(folder, study, model, cell).items():
                sys.stderr.write(f"{what}: {printable(reason)}\n")
    else:
        sys.stdout.write(_conclude(folder) + "\n")


def _conclude(folder: Path) -> str:
    """Write study.csv and the report; return the words that close the study."""
    from commprof.analysis.report.study.pages import write_study_report

    sentences, report = write_study_report(folder)
    return "\n".join(
        [
            *(textwrap.fill(sentence, _WIDTH, subsequent_indent="  ", break_on_hyphens=False) for sentence in sentences),
            "",
            printable(f"report: {report}"),
        ]
    )


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
    summary="bench, profile, predict, run for real and report: of a file, or of a script of yours",
    examples=(
        "commprof study configs/study-demo.yaml",
        "commprof study configs/study-demo.yaml 'world_sizes=[1,2]' --dry-run",
        "commprof study configs/study-testbed.yaml  # 4 hosts, three wires (root)",
        "commprof study --script 'python train.py --lr 1e-3' --world-sizes 1 2 4",
        "commprof study --script 'torchrun --nproc-per-node {n} train.py' repeats=2",
    ),
    add_arguments=add_study_arguments,
    check=check_study,
    run=study_verb,
)
