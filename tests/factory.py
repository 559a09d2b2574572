"""Small records and run folders for tests; every value that matters to a test is an argument."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import LinkMeasurement
from commprof.commbench.records.rundir import RecordWriter, create_run, read_records, write_document
from commprof.commbench.records.training import GradientTimeline, ParameterTiming, StepMeasurement
from commprof.commbench.records.types import (
    SCHEMA_VERSION,
    CollectiveMeasurement,
    RankInfo,
    RunInfo,
    RunKind,
    RunStatus,
    SoftwareInfo,
    Workload,
)

MIB = 2**20


def run_info(
    kind: RunKind = "bench",
    *,
    world_size: int = 2,
    status: RunStatus = "completed",
    backend: str = "gloo",
    workload: Workload | None = None,
    cores: int = 8,
    threads: int = 1,
    run_id: str = "run",
    hostname: str = "host",
    started_at: str = "2026-01-01T00:00:00+00:00",
    **fields: object,
) -> RunInfo:
    info = RunInfo(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        kind=kind,
        status=status,
        started_at=started_at,
        command=("commprof", kind),
        backend=backend,
        world_size=world_size,
        num_nodes=1,
        launcher="torchrun",
        cores_per_node=cores,
        threads_per_rank=threads,
        ranks=tuple(RankInfo(rank=r, local_rank=r, hostname=hostname, device_name="cpu") for r in range(world_size)),
        software=SoftwareInfo(python="3.11", torch="2.13"),
        environ={},
        workload=workload,
    )
    return replace(info, **fields)  # type: ignore[arg-type]


def workload(*, synchronised: bool = True, experiment: str = "small", samples_per_rank: int = 32, **fields: object) -> Workload:
    plain = Workload(
        experiment=experiment,
        num_parameters=1_000_000,
        gradient_bytes=4_000_000,
        samples_per_rank=samples_per_rank,
        sequence_length=128,
        first_bucket_bytes=MIB,
        bucket_cap_bytes=25 * MIB,
        synchronised=synchronised,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def step(
    index: int,
    *,
    forward_s: float = 0.04,
    backward_s: float = 0.06,
    step_s: float | None = None,
    warmup: bool = False,
    profiled: bool = False,
) -> StepMeasurement:
    return StepMeasurement(
        step=index,
        data_s=0.001,
        forward_s=forward_s,
        backward_s=backward_s,
        optimizer_s=0.002,
        step_s=step_s if step_s is not None else 0.003 + forward_s + backward_s,
        num_samples=32,
        loss=1.0,
        warmup=warmup,
        profiled=profiled,
        synchronised=True,
    )


def collective(
    message_bytes: int,
    seconds: Sequence[float],
    *,
    world_size: int = 2,
    in_place: bool = True,
    num_wrong: int | None = 0,
    cpu_s: float | None = None,
    op: str = "all_reduce",
    **fields: object,
) -> CollectiveMeasurement:
    measurement = CollectiveMeasurement(
        op=op,
        dtype="float32",
        message_bytes=message_bytes,
        world_size=world_size,
        mode="isolated",
        in_place=in_place,
        warmup_iterations=5,
        slowest_rank_s=tuple(seconds),
        fastest_rank_s=tuple(seconds),
        timer="fake",
        num_wrong=num_wrong,
        cpu_s=cpu_s,
    )
    return replace(measurement, **fields)  # type: ignore[arg-type]


def timeline(ready: Sequence[tuple[str, int, float]], backward_s: float) -> GradientTimeline:
    """Parameters as (name, bytes, ready_s), in the order they become ready."""
    return GradientTimeline(
        rank=0,
        num_steps=10,
        backward_s=backward_s,
        parameters=tuple(ParameterTiming(name=name, num_bytes=size, ready_s=at) for name, size, at in ready),
        buckets=(),
    )


def write_training_run(
    path: Path,
    steps: Sequence[StepMeasurement],
    *,
    world_size: int = 1,
    synchronised: bool = True,
    gradients: GradientTimeline | None = None,
    **info: object,
) -> Path:
    """Write a training run in which every rank took the same steps."""
    own = workload(synchronised=synchronised)
    create_run(path, run_info("train", world_size=world_size, **{"run_id": path.name, "workload": own, **info}))  # type: ignore[arg-type]
    for rank in range(world_size):
        with RecordWriter(path / f"steps.rank{rank:05d}.jsonl") as writer:
            for record in steps:
                writer.append(record)
    if gradients is not None:
        write_document(path / "gradients.json", gradients)
    return path


def write_bench_run(path: Path, latency_s: float, bandwidth: float, *, world_size: int = 2, **info: object) -> Path:
    """Write a bench run whose times lie exactly on latency + bytes/bandwidth."""
    times = {size: [latency_s + size / bandwidth] * 5 for size in (2**k for k in range(3, 28))}
    measured = [collective(size, seconds, world_size=world_size) for size, seconds in times.items()]
    return write_measurements(path, measured, world_size=world_size, **info)


def write_measurements(path: Path, measurements: Iterable[CollectiveMeasurement], **info: object) -> Path:
    """Write a bench run that holds these measurements."""
    create_run(path, run_info("bench", run_id=path.name, **info))  # type: ignore[arg-type]
    with RecordWriter(path / "collectives.jsonl") as writer:
        for measurement in measurements:
            writer.append(measurement)
    return path


def message(source: int, target: int, seconds: Sequence[float], *, message_bytes: int = MIB) -> LinkMeasurement:
    return LinkMeasurement(
        kind="send_recv",
        source=f"rank{source}",
        target=f"rank{target}",
        message_bytes=message_bytes,
        samples_s=tuple(seconds),
        timer="fake",
    )


def retime_steps(run: Path, step_s: float) -> None:
    """Let every step of a run that was measured take so long, its phases in proportion: measured beside others, it may not."""
    for path in run.glob("steps.rank*.jsonl"):
        steps = list(read_records(path, StepMeasurement))
        path.unlink()
        with RecordWriter(path) as writer:
            for own in steps:
                times = {f.name: getattr(own, f.name) for f in fields(own) if f.name.endswith("_s")}
                scaled = {name: None if value is None else value * step_s / own.step_s for name, value in times.items()}
                writer.append(replace(own, **scaled))  # type: ignore[arg-type]


def write_contention_run(
    path: Path,
    slowdowns: Sequence[tuple[int, float, float]],
    *,
    world_size: int = 2,
    threads: int = 1,
    backend: str = "gloo",
) -> Path:
    """Write a contention run: message size, slowdown of the computation and slowdown of the all-reduce, which takes 10 ms."""
    measured = [contended(size, [(0.001, 0.001 * k, 0.01, 0.01 * c)], threads=threads) for size, k, c in slowdowns]
    return write_contentions(path, measured, world_size=world_size, threads=threads, backend=backend)


def write_contentions(path: Path, measured: Iterable[ContentionMeasurement], **info: object) -> Path:
    """Write a contention run that holds these measurements, all of its world size."""
    own = run_info("contention", run_id=path.name, **info)  # type: ignore[arg-type]
    create_run(path, own)
    with RecordWriter(path / "contention.jsonl") as writer:
        for each in measured:
            writer.append(replace(each, world_size=own.world_size))
    return path


def contended(
    message_bytes: int, rounds: Sequence[tuple[float, float, float, float]], *, threads: int = 1
) -> ContentionMeasurement:
    """Return a size's rounds: seconds of computation alone and with communication, of communication alone and with it."""
    alone, with_comm, comm_alone, with_compute = zip(*rounds, strict=True)
    return ContentionMeasurement(
        message_bytes=message_bytes,
        world_size=2,
        matrix_size=64,
        threads_per_rank=threads,
        compute_alone_s=alone,
        compute_with_comm_s=with_comm,
        comm_alone_s=comm_alone,
        comm_with_compute_s=with_compute,
        timer="fake",
    )


class Unrecorded:
    """A recorder of training steps that takes notice of the loss alone."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def note_loss(self, loss: Any) -> None:  # noqa: ANN401  a tensor, for which torch would be imported
        self.loss = float(loss)


def write_tiny_config(folder: Path, training: str = "batch_size: 8, max_steps: 20") -> Path:
    """Write a training configuration whose step takes milliseconds, with a cache of its own."""
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
experiment_name: tiny
model: {{vocabulary: 300, sequence_length: 16, d_model: 16, layers: 1, heads: 2, feed_forward: 32}}
data: {{synthetic_articles: 600, cache_dir: {folder / "cache"}}}
training: {{{training}}}
distributed: {{threads_per_rank: 1, timeout_s: 60}}
profiling: {{warmup_steps: 3, trace_steps: 2}}
"""
    )
    return path
