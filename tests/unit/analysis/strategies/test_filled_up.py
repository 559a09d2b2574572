"""fully_shard fills parameters up to rows that its shards divide: what is sent and kept on any number of them, on paper."""

from dataclasses import replace
from pathlib import Path

import pytest

from commprof.analysis.runs.load import load_run
from commprof.analysis.strategies.unsharded import unsharded_timeline
from commprof.commbench.records.sharding import ShardedRows, ShardedUnit, ShardingTimeline
from commprof.commbench.records.training import ParameterTiming
from tests.factory import step, timeline, workload, write_training_run
from tests.unit.analysis.strategies.sharded_steps import (
    BY_ITSELF_S,
    MIB,
    answer,
    chosen,
    sharding,
    write_benches,
    write_sharded_run,
)

HEAD = (ShardedRows(rows=10, gather_bytes=MIB, reduce_bytes=2 * MIB),)


def with_a_head(num_shards: int = 1) -> ShardingTimeline:
    """Block 2 is a head of 10 rows of a MiB, gathered as they are kept and reduced in numbers of twice the size."""
    known = sharding(num_shards=num_shards, optimizer_bytes=44 * MIB // num_shards)
    *others, last = known.units
    rows = -(-10 // num_shards) * num_shards
    head = replace(last, num_bytes=10 * MIB, gather_bytes=rows * MIB, reduce_bytes=2 * rows * MIB, rows=HEAD)
    return replace(known, units=(*others, head))


@pytest.mark.parametrize(("num_shards", "rows"), [(1, 10), (2, 10), (3, 12), (4, 12), (10, 10), (16, 16)])
def test_a_head_of_ten_rows_is_filled_up(num_shards: int, rows: int) -> None:
    head = with_a_head(4).units[-1]
    sizes = head.gathered_bytes(num_shards), head.reduced_bytes(num_shards), head.kept_bytes(num_shards)
    assert sizes == (rows * MIB, 2 * rows * MIB, rows * MIB)


def test_parameters_of_several_numbers_of_rows_are_filled_up_each() -> None:
    """A head of 10 rows of 4 bytes and its bias of 10; a position of one row of 400 bytes, which four ranks have four of."""
    rows = ShardedRows(rows=10, gather_bytes=5, reduce_bytes=5), ShardedRows(rows=1, gather_bytes=400, reduce_bytes=0)
    unit = replace(with_a_head().units[-1], num_bytes=900, gather_bytes=450, reduce_bytes=50, rows=rows)
    assert (unit.gathered_bytes(4), unit.reduced_bytes(4)) == (12 * 5 + 4 * 400, 12 * 5)
    assert unit.kept_bytes(4) == 2 * unit.gathered_bytes(4), "kept in twice the bytes that are gathered"


def test_of_an_older_record_they_stay_as_recorded() -> None:
    unit: ShardedUnit = replace(with_a_head(4).units[-1], rows=())
    sizes = unit.gathered_bytes(16), unit.reduced_bytes(16), unit.kept_bytes(16)
    assert sizes == (12 * MIB, 24 * MIB, 10 * MIB)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_schedule_and_its_memory_have_what_is_filled_up(tmp_path: Path, *, side_by_side: bool) -> None:
    """4 + 8 + 12 MiB over 4 ranks, of which the first keeps a whole share; AdamW's two words for each of them."""
    own = 4 if side_by_side else 1
    work = {"synchronised": False} if side_by_side else {}
    profile = write_sharded_run(tmp_path / "p", with_a_head(own), BY_ITSELF_S, world_size=own, **work)
    fsdp = answer(chosen([profile, write_benches(tmp_path / "b4", 4)]), "fsdp")
    sent = {(each.what, each.unit): each.num_bytes for each in fsdp.exchanges}
    assert (sent["gather", "blocks.1"], sent["reduce", "blocks.1"]) == (12 * MIB, 24 * MIB)
    assert (sent["gather", "blocks.0"], sent["gather", "(root)"]) == (8 * MIB, 4 * MIB)
    assert fsdp.memory is not None
    assert (fsdp.memory.parameters, fsdp.memory.optimizer) == (6 * MIB, 12 * MIB)


def test_rows_of_a_profile_that_is_not_sharded_are_its_parameters(tmp_path: Path) -> None:
    """Blocks of a matrix and a bias of 10 rows each, and a root of which one parameter does not tell its rows."""
    names = ("a.0.w", 4000, 0.01), ("a.0.b", 40, 0.02), ("a.1.w", 4000, 0.03), ("a.1.b", 40, 0.04), ("root", 8, 0.05)
    gradients = timeline(names, 0.06)
    told = tuple(own if own.name == "root" else replace(own, rows=10) for own in gradients.parameters)
    steps, gradients = [step(i) for i in range(12)], replace(gradients, parameters=told)
    run = write_training_run(tmp_path / "p", steps, gradients=gradients, workload=workload(kind="none"))
    root, *blocks = unsharded_timeline(load_run(run)).units
    assert (root.rows, root.gathered_bytes(4)) == ((), 8)
    assert [block.rows for block in blocks] == [(ShardedRows(rows=10, gather_bytes=404, reduce_bytes=404),)] * 2
    assert blocks[0].gathered_bytes(4) == 12 * 404


def test_rows_that_do_not_divide_a_parameter_are_none(tmp_path: Path) -> None:
    damaged = ParameterTiming(name="a.0.w", num_bytes=41, ready_s=0.01, rows=10)
    gradients = timeline([("a.0.w", 40, 0.01), ("a.1.w", 40, 0.02)], 0.06)
    gradients = replace(gradients, parameters=(damaged, *gradients.parameters[1:]))
    run = write_training_run(tmp_path / "p", [step(i) for i in range(12)], gradients=gradients, workload=workload(kind="none"))
    assert all(unit.rows == () for unit in unsharded_timeline(load_run(run)).units)
