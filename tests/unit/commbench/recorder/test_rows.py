"""Which rows of a unit are told: those that add up to what was seen to be sent."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from commprof.commbench.recorder.element_counts import num_rows
from commprof.commbench.recorder.sharded.fully_shard import with_rows
from commprof.commbench.records.sharding import MAX_ROW_COUNTS, ShardedRows, ShardedUnit


def unit(gather_bytes: int, reduce_bytes: int) -> ShardedUnit:
    return ShardedUnit(
        name="head",
        num_bytes=80,
        num_tensors=1,
        gather_bytes=gather_bytes,
        gather_dtype="bfloat16",
        reduce_bytes=reduce_bytes,
        reduce_dtype="float32",
        resharded=True,
    )


@pytest.mark.parametrize(("num_shards", "rows"), [(1, 10), (4, 12)])
def test_a_row_is_what_was_sent_over_the_rows_that_were_filled_up(num_shards: int, rows: int) -> None:
    """Ten rows of two elements: gathered in two bytes each, reduced in four."""
    told = with_rows(unit(rows * 4, rows * 8), {10: (4, 2)}, num_shards)
    assert told.rows == (ShardedRows(rows=10, gather_bytes=4, reduce_bytes=8),)
    assert (told.gathered_bytes(num_shards), told.reduced_bytes(num_shards)) == (rows * 4, rows * 8)
    assert (told.gathered_bytes(4), told.gathered_bytes(1)) == (48, 40)


def test_a_record_whose_rows_hold_more_than_was_sent_is_damaged() -> None:
    rows = (ShardedRows(rows=10, gather_bytes=4, reduce_bytes=9),)
    with pytest.raises(ValueError, match="`rows` hold 90 bytes, of 80 that were sent"):
        replace(unit(40, 80), rows=rows)


def test_what_is_frozen_is_gathered_and_not_reduced() -> None:
    assert with_rows(unit(40, 0), {10: (4, 0)}, 1).rows == (ShardedRows(rows=10, gather_bytes=4, reduce_bytes=0),)


@pytest.mark.parametrize(
    ("sent", "by_rows"),
    [
        ((44, 80), {10: (4, 2)}),  # gathered beside what was known
        ((36, 80), {10: (4, 2)}),
        ((40, 81), {10: (4, 2)}),  # reduced without a parameter that had no gradient
        ((40, 80), {10: (4, 2), 0: (1, 0)}),  # not cut
        ((40, 80), {}),
        ((MAX_ROW_COUNTS + 1, 0), dict.fromkeys(range(1, MAX_ROW_COUNTS + 2), (0, 0))),
    ],
)
def test_rows_that_do_not_add_up_are_not_told(sent: tuple[int, int], by_rows: dict[int, tuple[int, int]]) -> None:
    assert with_rows(unit(*sent), by_rows, 1).rows == ()


@pytest.mark.parametrize(("whole", "rows"), [(torch.zeros(10, 2), 10), (torch.zeros(()), None), (torch.zeros(0), None)])
def test_a_parameters_rows_are_its_first_dimension(whole: Tensor, rows: int | None) -> None:
    assert num_rows(nn.Parameter(whole)) == rows


def test_what_lies_elsewhere_between_passes_tells_no_rows() -> None:
    model = nn.Linear(4, 3, bias=False)
    model.weight.data = torch.empty(2)
    model.weight.ds_numel = 12  # type: ignore[assignment]
    assert num_rows(model.weight) is None
