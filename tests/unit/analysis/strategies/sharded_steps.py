"""A made-up sharded run: a root and two blocks, times that are the same in every step, and wires that are lines."""

from collections.abc import Sequence
from pathlib import Path

from commprof.analysis.runs.load import load_runs
from commprof.analysis.strategies.choose import Asked, choose
from commprof.analysis.strategies.results import Choice, Strategy, StrategyAnswer
from commprof.commbench.records.rundir import RecordWriter, create_run, write_document
from commprof.commbench.records.sharding import UNITS_FILE, Mark, ShardedSpan, ShardedUnit, ShardingTimeline
from tests.factory import collective, run_info, step, timeline, workload, write_training_run

MIB = 2**20
UNIT_BYTES = (4 * MIB, 8 * MIB, 8 * MIB)  # root, block 1, block 2
LATENCY_S, BYTES_PER_S = {"all_gather": 1e-4, "reduce_scatter": 2e-4, "all_reduce": 3e-4}, 1e9

# (mark, unit, gathers, milliseconds) of a step on one rank
ONE_RANK: tuple[tuple[Mark, int | None, bool, float], ...] = (
    ("fetched", None, False, 1),
    ("before", 0, True, 0), ("ready", 0, True, 2),
    ("before", 1, True, 1), ("ready", 1, True, 3), ("done", 1, False, 10), ("after", 1, False, 0),
    ("before", 2, True, 0), ("ready", 2, True, 3), ("done", 2, False, 10), ("after", 2, False, 0),
    ("done", 0, False, 1), ("after", 0, False, 0), ("passes", None, False, 1),
    ("back_before", 0, False, 0), ("back_ready", 0, False, 0),
    ("back_before", 2, True, 1), ("back_ready", 2, True, 3), ("back_done", 2, False, 20),
    ("reduce_begun", 2, False, 0), ("reduce_filled", 2, False, 2), ("reduced", 2, False, 4), ("kept", 2, False, 1),
    ("back_before", 1, True, 0), ("back_ready", 1, True, 3), ("back_done", 1, False, 20),
    ("reduce_begun", 1, False, 0), ("reduce_filled", 1, False, 2), ("reduced", 1, False, 4), ("kept", 1, False, 1),
    ("reduce_begun", 0, False, 2), ("reduce_filled", 0, False, 1), ("reduced", 0, False, 2), ("kept", 0, False, 1),
    ("passed", None, False, 0), ("updated", None, False, 50), ("ended", None, False, 0),
)  # fmt: skip
COLD_COPY_S = {0: 0.002, 1: 0.004, 2: 0.004}
BY_ITSELF_S = sum(ms for *_, ms in ONE_RANK) / 1e3
EVERY: tuple[Strategy, ...] = ("ddp", "fsdp", "hsdp", "zero2")


def sharding(
    marks: Sequence[tuple[Mark, int | None, bool, float]] = ONE_RANK,
    *,
    num_shards: int = 1,
    steps: int = 12,
    waits: bool = False,
    **fields: int | None,
) -> ShardingTimeline:
    told = {"optimizer_bytes": 2 * sum(UNIT_BYTES) // num_shards, "activation_bytes": 30 * MIB, **fields}
    return ShardingTimeline(
        rank=0,
        num_shards=num_shards,
        num_replicas=1,
        num_steps=steps,
        num_others=0,
        waits=waits,
        units=tuple(
            ShardedUnit(
                name=name,
                num_bytes=size,
                num_tensors=2,
                gather_bytes=size,
                gather_dtype="float32",
                reduce_bytes=size,
                reduce_dtype="float32",
                resharded=bool(name),
            )
            for name, size in zip(("", "blocks.0", "blocks.1"), UNIT_BYTES, strict=True)
        ),
        spans=tuple(
            ShardedSpan(until=mark, unit=unit, gathers=gathers, samples_s=(ms / 1e3,) * steps)
            for mark, unit, gathers, ms in marks
        ),
        **told,
    )


def write_sharded_run(
    path: Path, timeline: ShardingTimeline, step_s: float, *, world_size: int = 1, cores: int = 64, **fields: object
) -> Path:
    own = workload(kind="fsdp2", **fields)  # type: ignore[arg-type]
    steps = [step(index, step_s=step_s) for index in range(12)]
    write_training_run(path, steps, world_size=world_size, workload=own, cores=cores)
    write_document(path / UNITS_FILE, timeline)
    return path


def wire_s(op: str, num_bytes: int) -> float:
    return LATENCY_S[op] + num_bytes / BYTES_PER_S


def write_benches(
    path: Path, world_size: int, ops: Sequence[str] = tuple(LATENCY_S), *, cores: int = 64, machines: int | None = None
) -> Path:
    """Write a bench of these collectives over wires that are lines; every rank has a machine of its own, or `machines`."""
    info = run_info(
        "bench",
        world_size=world_size,
        run_id=path.name,
        num_nodes=world_size,
        num_machines=machines or world_size,
        cores=cores,
    )
    create_run(path, info)
    with RecordWriter(path / "collectives.jsonl") as writer:
        for op in ops:
            for size in (2**power for power in range(16, 26)):
                writer.append(collective(size, [wire_s(op, size)] * 5, world_size=world_size, op=op))
    return path


def on_shards_s(shards: int, *, backward_gathers: bool = True) -> float:
    """What a rank does by itself among so many shards, worked out from the marks.

    No stand-ins for the wire, the copy of its shard into each gather, an update whose 35 ms that move bytes (3.5 times the
    10 ms of cold copies) shrink with the shards.
    """
    gathers = (0, 1, 2, 2, 1) if backward_gathers else (0, 1, 2)
    whole = BY_ITSELF_S - sum(COLD_COPY_S.values()) - (0 if backward_gathers else 0.006)
    return whole - 0.035 * (1 - 1 / shards) + sum(COLD_COPY_S[unit] for unit in gathers) / shards


def exchanged_s(gathers: tuple[int, ...]) -> float:
    gathered = sum(wire_s("all_gather", UNIT_BYTES[unit]) for unit in gathers)
    return gathered + sum(wire_s("reduce_scatter", size) for size in UNIT_BYTES)


def plain(path: Path) -> Path:
    gradients = timeline([("b", 16 * MIB, 0.02), ("a", 4 * MIB, 0.05)], 0.06)
    return write_training_run(path, [step(i) for i in range(12)], gradients=gradients, workload=workload(kind="none"), cores=64)


def chosen(paths: list[Path], n: int = 4, **asked: object) -> Choice:
    (choice,) = choose(load_runs(paths), [n], Asked(**{"strategies": EVERY, **asked}))  # type: ignore[arg-type]
    return choice


def answer(choice: Choice, strategy: Strategy) -> StrategyAnswer:
    return next(each for each in choice.answers if each.strategy == strategy)
