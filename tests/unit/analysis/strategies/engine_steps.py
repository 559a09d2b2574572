"""A made-up step of a DeepSpeed engine on one rank, marks and milliseconds, over the wires of sharded_steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from commprof.commbench.records.rundir import write_document
from commprof.commbench.records.sharding import UNITS_FILE, Mark, ShardedSpan, ShardedUnit, ShardingTimeline, ZeroEngine
from tests.factory import step, workload, write_training_run
from tests.unit.analysis.strategies.sharded_steps import MIB

Marks = Sequence[tuple[Mark, int | None, float]]

# units of stages 1 and 2: two buckets, a norm, the updated parameters
WHOLE_BYTES, BUCKET_BYTES, NORM_BYTES = 12 * MIB, (8 * MIB, 4 * MIB), 4
STAGE_2: Marks = (
    ("gather_sent", 3, 4), ("gather_landed", 3, 0.1), ("update_ended", None, 1), ("fetched", None, 2), ("passes", None, 20),
    ("reduce_begun", 0, 30), ("reduce_sent", 0, 2), ("reduce_landed", 0, 1), ("kept", 0, 4),
    ("passed", None, 10), ("reduce_begun", 1, 0), ("reduce_sent", 1, 1), ("reduce_landed", 1, 1), ("kept", 1, 2),
    ("update_begun", None, 1), ("reduce_sent", 2, 8), ("reduce_landed", 2, 0.5), ("updated", None, 40), ("ended", None, 0),
)  # fmt: skip
OF_SHARD_S, OF_ALL_S = 0.059, 0.067

# units of stage 3: a module's parameters, the next one's, both in one bucket, a norm, what is too small to be freed
STAGE_3: Marks = (
    ("gather_sent", 4, 4), ("gather_landed", 4, 0), ("update_ended", None, 0), ("fetched", None, 1),
    ("gather_sent", 0, 1), ("gather_awaited", 0, 0), ("gather_landed", 0, 0),
    ("gather_sent", 1, 0), ("gather_awaited", 1, 30), ("gather_landed", 1, 0), ("passes", None, 20),
    ("passed", None, 100), ("reduce_begun", 2, 0), ("reduce_sent", 2, 8), ("reduce_landed", 2, 3), ("kept", 2, 4),
    ("update_begun", None, 0), ("reduce_sent", 3, 8), ("reduce_landed", 3, 0), ("updated", None, 40), ("ended", None, 0),
)  # fmt: skip


def unit(
    name: str, *, gathers: int = 0, reduces: int = 0, op: Literal["all_reduce", "reduce_scatter"] = "all_reduce"
) -> ShardedUnit:
    return ShardedUnit(
        name=name,
        num_bytes=max(gathers, reduces),
        num_tensors=2,
        gather_bytes=gathers,
        gather_dtype="float32",
        reduce_bytes=reduces,
        reduce_dtype="float32",
        reduce_op=op,
        resharded=False,
    )


UNITS_2 = (
    unit("head to block", reduces=BUCKET_BYTES[0]),
    unit("block to stem", reduces=BUCKET_BYTES[1]),
    unit("all_reduce 1", reduces=NORM_BYTES),
    unit("updated parameters 1", gathers=WHOLE_BYTES),
)
UNITS_3 = (
    unit("stem", gathers=4 * MIB),
    unit("block", gathers=8 * MIB),
    unit("head to stem", reduces=WHOLE_BYTES, op="reduce_scatter"),
    unit("all_reduce 1", reduces=8),
    unit("norms", gathers=1024),
)


def engine_timeline(stage: Literal[1, 2, 3], *, steps: int = 12, **zero: int | bool) -> ShardingTimeline:
    kept = {"parameter_bytes": WHOLE_BYTES, "master_bytes": WHOLE_BYTES, "gradient_bytes": WHOLE_BYTES, "bucket_bytes": 8 * MIB}
    return ShardingTimeline(
        rank=0,
        num_shards=1,
        num_replicas=1,
        num_steps=steps,
        num_others=0,
        units=UNITS_3 if stage == 3 else UNITS_2,
        spans=tuple(
            ShardedSpan(until=mark, unit=place, gathers=False, samples_s=(ms / 1e3,) * steps)
            for mark, place, ms in (STAGE_3 if stage == 3 else STAGE_2)
        ),
        optimizer_bytes=2 * WHOLE_BYTES,
        zero=ZeroEngine(stage=stage, **{"overlaps": False, **kept, **zero}),  # type: ignore[arg-type]
    )


def write_engine_run(
    path: Path, timeline: ShardingTimeline, *, scaling: str = "weak", kind: str = "", backend: str = "gloo"
) -> Path:
    assert timeline.zero is not None
    step_s = sum(span.samples_s[0] for span in timeline.spans)
    own = workload(kind=kind or f"zero{timeline.zero.stage}", scaling=scaling)  # type: ignore[arg-type]
    write_training_run(path, [step(index, step_s=step_s) for index in range(12)], workload=own, cores=64, backend=backend)
    write_document(path / UNITS_FILE, timeline)
    return path
