"""What reads: every record's type and every reader of a file or a word, each with inputs that it understands.

A target either answers or raises a CommprofError. What it answers keeps the laws: a record is read back from what it is written
as, and what a log becomes can be read as a run.
"""

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from commprof.analysis.readers.as_run import measurements, read_text, run_info, understand
from commprof.analysis.readers.dialect import read_log
from commprof.analysis.scaling.table import parse_series
from commprof.analysis.step.results import PredictionSet
from commprof.analysis.study.results import Boundary, WireRate
from commprof.analysis.traces.one_rank.kineto import read_trace
from commprof.analysis.traces.one_rank.rank_trace import reduce_trace
from commprof.analysis.traces.one_rank.reduced import read_reduced, write_reduced
from commprof.analysis.wire.cli import parse_times
from commprof.commbench.bench.plan import BenchPlan, parse_buckets
from commprof.commbench.errors import UnusableData
from commprof.commbench.machine.facts import HostInfo, TelemetrySample
from commprof.commbench.machine.wire import parse_wire
from commprof.commbench.ranks.launched import expand_hosts, tasks_per_node
from commprof.commbench.records.contention import ContentionMeasurement
from commprof.commbench.records.links import LinkMeasurement, PairMeasurement
from commprof.commbench.records.masking import masked
from commprof.commbench.records.reading import decode, name_of
from commprof.commbench.records.rundir import read_records
from commprof.commbench.records.sharding import ShardedRows, ShardedSpan, ShardedUnit, ShardingTimeline
from commprof.commbench.records.training import (
    EvaluationMeasurement,
    GradientTimeline,
    PaceProbe,
    StepMeasurement,
    TrainingSummary,
)
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement, RunInfo, SizeFailure
from commprof.commbench.units import parse_bytes, parse_duration, parse_line_rate, printable
from commprof.study.config import StudyConfig
from commprof.train.config.load import load_config
from commprof.train.config.types import ModelConfig, TrainConfig, check_train_config, load_train_config
from commprof.train.text.articles import _read_csv
from commprof.train.text.dataset import _load_encoded
from tests.factory import collective, message, step, timeline, workload
from tests.factory import run_info as own_run_info
from tests.report_runs import predictions
from tests.traces import all_reduce, ascend_trace, header, kernel, kineto_text, profiler_step
from tests.unit.analysis.health.machines import card, gpu, host, telemetry
from tests.unit.commbench.records.test_laws import BURST, PLAN, SUMMARY

CORPUS = Path(__file__).parent / "corpus"
_LOGS = ("*.log", "nccl-tests.json", "rows.json", "table.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`every`: of so many examples one is given to it, where it is slow."""

    name: str
    seeds: tuple[bytes, ...] = field(repr=False)  # kilobytes, which hypothesis would refuse to show beside what it found
    read: Callable[[bytes], object]
    every: int = 1


def targets(folder: Path) -> list[Target]:
    """Return all targets; those that read files get theirs below `folder`, best in memory."""
    return [*_records(folder), *_words(), *_logs(folder), *_traces(folder), *_trainings(folder)]


def _records(folder: Path) -> Iterator[Target]:
    contention = ContentionMeasurement(
        message_bytes=1024,
        world_size=2,
        matrix_size=64,
        threads_per_rank=1,
        compute_alone_s=(0.001,),
        compute_with_comm_s=(0.002,),
        comm_alone_s=(0.01,),
        comm_with_compute_s=(0.02,),
        timer="fake",
    )
    boundary = Boundary(
        experiment="small",
        world_size=2,
        work_s=0.2,
        compute_s=0.11,
        ratio_needed=2.2,
        by_ratio=WireRate(bits_per_s=1e9, inside=True),
        by_schedule=WireRate(bits_per_s=None, inside=False),
    )
    known: list[tuple[Any, object]] = [
        (RunInfo, own_run_info("train", workload=workload())),
        (CollectiveMeasurement, collective(1024, [1e-3, 2e-3], cpu_s=1e-4)),
        (BurstMeasurement, BURST),
        (BenchPlan, PLAN),
        (LinkMeasurement, message(0, 1, [1e-3, 2e-3])),
        (
            PairMeasurement,
            PairMeasurement(round=3, sender=0, receiver=1, message_bytes=1024, samples_s=(1e-3, 2e-3), timer="fake"),
        ),
        (ContentionMeasurement, contention),
        (SizeFailure, SizeFailure(op="all_reduce", message_bytes=8, rank=0, reason="no memory")),
        (StepMeasurement, step(3)),
        (PaceProbe, PaceProbe(step=8, work="12 products", samples_s=(0.01, 0.02))),
        (GradientTimeline, timeline([("w", 8, 0.01), ("b", 4, 0.02)], 0.06)),
        (ShardingTimeline, _sharding()),
        (EvaluationMeasurement, EvaluationMeasurement(step=1, epoch=1, loss=1.0, accuracy=0.5, num_samples=10, elapsed_s=1.0)),
        (TrainingSummary, SUMMARY),
        (
            tuple[HostInfo, ...],
            (host(gpus=(gpu(0), gpu(1)), interfaces=(card("eth0", 10.0),), topology=(("X", "NV4"), ("NV4", "X"))),),
        ),
        (TelemetrySample, telemetry({"eth0": 10})[1]),
        (PredictionSet, predictions(2)),
        (tuple[Boundary, ...], (boundary,)),
        (dict[str, str], {"bench-n2": "17"}),
    ]
    for kind, record in known:
        yield Target(name=f"record {name_of(kind)}", seeds=tuple(_forms(record)), read=partial(_record, kind))
    lines = b"".join(msgspec.json.encode(step(number)) + b"\n" for number in range(3))
    yield Target(name="lines of records", seeds=(lines,), read=partial(_lines, folder / "x.jsonl"), every=16)


def _sharding() -> ShardingTimeline:
    unit = ShardedUnit(
        name="layers.0",
        num_bytes=64,
        num_tensors=2,
        gather_bytes=64,
        gather_dtype="float32",
        reduce_bytes=64,
        reduce_dtype="float32",
        resharded=True,
        rows=(ShardedRows(rows=4, gather_bytes=16, reduce_bytes=16),),
    )
    spans = tuple(
        ShardedSpan(until=until, unit=place, gathers=place == 0, samples_s=(1e-3, 2e-3))
        for until, place in (("before", None), ("gather_landed", 0), ("ready", 0), ("ended", None))
    )
    return ShardingTimeline(rank=0, num_shards=2, num_replicas=1, num_steps=2, num_others=0, units=(unit,), spans=spans)


def _forms(record: object) -> Iterator[bytes]:
    """Yield a record as it is written, indented as documents are, its fields turned round, and as a later version may."""
    written = msgspec.json.encode(record)
    yield written
    yield msgspec.json.format(written, indent=1)
    plain = msgspec.to_builtins(record)
    yield msgspec.json.encode(dict(reversed(plain.items())) if isinstance(plain, dict) else plain * 2)
    yield msgspec.json.encode({"colour": "blue", **plain} if isinstance(plain, dict) else [*plain, *plain[:1]])


def _record(kind: Any, content: bytes) -> None:  # noqa: ANN401  a type or a generic
    found = decode(content, kind, "x.json")
    assert decode(msgspec.json.encode(found), kind, "x.json") == found


def _lines(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    list(read_records(path, StepMeasurement))


def _words() -> Iterator[Target]:
    def of(read: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda content: read(content.decode("utf-8", "replace"))

    def wrong_words(read: Callable[[str], object]) -> Callable[[str], None]:
        def inner(text: str) -> None:
            with suppress(ValueError):  # their one caller tells it as BadInput
                read(text)

        return inner

    def hidden(text: str) -> None:
        assert masked(masked(text)) == masked(text)
        assert printable(printable(text)) == printable(text)

    yield Target(name="sizes", seeds=(b"64M", b"1.5G", b"8"), read=of(parse_bytes))
    yield Target(name="durations", seeds=(b"90min", b"1.5d"), read=of(parse_duration))
    yield Target(name="rates", seeds=(b"200mbit", b"2.5gbit"), read=of(parse_line_rate))
    yield Target(name="wires", seeds=(b"200mbit", b"1gbit"), read=of(parse_wire))
    yield Target(name="buckets", seeds=(b"1M,25M,13M", b"178M/10M"), read=of(parse_buckets))
    yield Target(name="times", seeds=(b"1=19.53 4=42.34",), read=of(lambda text: parse_times(text.split())))
    yield Target(name="SLURM's tasks", seeds=(b"2(x3),1",), read=of(wrong_words(tasks_per_node)))
    yield Target(name="SLURM's hosts", seeds=(b"a[08-10,3],b", b"r[1-2]n[1-4]"), read=of(wrong_words(expand_hosts)), every=64)
    yield Target(name="masking", seeds=(b"--token abc --lr 0.1 url=https://u:p@h/x?key=1",), read=of(hidden))


def _logs(folder: Path) -> Iterator[Target]:
    for pattern in _LOGS:
        for path in sorted(CORPUS.glob(pattern)):
            yield Target(name=f"log {path.name}", seeds=(path.read_bytes(),), read=partial(_log, folder / "log"), every=32)
    for path in sorted(CORPUS.glob("series.*")):
        yield Target(
            name=f"table {path.name}",
            seeds=(path.read_bytes(),),
            read=lambda text: parse_series(text.decode("utf-8", "replace")),
        )


def _log(path: Path, content: bytes) -> None:
    """Read a log as `import` does, and hold what it becomes to what a run is read by."""
    path.write_bytes(content)
    for sweep in read_log(read_text(path)):
        try:
            found = understand(sweep, "log", op=None, ranks=None)
        except UnusableData:  # as it says: --world-size
            found = understand(sweep, "log", op=None, ranks=4)
        info = run_info(found, "x", "log")
        assert decode(msgspec.json.encode(info), RunInfo, "x") == info
        for record in measurements(found):
            assert decode(msgspec.json.encode(record), CollectiveMeasurement, "x") == record


def _traces(folder: Path) -> Iterator[Target]:
    events = [profiler_step(number, 1000.0 * number, 1000.0 * number + 900) for number in range(3)]
    for number in range(3):
        start = 1000.0 * number
        events += kernel("gemm", start + 10, start + 300, launched_us=start + 5, correlation=10 * number + 1)
        events += all_reduce(start + 310, start + 500, launched_us=start + 100, correlation=10 * number + 2)
    text = kineto_text(events, header()).encode()
    path = folder / "rank00000.trace.json"
    yield Target(name="trace", seeds=(text, msgspec.json.encode(ascend_trace())), read=partial(_trace, path), every=64)
    path.write_bytes(text)
    packed = folder / "rank00000.reduced.gz"
    write_reduced(packed, reduce_trace(read_trace(path)))
    yield Target(
        name="reduced trace, unpacked", seeds=(gzip.decompress(packed.read_bytes()),), read=partial(_repacked, packed), every=16
    )
    yield Target(name="reduced trace", seeds=(packed.read_bytes(),), read=partial(_reduced, packed), every=16)


def _trace(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    reduce_trace(read_trace(path))


def _reduced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    read_reduced(path)


def _repacked(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1))
    read_reduced(path)


def _trainings(folder: Path) -> Iterator[Target]:
    yield Target(name="training's YAML", seeds=(_kept("train.yaml"),), read=partial(_config, folder / "train.yaml"), every=64)
    yield Target(name="study's YAML", seeds=(_kept("study.yaml"),), read=partial(_study, folder / "study.yaml"), every=64)
    words = b"training.batch_size=64\nmodel.heads=4\ndistributed.bucket_cap_mb=2.5\nprofiling.trace_ranks=[0,1]"
    yield Target(name="key=value words", seeds=(words,), read=_overrides, every=64)
    yield Target(name="articles", seeds=(_kept("articles.csv"),), read=partial(_articles, folder / "articles.csv"), every=8)
    arrays = io.BytesIO()
    tokens, labels = np.ones((2, 4), np.int32), np.zeros(2, np.int64)
    parts = {
        f"{part}_{name}": own for part in ("training", "evaluation") for name, own in (("tokens", tokens), ("labels", labels))
    }
    np.savez(arrays, **parts)  # type: ignore[arg-type]
    yield Target(name="encoded articles", seeds=(arrays.getvalue(),), read=partial(_encoded, folder / "x.npz"), every=16)


def _kept(name: str) -> bytes:
    return (CORPUS / name).read_bytes()


def _config(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    load_train_config(path)


def _study(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    load_config(StudyConfig, path)


def _overrides(content: bytes) -> None:
    words = content.decode("utf-8", "replace").split("\n")
    check_train_config(load_config(TrainConfig, CORPUS / "train.yaml", words))


def _articles(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _read_csv(path, "data.train_first", None, slice(None))


def _encoded(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _load_encoded(path, ModelConfig(vocabulary=10, sequence_length=4))
