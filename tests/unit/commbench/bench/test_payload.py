import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from commprof.commbench.bench.payload import Payload
from commprof.commbench.errors import BadInput
from commprof.commbench.records.operations import DATA_TYPES, OPERATIONS, REDUCTIONS, check_operation, data_type_name

DTYPES = [getattr(torch, name) for name in DATA_TYPES]


def payload(op: str, dtype: torch.dtype = torch.float32, *, ranks: int = 3, count: int = 5, **others: object) -> Payload:
    fields = {"reduction": "sum" if OPERATIONS[op].reduces else None, "root": 1, **others}
    return Payload(op=op, dtype=dtype, world_size=ranks, count=count, **fields)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    reduction=st.sampled_from(["sum", "avg"]),
    ranks=st.sampled_from([1, 2, 3, 7, 64, 129, 250]),
    reverse=st.booleans(),
)
def test_a_sum_is_exact_in_its_own_type_in_any_order(dtype: torch.dtype, reduction: str, ranks: int, reverse: bool) -> None:
    exact = payload("all_reduce", dtype, ranks=ranks, count=300, reduction=reduction)
    assume(exact.exact)
    total = torch.zeros(300, dtype=dtype)
    for rank in sorted(range(ranks), reverse=reverse):
        total = total + exact.sent(rank)
    result = exact.received(0)
    assert result is not None
    assert torch.equal((total / ranks).double() if reduction == "avg" else total.double(), result.double())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_no_rank_can_be_missing_from_a_reduction_unnoticed(dtype: torch.dtype, reduction: str) -> None:
    inputs = payload("all_reduce", dtype, ranks=4, count=127, reduction=reduction)
    whole = inputs.received(0)
    assert whole is not None
    for missing in range(4):
        others = torch.stack([inputs.sent(rank).double() for rank in range(4) if rank != missing])
        less = {"sum": others.sum(0), "avg": others.sum(0) / 4, "min": others.amin(0), "max": others.amax(0)}[reduction]
        assert not torch.equal(less, whole.double())


def test_an_average_that_no_bfloat16_holds_exactly_is_not_checked() -> None:
    assert payload("all_reduce", torch.bfloat16, ranks=127, reduction="avg").exact
    assert not payload("all_reduce", torch.bfloat16, ranks=200, reduction="avg").exact


def test_each_collective_moves_what_its_definition_says() -> None:
    # Three ranks, two elements a share, inputs (i + 31 r) mod 127 + 1: rank 0 1 2 .., rank 1 32 33 .., rank 2 63 64 ..
    def got(op: str, rank: int) -> list[float] | None:
        result = payload(op, count=2).received(rank)
        return None if result is None else result.tolist()

    assert got("all_reduce", 2) == [96, 99]
    assert got("reduce", 1) == [96, 99]
    assert got("reduce", 0) is None
    assert got("reduce_scatter", 1) == [1 + 2 + 32 + 2 + 63 + 2, 99 + 6]
    assert got("all_gather", 0) == [1, 2, 32, 33, 63, 64]
    assert got("gather", 1) == [1, 2, 32, 33, 63, 64]
    assert got("gather", 2) is None
    assert got("all_to_all", 1) == [3, 4, 34, 35, 65, 66]
    assert got("broadcast", 0) == [32, 33]
    assert got("scatter", 2) == [36, 37]
    assert got("send_recv", 0) == [63, 64]


def test_sizes_and_bus_factors_are_nccl_tests() -> None:
    factors = {name: operation.bus_factor(4) for name, operation in OPERATIONS.items()}
    assert factors == {
        "all_reduce": 1.5,
        "reduce_scatter": 0.75,
        "all_gather": 0.75,
        "broadcast": 1,
        "reduce": 1,
        "all_to_all": 0.75,
        "gather": 0.75,
        "scatter": 0.75,
        "send_recv": 1,
        "barrier": 1,
    }
    assert OPERATIONS["all_reduce"].elements_per_rank(1024, 4, 4) == 256
    assert OPERATIONS["all_gather"].elements_per_rank(1024, 4, 4) == 64
    assert OPERATIONS["all_gather"].elements_per_rank(8, 4, 4) == 1
    assert OPERATIONS["all_gather"].message_bytes(64, 4, 4) == 1024


def test_types_have_torchs_and_nccl_tests_names() -> None:
    assert data_type_name("float") == data_type_name("float32") == "float32"
    assert data_type_name("half") == "float16"
    with pytest.raises(BadInput, match="not a data type"):
        data_type_name("fp7")


def test_gloos_gap_is_refused_and_nothing_else() -> None:
    with pytest.raises(BadInput, match="gloo has no avg of int32"):
        check_operation("all_reduce", "int32", "avg", "gloo")
    check_operation("all_reduce", "int32", "avg", "nccl")
    check_operation("all_gather", "int32", "avg", "gloo")
    check_operation("all_reduce", "bfloat16", "avg", "gloo")
