"""What no clock, wire or machine gives is refused where a record is read, by file, line and field."""

import json
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commprof.commbench.bench.plan import FAST, BenchPlan, Cell
from commprof.commbench.errors import BadInput
from commprof.commbench.machine.facts import HostInfo, TelemetrySample
from commprof.commbench.records.reading import decode
from commprof.commbench.records.rundir import read_document, read_records, write_text
from commprof.commbench.records.training import (
    EvaluationMeasurement,
    GradientTimeline,
    PaceProbe,
    StepMeasurement,
    TrainingSummary,
)
from commprof.commbench.records.types import BurstMeasurement, CollectiveMeasurement, RunInfo
from tests.factory import collective, run_info, step, timeline, workload

BURST = BurstMeasurement(
    op="all_reduce",
    dtype="float32",
    world_size=2,
    bucket_bytes=(8, 16),
    source="list 8,16",
    warmup_iterations=1,
    slowest_rank_s=(1e-3, 2e-3),
    fastest_rank_s=(1e-3, 1e-3),
    done_s=((0.0, 1e-3), (1e-4, 2e-3)),
    timer="fake",
)
PLAN = BenchPlan(
    op="all_reduce",
    dtype="float32",
    reduction="sum",
    root=0,
    sizes=(8, 16),
    cells=(Cell(mode="isolated", in_place=True),),
    bucket_bytes=(),
    bucket_source="",
    effort=FAST,
    warmup_iterations=1,
    check=True,
    hot=True,
    cuda_graph=False,
)
SUMMARY = TrainingSummary(
    num_steps=1,
    step_s=0.1,
    samples_per_step=1,
    tokens_per_sample=1,
    flops_per_token=1.0,
    peak_flops_per_s=1.0,
    peak_memory_bytes=(1,),
    memory_kind="resident",
)
RECORDS = (
    run_info("train", workload=workload()),
    collective(8, [1e-3, 2e-3], cpu_s=1e-4),
    BURST,
    PLAN,
    step(0),
    timeline([("w", 8, 0.01)], 0.06),
    PaceProbe(step=8, work="12 products", samples_s=(0.01,)),
    EvaluationMeasurement(step=1, epoch=1, loss=1.0, accuracy=0.5, num_samples=10, elapsed_s=1.0),
    SUMMARY,
)
IMPOSSIBLE = {
    "_s": (-1.0, 1e300, "1"),
    "_bytes": (-1, 2**70, 1.5),
    "num_": (-1, 10**30),
    "world_size": (0, -1, 10**9),
    "rank": (-1,),
    "threads_per_rank": (0, -1),
    "cores_per_node": (0, -1),
    "op": ("all_reduce_twice",),
    "dtype": ("float7",),
}


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every value in a document that is no object and no list."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value[:2]):
            yield from places(each, (*path, index))
    else:
        yield path


def changed(document: object, path: tuple[str | int, ...], value: object) -> object:
    copy: Any = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def cases() -> Iterator[Any]:
    for record in RECORDS:
        document = msgspec.to_builtins(record)
        for path in places(document):
            field = str(next(key for key in reversed(path) if isinstance(key, str)))
            for mark, values in IMPOSSIBLE.items():
                if field.endswith(mark) or field.startswith(mark):
                    for value in values:
                        name = f"{type(record).__name__}.{'.'.join(map(str, path))}={value}"
                        yield pytest.param(type(record), changed(document, path, value), field, id=name)


@pytest.mark.parametrize(("kind", "document", "field"), [*cases()])
def test_an_impossible_value_is_named_by_place_and_field(kind: type, document: object, field: str) -> None:
    with pytest.raises(BadInput, match=rf"x\.json:1 is not a valid {kind.__name__}: .*\b{field}\b"):
        decode(json.dumps(document).encode(), kind, "x.json:1")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_possible_record_is_read_as_it_was_written(record: object) -> None:
    assert decode(msgspec.json.encode(record), type(record), "x.json") == record


@pytest.mark.parametrize(
    ("record", "change", "said"),
    [
        (collective(8, [1e-3]), {"slowest_rank_s": []}, "slowest_rank_s"),
        (collective(8, [1e-3, 2e-3]), {"fastest_rank_s": [1e-3]}, "have 2, 1 entries"),
        (collective(8, [0.5]), {"slowest_rank_s": [0.0]}, r"slowest_rank_s\[0\]"),
        (collective(8, [0.5]), {"message_bytes": 0}, "a barrier alone has none"),
        (collective(8, [0.5]), {"op": "barrier"}, "`message_bytes` is 8 of barrier"),
        (collective(8, [0.5]), {"root": 2}, "`root` is 2, of 2 ranks"),
        (BURST, {"done_s": [[0.1, 0.2]]}, "`done_s` have 2, 2, 1 entries"),
        (BURST, {"done_s": [[0.1], [0.2]]}, "have 2, 1 entries"),
        (run_info(), {"num_nodes": 3}, "at most `world_size`, 2"),
        (run_info(), {"world_size": 1}, "each rank below `world_size`, 1, once"),
        (run_info(world_size=1), {"ranks": [msgspec.to_builtins(run_info().ranks[0])] * 2}, "once at most"),
        (timeline([("w", 8, 0.01)], 0.06), {"parameters": [{"name": "w", "num_bytes": 0, "ready_s": 0.0}]}, "num_bytes"),
        (PLAN, {"cells": []}, "cells"),
        (step(0), {"step_s": 0.0}, "step_s"),
        (replace(SUMMARY), {"step_s": 0}, "step_s"),
    ],
)
def test_what_cannot_be_together_is_named(record: object, change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        decode(msgspec.json.encode({**msgspec.to_builtins(record), **change}), type(record), "x.json")


@pytest.mark.parametrize(
    "kind", [RunInfo, CollectiveMeasurement, StepMeasurement, GradientTimeline, TelemetrySample, BenchPlan]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"op": "s\x8am"}', "is not a valid"),
        (b'{"x": ' + b"[" * 200_000, "is not a valid"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested without end"),
        (b"\xff\xfe", "is not a valid"),
        (b"nan", "is not a valid"),
    ],
    ids=["utf8", "open", "nested", "bytes", "nan"],
)
def test_what_is_no_record_is_named(tmp_path: Path, kind: type, content: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content + b"\n")
    for read in (partial(read_document, tmp_path / "x.jsonl"), lambda kind: list(read_records(tmp_path / "x.jsonl", kind))):
        with pytest.raises(BadInput, match=rf"x\.jsonl.*{said}"):
            read(kind)


def test_a_byte_that_is_no_text_is_named_by_its_place(tmp_path: Path) -> None:
    line = msgspec.json.encode(collective(8, [1e-3]))
    (tmp_path / "x.jsonl").write_bytes(line + b"\n" + line.replace(b"all_reduce", b"all_re\x8auce") + b"\n")
    with pytest.raises(BadInput, match=r"x\.jsonl:2 is not a valid CollectiveMeasurement: byte 7 of a text is not UTF-8"):
        list(read_records(tmp_path / "x.jsonl", CollectiveMeasurement))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe that nobody writes to would never open; a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "zero", "folder", "circle", "missing", "x" * 300, "a\0b"):
        with pytest.raises(BadInput, match="cannot read"):
            read_document(tmp_path / name, RunInfo)


def test_a_list_of_hosts_is_called_so(tmp_path: Path) -> None:
    write_text(tmp_path / "environment.json", "{}")
    with pytest.raises(BadInput, match="is not a valid list of HostInfo"):
        read_document(tmp_path / "environment.json", tuple[HostInfo, ...])


def test_every_number_of_a_record_has_a_law() -> None:
    """A field that is a bare int or float would take any value; what may be any number says so here."""
    free = {"EvaluationMeasurement.loss", "StepMeasurement.loss"}
    kinds = {type(record) for record in RECORDS} | {TelemetrySample, HostInfo}
    bare = {f"{kind.__name__}.{f.name}" for kind in kinds if is_dataclass(kind) for f in fields(kind) if f.type in _BARE}
    assert bare == free


_BARE = (int, float, int | None, float | None, tuple[int, ...], tuple[float, ...])
