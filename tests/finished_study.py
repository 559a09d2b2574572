"""A small finished study: one rank and two, a bench, losses and accuracies, every time known."""

from pathlib import Path

from commprof.commbench.records.rundir import RecordWriter, create_run
from commprof.commbench.records.training import EvaluationMeasurement
from commprof.commbench.records.types import Workload
from tests.factory import run_info, step, timeline, workload, write_bench_run, write_training_run

SINGLE_S, PAIR_S = 0.1, 0.125  # so two ranks reach 1.6x
NUM_STEPS = 6  # the first one is warm-up and takes 10 s


def training(path: Path, world_size: int, step_s: float, *, work: Workload, **info: object) -> Path:
    steps = [step(i, step_s=step_s if i else 10.0, warmup=i == 0) for i in range(NUM_STEPS)]
    gradients = timeline([("head", 1_000_000, 0.02), ("embedding", 3_000_000, 0.06)], 0.06)
    return write_training_run(path, steps, world_size=world_size, gradients=gradients, **{"workload": work, **info})  # type: ignore[arg-type]


def add_evaluations(run: Path) -> None:
    """Record an accuracy of 50 % after the third step and of 75 % after the last one."""
    with RecordWriter(run / "evaluations.jsonl") as writer:
        for done, accuracy in ((3, 0.5), (NUM_STEPS, 0.75)):
            record = EvaluationMeasurement(step=done, epoch=1, loss=0.7, accuracy=accuracy, num_samples=100, elapsed_s=1.0)
            writer.append(record)


def finished_study(root: Path, *, dataset: str | None = "ag_news", experiment: str = "small", **info: object) -> Path:
    """Write the study; `info` changes every run's run.json."""
    work = workload(experiment=experiment, dataset=dataset)
    create_run(root, run_info("study", run_id=root.name))
    write_bench_run(root / "bench-n2", 1e-3, 1e9, **info)
    training(root / "profile-n1", 1, SINGLE_S, work=work, **info)
    add_evaluations(training(root / "train-n2", 2, PAIR_S, work=work, **info))
    return root
