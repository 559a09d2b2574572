"""A study whose every time is worked out: a model, a wire, and runs that play DDP's schedule with a little noise.

For example reports that look the same on every machine, and for looking at pages. The runs are written as commprof writes its
own, the prediction before the runs that check it; they differ from it as real runs do, by their pace and by their wire's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from commprof.analysis.step.ddp import assign_buckets, simulate
from commprof.analysis.study.predictions import write_predictions
from commprof.commbench.records.rundir import RecordWriter, create_run, write_document
from commprof.commbench.records.training import BucketTiming, GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import (
    SCHEMA_VERSION,
    CollectiveMeasurement,
    RankInfo,
    RunInfo,
    RunKind,
    SoftwareInfo,
    Workload,
)

STEPS, SAMPLES = 60, 20
_WARM_UP = 5
_CAPS = (2**20, 25 * 2**20)
_BEFORE, _AFTER = "2026-01-01T10:00:00.000+00:00", "2099-01-01T12:00:00.000+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the runs are made of. `layers` gradients of equal size; a step of one rank takes `step_s`, 60 % of it backward.

    An all-reduce of S bytes on N ranks takes latency_s (N-1) + 2(N-1)/N S / bandwidth_bytes_per_s.
    """

    experiment: str
    num_parameters: int
    layers: int
    step_s: float
    latency_s: float
    bandwidth_bytes_per_s: float
    device: str

    def transfer_s(self, num_bytes: float, ranks: int) -> float:
        return self.latency_s * (ranks - 1) + 2 * (ranks - 1) / ranks * num_bytes / self.bandwidth_bytes_per_s


def write_study(root: Path, machine: Machine, ranks: Sequence[int]) -> Path:
    """Write a profile, then for each number of ranks a bench, a compute-only run, the prediction and the run that checks it."""
    rng = np.random.default_rng(0)
    create_run(root, _info(machine, "study", max(ranks), root.name))
    _add_training(root / "profile-n1", machine, 1, rng)
    for n in ranks:
        _add_bench(root / f"bench-n{n}", machine, n, rng)
        _add_training(root / f"compute-n{n}", machine, n, rng, synchronised=False)
    write_predictions(root, machine.experiment, None, grid=False)
    for n in ranks:
        _add_training(root / f"train-n{n}", machine, n, rng)
    return root


def _info(machine: Machine, kind: RunKind, ranks: int, run_id: str, workload: Workload | None = None) -> RunInfo:
    checks = workload is not None and workload.synchronised and ranks > 1
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind=kind,
        status="completed",
        started_at=_AFTER if checks else _BEFORE,
        ended_at=_AFTER if checks else _BEFORE,
        command=("commprof", "study", f"{machine.experiment}.yaml") if kind == "study" else ("commprof", kind),
        backend="gloo",
        world_size=ranks,
        num_nodes=ranks,
        launcher="torchrun",
        cores_per_node=16,
        threads_per_rank=1,
        ranks=tuple(RankInfo(rank=r, local_rank=0, hostname=f"host{r}", device_name=machine.device) for r in range(ranks)),
        software=SoftwareInfo(python="3.11", torch="2.13"),
        environ={},
        workload=workload,
    )


def _add_bench(path: Path, machine: Machine, ranks: int, rng: np.random.Generator) -> None:
    times = {2**k: machine.transfer_s(2**k, ranks) * rng.lognormal(0, 0.04, SAMPLES) for k in range(8, 27)}
    write_bench(path, _info(machine, "bench", ranks, path.name), times, apart=1.04)


def write_bench(path: Path, info: RunInfo, times: Mapping[int, NDArray[np.float64]], *, apart: float) -> None:
    """Write a bench of float32 all-reduces: samples in seconds by size in bytes, of the fastest rank; the slowest takes `apart`
    times as long."""
    create_run(path, info)
    with RecordWriter(path / "collectives.jsonl") as writer:
        for size, fastest_s in times.items():
            writer.append(
                CollectiveMeasurement(
                    op="all_reduce",
                    dtype="float32",
                    message_bytes=size,
                    world_size=info.world_size,
                    mode="isolated",
                    in_place=True,
                    warmup_iterations=5,
                    slowest_rank_s=tuple((fastest_s * apart).tolist()),
                    fastest_rank_s=tuple(fastest_s.tolist()),
                    timer="made up",
                    num_wrong=0,
                )
            )


def _add_training(path: Path, machine: Machine, ranks: int, rng: np.random.Generator, *, synchronised: bool = True) -> None:
    sends = synchronised and ranks > 1
    pace = 1 + 0.01 * (ranks > 1) + 0.004 * sends
    backward_s = 0.6 * machine.step_s * pace
    gradients = _gradients(machine, ranks if sends else 1, backward_s)
    create_run(path, _info(machine, "train", ranks, path.name, _workload(machine, synchronised=synchronised)))
    for rank in range(ranks):
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for step, factor in enumerate(rng.lognormal(0, 0.015, STEPS + _WARM_UP).tolist()):
                writer.append(_step(step, factor * pace * machine.step_s, gradients.backward_s * factor, sends=sends))
    write_document(path / "gradients.json", gradients)


def _workload(machine: Machine, *, synchronised: bool) -> Workload:
    return Workload(
        experiment=machine.experiment,
        num_parameters=machine.num_parameters,
        gradient_bytes=4 * machine.num_parameters,
        samples_per_rank=32,
        sequence_length=128,
        first_bucket_bytes=_CAPS[0],
        bucket_cap_bytes=_CAPS[1],
        synchronised=synchronised,
    )


def _step(step: int, compute_s: float, backward_s: float, *, sends: bool) -> StepMeasurement:
    apart = {"data_s": 0.02 * compute_s, "forward_s": 0.3 * compute_s, "optimizer_s": 0.075 * compute_s}
    between_s = 0.005 * compute_s
    return StepMeasurement(
        step=step,
        **apart,
        backward_s=backward_s,
        step_s=sum(apart.values()) + between_s + backward_s,
        num_samples=32,
        loss=0.5 + 0.9 / (1 + 0.05 * step),
        warmup=step < _WARM_UP,
        profiled=False,
        synchronised=sends,
    )


def _gradients(machine: Machine, ranks: int, backward_s: float) -> GradientTimeline:
    """Return when each gradient is ready, and where several ranks send, DDP's buckets as they were played."""
    size = 4 * machine.num_parameters // machine.layers
    ready = tuple(
        ParameterTiming(
            name=f"layers.{machine.layers - 1 - i}.weight", num_bytes=size, ready_s=backward_s * (i + 1) / machine.layers
        )
        for i in range(machine.layers)
    )
    alone = GradientTimeline(rank=0, num_steps=STEPS, backward_s=backward_s, parameters=ready, buckets=())
    if ranks == 1:
        return alone
    planned = assign_buckets(ready, *_CAPS)
    played = simulate(
        np.array([[bucket.ready_s for bucket in planned]]),
        np.array([backward_s]),
        np.array([[1.03 * machine.transfer_s(bucket.num_bytes, ranks) for bucket in planned]]),
        workers=2,
    )
    return replace(
        alone,
        backward_s=float(played.end_s[0]),
        buckets=tuple(
            BucketTiming(
                index=i,
                num_bytes=bucket.num_bytes,
                ready_s=bucket.ready_s,
                launched_s=float(played.start_s[0, i]),
                done_s=float(played.done_s[0, i]),
            )
            for i, bucket in enumerate(planned)
        ),
    )
