from random import Random

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


@settings(max_examples=40)
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


FLOATS = [dtype for dtype in DTYPES if dtype.is_floating_point]


@settings(max_examples=60)
@given(dtype=st.sampled_from(FLOATS), ranks=st.integers(1, 260), order=st.randoms(use_true_random=False))
def test_an_average_is_the_same_by_gloos_and_by_nccls_arithmetic(dtype: torch.dtype, ranks: int, order: Random) -> None:
    """NCCL multiplies every input by 1/n, rounded to the data type, and adds in an order of its own (PreMulSum)."""
    exact = payload("all_reduce", dtype, ranks=ranks, count=254, reduction="avg")
    assume(exact.exact)
    sent = [exact.sent(rank) for rank in order.sample(range(ranks), ranks)]
    nccl, gloo = torch.zeros(254, dtype=dtype), torch.zeros(254, dtype=dtype)
    for each in sent:
        nccl = nccl + each * torch.tensor(1 / ranks, dtype=dtype)
        gloo = gloo + each
    result = exact.received(0)
    assert result is not None
    assert torch.equal(nccl, result)
    assert torch.equal(gloo / ranks, result)
    assert result.double().std() > 0 or ranks % 127 == 0  # a shifted segment shows; 127 ranks go once round the pattern


@pytest.mark.parametrize(
    ("dtype", "ranks"),
    [(torch.float32, 7), (torch.float32, 14), (torch.float32, 56), (torch.float32, 120), (torch.float16, 13),
     (torch.bfloat16, 13), (torch.bfloat16, 15), (torch.float64, 48), (torch.int32, 7)],
)  # fmt: skip
def test_averages_over_odd_numbers_of_ranks_are_still_checked(dtype: torch.dtype, ranks: int) -> None:
    assert payload("all_reduce", dtype, ranks=ranks, reduction="avg").exact


@pytest.mark.parametrize(
    ("dtype", "ranks"), [(torch.float32, 41), (torch.float16, 11), (torch.float16, 22), (torch.float64, 49)]
)
def test_an_average_whose_share_is_rounded_is_not_checked(dtype: torch.dtype, ranks: int) -> None:
    assert not payload("all_reduce", dtype, ranks=ranks, reduction="avg").exact


# Of many ranks the least and the most at a position may well be somebody else's.
@pytest.mark.parametrize(("reduction", "ranks"), [*((name, 4) for name in REDUCTIONS), ("sum", 13), ("avg", 7), ("avg", 13)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rank_can_be_missing_from_a_reduction_unnoticed(dtype: torch.dtype, reduction: str, ranks: int) -> None:
    inputs = payload("all_reduce", dtype, ranks=ranks, count=127, reduction=reduction)
    whole = inputs.received(0)
    assert whole is not None
    for missing in range(ranks):
        others = torch.stack([inputs.sent(rank).double() for rank in range(ranks) if rank != missing])
        less = {"sum": others.sum(0), "avg": others.sum(0) / ranks, "min": others.amin(0), "max": others.amax(0)}[reduction]
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
